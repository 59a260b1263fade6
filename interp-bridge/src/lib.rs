//! The interpreter bridge of ffitrace.
