//! Placeholder, replaced by the first slice.
mod firmware; // every shipped module finds its firmware, or says why not
mod sbom; // package list and SPDX
fn main() {}
