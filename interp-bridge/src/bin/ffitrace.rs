//! The command line of ffitrace.

fn main() {}
