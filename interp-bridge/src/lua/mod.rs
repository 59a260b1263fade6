//! Lua sessions: scripts that call native code through LuaJIT's FFI, all of it traced.
//!
//! ```text
//!  script ─► LuaJIT ─► ffi (prelude.lua) ─► Session ─► Bridge ─► native code
//!                      cdata: cdata.rs         │          └─► events ─► trace (trace.lua)
//!                                              ├─ types.rs     what a declaration means
//!                                              ├─ scalar.rs    values, converted; number.rs
//!                                              ├─ object.rs    arrays and structs, made
//!                                              ├─ index.rs     cdata[key]
//!                                              ├─ arith.rs     cdata + cdata
//!                                              ├─ place.rs     memory, read and written
//!                                              ├─ calls.rs     native calls
//!                                              └─ callbacks.rs native code calls Lua
//! ```
//! LuaJIT runs the script and parses C; its own FFI is not reachable for scripts. The memory of all
//! cdata is the bridge's abstract memory, so what a script reads is checked as what native code
//! touches is: live, inside, initialised.

mod api;
mod arith;
mod ask;
mod by_value;
mod bytes;
mod callbacks;
mod calls;
mod cdata;
mod complete;
mod failure;
mod findings;
mod frames;
mod index;
mod inspect;
mod libraries;
mod number;
mod object;
mod place;
mod scalar;
mod session;
mod start;
mod strings;
mod trace;
mod types;
mod values;

pub use calls::Surroundings;
use failure::LuaFailure;
pub use findings::Finding;
pub use session::SessionOptions;
pub use start::{Chunk, LuaSession, ScriptError, StartError, Summary};
