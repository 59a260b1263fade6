//! Page faults: decoded at their site, checked against the fault, and turned into events.

use std::collections::VecDeque;

use tracer_ebpf::FaultRecord;

use super::{Pipeline, StringRule, direction, sites::site};
use crate::{
    access::{Access, EventSink, Refused, Source},
    decode::{Rep, WholeRep, runs_whole},
    resume::{frame::TRAP_FLAG, signals::ERROR_FETCH},
};

impl Pipeline {
    /// Decodes one fault. False where its aux record is not there yet.
    pub(super) fn fault(&mut self, fault: &FaultRecord, sink: &mut dyn EventSink) -> bool {
        let ip = fault.regs.rip;
        if fault.error & ERROR_FETCH != 0 {
            self.refuse(
                fault,
                "interpreter memory was executed as code".to_owned(),
                sink,
            );
            return true;
        }
        if self.rule == StringRule::Displaced && fault.regs.rflags & TRAP_FLAG != 0 {
            self.totals.stepping += 1;
            self.totals.delivered += 1;
            return true;
        }
        if self.copies.contains(&ip) {
            let what = "an access crosses the edge of the arena".to_owned();
            self.refuse(fault, what, sink);
            return true;
        }
        let site = site(&mut self.sites, ip, fault);
        let decoded = match &site.decoded {
            Ok(decoded) => decoded,
            Err(refusal) => {
                let what = refusal.to_string();
                self.refuse(fault, what, sink);
                return true;
            }
        };
        let aux = if decoded.needs_aux() {
            let key = (fault.header.tid, ip);
            match self.aux.get_mut(&key).and_then(VecDeque::pop_front) {
                Some(aux) => Some(aux),
                None => return false,
            }
        } else {
            None
        };
        let whole = self.rule == StringRule::Displaced
            && site.string_copies
            && decoded
                .string_op()
                .is_some_and(|op| runs_whole(&op, &fault.regs, &self.session) != WholeRep::No);
        let rep = if whole { Rep::Whole } else { Rep::Once };
        self.accesses.clear();
        match decoded.accesses(&fault.regs, aux.as_ref(), rep, &mut self.accesses) {
            // What the decoder says must account for what the processor did.
            Ok(()) if !decoded.explains(&fault.regs, aux.as_ref(), &self.accesses, fault.addr) => {
                let what = format!(
                    "`{}` does not account for the fault at {:#x}",
                    decoded.text(),
                    fault.addr
                );
                self.refuse(fault, what, sink);
            }
            Ok(()) => {
                for index in 0..self.accesses.len() {
                    let access = self.accesses[index];
                    if self.touches_arena(&access) {
                        let ip = self.original(ip);
                        self.event(access, fault.header.tid, ip, Source::Fault, sink);
                    }
                }
                self.deliver_one();
            }
            Err(refusal) => {
                let what = refusal.to_string();
                self.refuse(fault, what, sink);
            }
        }
        true
    }

    fn touches_arena(&self, access: &Access) -> bool {
        let last = access.addr.wrapping_add(access.len - 1);
        self.session.is_native(access.addr) || self.session.is_native(last)
    }

    /// Counts and reports a fault that no event can be told from.
    pub(super) fn refuse(&mut self, fault: &FaultRecord, what: String, sink: &mut dyn EventSink) {
        self.totals.rejected += 1;
        sink.refused(&Refused {
            tid: fault.header.tid,
            ip: self.original(fault.regs.rip),
            addr: fault.addr,
            kind: direction(fault.error),
            what,
        });
    }
}
