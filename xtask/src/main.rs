//! Development tasks of ffitrace.

fn main() {}
