//! Tests that run machine instructions: the decoder and the displaced copies against the processor
//! itself. A binary of their own, because they take over the process's signals.

mod copies;
mod hardware;
mod operands;
