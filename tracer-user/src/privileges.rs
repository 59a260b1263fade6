//! Giving privileges up, for good.
//!
//! ```text
//!  started by root, sudo, doas, pkexec, or from a file with capabilities
//!    privileged()?            anything to give up
//!    Identity                 who the process is to be: identity.rs
//!    drop_to(identity)        becomes that, without a capability, and proves it: dropping.rs
//!  what stays privileged
//!    confine(read, write)     keeps to these files: confinement.rs
//! ```
//!
//! A process that runs a library which nobody has looked at should have no more rights than the
//! person who asked for it. Recording with eBPF takes more, so a small process keeps those, and
//! everything else goes on without. What is here knows nothing of either; it changes the process
//! that calls it.

mod confinement;
mod dropping;
mod identity;

use rustix::thread::capabilities;

pub use confinement::{Confinement, confine};
pub use dropping::{DropError, drop_to};
pub use identity::{Identity, IdentityError, Origin};

/// Whether this process has rights that the user who started it does not have: capabilities, or
/// another user's or group's id. Where that cannot be found out, it has.
pub fn privileged() -> bool {
    let ids = nix::unistd::getresuid().is_ok_and(|ids| {
        let groups = nix::unistd::getresgid();
        let groups =
            groups.is_ok_and(|ids| ids.real == ids.effective && ids.effective == ids.saved);
        groups && ids.real == ids.effective && ids.effective == ids.saved
    });
    let none = capabilities(None).is_ok_and(|sets| sets.permitted.is_empty());
    !ids || !none
}
