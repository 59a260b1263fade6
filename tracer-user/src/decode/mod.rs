//! From instruction bytes and registers to accesses: a pure function.
