//! The image in virtual machines. Needs root, the tools tree and an image; `ci/vm` makes and runs all of it.
