//! The records of allocations: found by id, made, and forgotten.

use std::ops::Range;

use super::{AllocId, Allocation, Memory, MemoryError, Slot};

impl Memory {
    /// Where the record of a live allocation is.
    pub(super) fn live_slot(&self, id: AllocId) -> Result<Slot, MemoryError> {
        let slot = *self.ids.get(&id).ok_or(MemoryError::Unknown(id))?;
        match &self.records[slot] {
            Some(record) => match record.freed() {
                None => Ok(slot),
                Some(freer) => Err(MemoryError::Freed {
                    allocation: record.title(),
                    freer,
                }),
            },
            None => Err(MemoryError::Unknown(id)),
        }
    }

    /// The record of a live allocation that has the offsets `range`.
    pub(super) fn checked(
        &self,
        id: AllocId,
        range: &Range<u64>,
    ) -> Result<&Allocation, MemoryError> {
        let slot = self.live_slot(id)?;
        let record = self.records[slot]
            .as_ref()
            .ok_or(MemoryError::Unknown(id))?;
        if range.start > range.end || range.end > record.size() {
            let allocation = record.title();
            return Err(MemoryError::Range {
                allocation,
                range: range.clone(),
            });
        }
        Ok(record)
    }

    /// Drops the records of freed allocations whose memory may now be reused.
    pub(super) fn forget_released(&mut self) {
        if !self.arena.has_released() {
            return;
        }
        let bases: Vec<u64> = self.arena.released().collect();
        for base in bases {
            if let Some(slot) = self.freed.remove(&base) {
                self.forget(slot);
            }
        }
    }

    /// Gives a new allocation its id and a place.
    pub(super) fn record_new(
        &mut self,
        make: impl FnOnce(AllocId) -> Allocation,
    ) -> (AllocId, Slot) {
        let id = AllocId(self.next_id);
        self.next_id += 1;
        let record = make(id);
        let slot = match self.vacant.pop() {
            Some(slot) => {
                self.records[slot] = Some(record);
                slot
            }
            None => {
                self.records.push(Some(record));
                self.records.len() - 1
            }
        };
        self.ids.insert(id, slot);
        (id, slot)
    }

    /// Drops the record of a freed allocation.
    pub(super) fn forget(&mut self, slot: Slot) {
        if let Some(record) = self.records[slot].take() {
            self.ids.remove(&record.id);
            self.vacant.push(slot);
        }
    }
}
