//! Tests of ffitrace as a whole.
