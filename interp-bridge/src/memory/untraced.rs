//! What native code may have done where nobody looked.
//!
//! ```text
//!  arguments, exposed allocations ──► pointers in them ──► pointers in those ──► …
//!        all of these become exposed; the mutable ones become readable and wildcard throughout
//! ```
//!
//! Nothing reachable can be trusted after an untraced call, and nothing else can have changed:
//! native code reaches only what it was given, and what it finds in there. `init` stays as it
//! was, for nothing is *surely* initialised by such a call; see
//! [`Allocation::readable`](super::Allocation::readable).

use super::{AllocId, Memory};

impl Memory {
    /// Native code ran untraced, with pointers to `arguments`: anything exposed, and what is
    /// reachable from there, may have changed. To be called when the call has returned, or before
    /// it begins, or both. Costs time for all that is reachable.
    pub fn untraced_call(&mut self, arguments: &[AllocId]) {
        for id in arguments {
            // An argument that is freed or forgotten leads nowhere.
            let _ = self.expose(*id);
        }
        self.prune_exposed();
        // `expose` appends, so the list is the queue of a search in breadth.
        let mut next = 0;
        while let Some((slot, id)) = self.exposed.get(next).copied() {
            next += 1;
            self.may_have_changed(slot, id);
        }
    }

    /// Native code had an allocation, if that is live, and nobody saw what it did there: it may
    /// have written all of it, and knows where its pointers lead.
    pub(super) fn may_have_changed(&mut self, slot: usize, id: AllocId) {
        let record = self.records.get_mut(slot).and_then(Option::as_mut);
        let Some(record) = record.filter(|record| record.id() == id && record.is_live()) else {
            return;
        };
        let all = 0..record.size();
        let targets: Vec<AllocId> = record.targets(all.clone()).collect();
        if record.is_mutable() {
            record.make_wildcard(all);
        }
        for target in targets {
            // What was freed and forgotten has nothing to expose.
            let _ = self.expose(target);
        }
    }

    /// Native code ran: with `traced`, all that it did to the arena has been applied; else it is
    /// an [`untraced_call`](Self::untraced_call) with nothing more exposed. To be called whenever
    /// native code gives control back, at a callback as at the end of the call.
    pub fn native_ran(&mut self, traced: bool) {
        if traced {
            self.externals_may_have_changed();
        } else {
            self.untraced_call(&[]);
        }
    }

    /// The allocations that are live and exposed.
    pub fn exposed(&self) -> impl Iterator<Item = AllocId> + '_ {
        self.exposed
            .iter()
            .filter(|(slot, id)| self.is_live_at(*slot, *id))
            .map(|(_, id)| *id)
    }

    /// Drops freed allocations from the list of exposed ones, when they may be the most of it.
    pub(super) fn prune_exposed(&mut self) {
        let live = self.live.len() + self.external.live().len();
        if self.exposed.len() > 2 * live + 64 {
            let mut exposed = std::mem::take(&mut self.exposed);
            exposed.retain(|(slot, id)| self.is_live_at(*slot, *id));
            self.exposed = exposed;
        }
    }

    fn is_live_at(&self, slot: usize, id: AllocId) -> bool {
        self.records
            .get(slot)
            .and_then(Option::as_ref)
            .is_some_and(|record| record.id() == id && record.is_live())
    }
}
