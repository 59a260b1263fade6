//! The record that completes a fault: state of the thread that its page fault does not show.

use tracer_ebpf::{AuxRecord, DELTA, RecordHeader, Regs, Session};

use super::{
    safe::{self, Safe},
    xstate::XState,
};
use crate::decode::{Needs, Source};

/// A stopped thread, as the handler or a supervisor sees it.
#[derive(Clone, Copy, Debug)]
pub struct Stopped<'a> {
    /// Process that it belongs to.
    pub process: i32,
    /// General registers.
    pub regs: &'a Regs,
    /// Vector registers.
    pub state: XState<'a>,
    /// Bases of fs and gs, as far as they are needed.
    pub bases: (u64, u64),
}

impl Stopped<'_> {
    /// The record of what is needed. Memory in the native view is read through the host view.
    pub fn record(
        &self,
        safe: Safe,
        header: RecordHeader,
        needs: &Needs,
        session: Session,
    ) -> AuxRecord {
        let mut aux = AuxRecord {
            header,
            ip: self.regs.rip,
            fs_base: self.bases.0,
            gs_base: self.bases.1,
            masks: if needs.masks {
                self.state.masks()
            } else {
                [0; 8]
            },
            vectors: [[0; 64]; 2],
        };
        for place in 0..needs.vectors.len() {
            aux.vectors[place] = match needs.vectors[place] {
                Source::None => [0; 64],
                Source::Vector(number) => self.state.vector(usize::from(number)),
                Source::Mmx(number) => self.state.mmx(usize::from(number)),
                Source::Tiles => self.state.tiles(),
                Source::Memory(at) => {
                    let mut bytes = [0xff; 64];
                    if let Some(addr) = at.resolve(self.regs, Some(&aux)) {
                        let native = session.is_native(addr);
                        let from = if native {
                            addr.wrapping_add(DELTA)
                        } else {
                            addr
                        };
                        let got = safe::read_memory(safe, self.process, from, &mut bytes);
                        bytes[got..].fill(0xff);
                    }
                    bytes
                }
            };
        }
        aux
    }
}
