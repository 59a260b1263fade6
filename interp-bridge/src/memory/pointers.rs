//! Pointers in memory, what is exposed, and where a pointer leads.
//!
//! Native code knows nothing of provenance. What it is given or reads becomes **exposed**; what
//! it returns or writes is a **wildcard**, which leads to whatever live, exposed allocation is at
//! its address.

use super::{
    AllocId, Allocation, ByteProvenance, Memory, MemoryError, POINTER_SIZE, Pointer, PointerError,
    Provenance,
};

impl Memory {
    /// Writes a pointer of eight bytes at `offset`, with its provenance.
    ///
    /// # Errors
    ///
    /// As [`write_bytes`](Self::write_bytes).
    pub fn write_pointer(
        &mut self,
        id: AllocId,
        offset: u64,
        pointer: Pointer,
    ) -> Result<(), MemoryError> {
        let range = offset..offset.saturating_add(POINTER_SIZE);
        self.checked(id, &range)?;
        self.store(id, offset, &pointer.addr.to_le_bytes())?;
        self.change(id, |record| match pointer.provenance {
            Provenance::Alloc(target) => record.make_pointer(offset, target),
            Provenance::None => record.make_plain(range),
            Provenance::Wildcard => {
                record.make_plain(range.clone());
                record.make_wildcard(range);
            }
        })
    }

    /// Reads the eight bytes at `offset` as a pointer. It belongs to an allocation if all its
    /// bytes are, in order, those of a pointer to it; bytes that native code wrote fit any. It is
    /// a number if one of its bytes is plain, or they are bytes of different pointers.
    ///
    /// # Errors
    ///
    /// As [`read_init`](Self::read_init).
    pub fn read_pointer(&self, id: AllocId, offset: u64) -> Result<Pointer, MemoryError> {
        let range = offset..offset.saturating_add(POINTER_SIZE);
        let bytes = self.read_init(id, range.clone())?;
        let mut addr = [0; POINTER_SIZE as usize];
        addr.copy_from_slice(&bytes);
        let record = self.checked(id, &range)?;
        Ok(Pointer {
            addr: u64::from_le_bytes(addr),
            provenance: provenance_at(record, offset),
        })
    }

    /// A pointer to a byte of an allocation, in the native view. The offset may lead out of it.
    ///
    /// Without a recorder native code can only use the host view: what it is to find in memory is
    /// then a pointer with the address that [`Bridge::address`](crate::bridge::Bridge::address)
    /// gives, and this provenance.
    ///
    /// # Errors
    ///
    /// [`MemoryError::Unknown`].
    pub fn pointer(&self, id: AllocId, offset: u64) -> Result<Pointer, MemoryError> {
        let record = self.get(id).ok_or(MemoryError::Unknown(id))?;
        Ok(Pointer::to(id, record.base().wrapping_add(offset)))
    }

    /// Takes down that native code, or the program by a cast to a number, may know the address
    /// of an allocation. What is passed to native code as an argument is to be exposed before the
    /// call. A freed allocation stays as it is.
    ///
    /// # Errors
    ///
    /// [`MemoryError::Unknown`].
    pub fn expose(&mut self, id: AllocId) -> Result<(), MemoryError> {
        let slot = *self.ids.get(&id).ok_or(MemoryError::Unknown(id))?;
        if let Some(record) = self.records[slot].as_mut()
            && record.is_live()
            && !record.exposed
        {
            record.exposed = true;
            self.exposed.push((slot, id));
        }
        Ok(())
    }

    /// Exposes what a pointer that is passed to native code belongs to, if anything.
    pub fn expose_pointer(&mut self, pointer: Pointer) {
        if let Provenance::Alloc(id) = pointer.provenance {
            // An allocation that was forgotten has nothing to expose.
            let _ = self.expose(id);
        }
    }

    /// The pointer that the program gets for a number that it takes for an address: a wildcard,
    /// if a live, exposed allocation has that byte, or ends there.
    ///
    /// # Errors
    ///
    /// [`PointerError::Dangling`].
    pub fn with_exposed_provenance(&self, addr: u64) -> Result<Pointer, PointerError> {
        let pointer = Pointer::from_native(addr);
        self.resolve(pointer, 1)
            .or_else(|error| self.resolve(pointer, 0).map_err(|_| error))?;
        Ok(pointer)
    }

