//! Decoded instructions by address, kept while their bytes are the same.

use std::collections::HashMap;

use bytemuck::Zeroable;
use tracer_ebpf::{FaultRecord, KnownFaultRecord, KnownSite, Regs};

use crate::{
    decode::{Decoded, Refusal},
    resume::{
        displace,
        safe::{self, Safe},
    },
};

/// An instruction that native code faulted at.
pub(super) struct CachedSite {
    bytes: [u8; 15],
    len: usize,
    /// How many bytes the last record had.
    read: u8,
    pub(super) decoded: Result<Decoded, Refusal>,
    /// Whether the resume engine has copies for this string instruction.
    pub(super) string_copies: bool,
}

/// The decoded instruction of a fault, from the cache while its bytes are the same.
pub(super) fn site<'a>(
    sites: &'a mut HashMap<u64, CachedSite>,
    ip: u64,
    fault: &FaultRecord,
) -> &'a CachedSite {
    let read = usize::from(fault.insn_len).min(fault.insn.len());
    let fresh = || {
        let mut bytes = fault.insn;
        let mut decoded = Decoded::parse(&bytes[..read], ip);
        if read < bytes.len() && matches!(decoded, Err(Refusal::Undecodable { .. })) {
            // The kernel does not wait for a page that has to be read in; here that is possible.
            let safe = Safe::promise();
            let got = safe::read_memory(safe, safe::process_id(safe), ip, &mut bytes);
            if bytes[..read] == fault.insn[..read] {
                decoded = Decoded::parse(&bytes[..got], ip);
            }
        }
        CachedSite {
            bytes,
            read: fault.insn_len,
            len: decoded.as_ref().map_or(read, Decoded::len),
            string_copies: decoded.as_ref().is_ok_and(displace::has_string_copies),
            decoded,
        }
    };
    let site = sites.entry(ip).or_insert_with(fresh);
    let same = site.len.min(read);
    if site.bytes[..same] != fault.insn[..same] {
        *site = fresh();
    }
    site
}

/// The whole record that one in short stands for: with the bytes of the last whole one at its
/// address, and no registers but those that count. None where they are not known.
pub(super) fn expand(
    sites: &HashMap<u64, CachedSite>,
    known: &KnownFaultRecord,
) -> Option<FaultRecord> {
    let site = sites.get(&known.ip)?;
    let registers = site.decoded.as_ref().ok()?.address_registers()?;
    if KnownSite::new(known.ip, registers)?.registers() != known.registers {
        return None;
    }
    let mut regs = Regs::zeroed();
    regs.rip = known.ip;
    for (number, value) in registers.into_iter().zip([known.base, known.index]) {
        if let Some(register) = regs.gpr.get_mut(usize::from(number)) {
            *register = value;
        }
    }
    Some(FaultRecord {
        header: known.header,
        addr: known.addr,
        error: known.error,
        depth: 0,
        insn_len: site.read,
        insn: site.bytes,
        regs,
    })
}
