//! ffitrace's recorders: from native memory accesses to access events.

pub mod access;
pub mod decode;