    /// Where `size` bytes at a pointer are: allocation and offset. The address may be one of
    /// either view. Whether they may be written or are initialised is another question.
    ///
    /// With `size` 0, the end of an allocation will do.
    ///
    /// # Errors
    ///
    /// Why the pointer may not be used so.
    pub fn resolve(&self, pointer: Pointer, size: u64) -> Result<(AllocId, u64), PointerError> {
        let addr = pointer.addr;
        let native = self.arena.to_native(addr).unwrap_or(addr);
        match pointer.provenance {
            Provenance::None => Err(PointerError::NoProvenance { addr }),
            Provenance::Alloc(id) => {
                let dangling = || PointerError::Dangling {
                    addr,
                    size,
                    hint: format!("; allocation {id}, which it was for, was freed and forgotten"),
                };
                let record = self.get(id).ok_or_else(dangling)?;
                if let Some(freer) = record.freed() {
                    return Err(PointerError::Freed {
                        addr,
                        allocation: record.title(),
                        freer,
                    });
                }
                let offset = native.wrapping_sub(record.base());
                if holds(record, native, size) {
                    return Ok((id, offset));
                }
                Err(PointerError::OutOfBounds {
                    allocation: record.title(),
                    offset: offset as i64,
                    size,
                })
            }
            Provenance::Wildcard => {
                let candidates = self.live_around(native);
                let fits = |record: &&Allocation| holds(record, native, size);
                if let Some(record) = candidates.clone().filter(fits).find(|r| r.is_exposed()) {
                    return Ok((record.id(), native - record.base()));
                }
                let mut fitting = candidates.filter(fits);
                let hint = match (fitting.next(), self.locate(addr)) {
                    (Some(hidden), _) => format!(
                        "; {} is there, but its address was never given away",
                        hidden.title()
                    ),
                    (None, Some(place)) => match self.get(place.allocation) {
                        Some(near) if !near.is_live() => {
                            let freer = near.freed().map(|freer| freer.to_string());
                            let title = near.title();
                            format!("; {title} was freed{}", freer.unwrap_or_default())
                        }
                        Some(near) => {
                            format!("; it is offset {} of {}", place.offset, near.title())
                        }
                        None => String::new(),
                    },
                    (None, None) => String::new(),
                };
                Err(PointerError::Dangling { addr, size, hint })
            }
        }
    }

    /// Live allocations that hold the byte at an address, or end there.
    fn live_around(&self, addr: u64) -> impl Iterator<Item = &Allocation> + Clone {
        // Allocations do not overlap, but those without bytes may lie at another's end.
        let arena = self.live.range(..=addr).rev().take(2);
        let external = self.external.live().range(..=addr).rev().take(2);
        arena
            .chain(external)
            .filter_map(|(_, slot)| self.records[*slot].as_ref())
            .filter(move |record| addr <= record.end())
    }
}

/// Whether `size` bytes at `addr` lie in an allocation.
fn holds(record: &Allocation, addr: u64, size: u64) -> bool {
    let offset = addr.wrapping_sub(record.base());
    offset <= record.size() && size <= record.size() - offset
}

/// What the eight bytes at `offset` may reach as a pointer.
fn provenance_at(record: &Allocation, offset: u64) -> Provenance {
    if let Some(id) = record.whole_pointer(offset) {
        return Provenance::Alloc(id);
    }
    let mut found = Provenance::Wildcard;
    for place in 0..POINTER_SIZE {
        match record.byte_provenance(offset + place) {
            ByteProvenance::None => return Provenance::None,
            ByteProvenance::Wildcard => {}
            ByteProvenance::Pointer { id, index } => {
                let fits = found == Provenance::Wildcard || found == Provenance::Alloc(id);
                if !fits || u64::from(index) != place {
                    return Provenance::None;
                }
                found = Provenance::Alloc(id);
            }
        }
    }
    found
}
