//! What people and scripts are told about a call.
//!
//! ```text
//!  engine ──► CallReport (model.rs) ──┬─► json.rs    one object on stdout
//!                                     └─► text.rs    80 columns, with byte maps (map.rs)
//!  engine ──► events.rs               one line for each access, while the call runs
//! ```

pub mod bench;
pub mod doctor;
pub mod events;
pub mod heap;
pub mod json;
pub(crate) mod map;
pub mod model;
mod ranges;
pub mod session;
pub mod text;
mod theme;
pub(crate) mod units;

#[cfg(test)]
mod tests;

pub use model::{Allocation, CallReport, Hex, Ret, Span, Stats, Stepped, Violation, ViolationKind};
pub(crate) use text::wrap;
pub use theme::Theme;
pub(crate) use units::{count as counted, grouped as count, rate};
