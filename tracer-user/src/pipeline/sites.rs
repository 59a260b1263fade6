//! Decoded instructions by address, kept while their bytes are the same.

use std::collections::HashMap;

use tracer_ebpf::FaultRecord;

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
