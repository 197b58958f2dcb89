//! Ring b: the loop against a fake host that keeps a small world, under paused time.
