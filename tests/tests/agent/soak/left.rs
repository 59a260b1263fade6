//! What a soak leaves behind: nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ffitrace_tests::agent::Object;
use ffitrace_tests::process::wait_for;
use ffitrace_tests::{check, host};

use super::{Soak, Tally};
use crate::ground::LIMIT;

/// What the steady agent may grow by after it has warmed up, in KiB, and in mappings.
const GROWTH: (u64, usize) = (8 << 10, 200);

impl Soak<'_> {
    /// Looks at what is left.
    pub(super) fn settle(
        mut self,
        descriptors: usize,
        warm: (u64, usize),
        on_host: BTreeSet<Object>,
    ) -> Result<String> {
        self.steady.wait_for_sessions(0)?;
        self.steady.wait_for_descriptors(descriptors)?;
        check!(self.steady.links()? == 0, "attached without a session");
        let memory = self.steady.memory()?;
        self.objects.extend(self.steady.objects()?);
        let shaky = self.shaky.take().context("no agent")?;
        self.objects.extend(shaky.objects()?);
        let sockets = [self.steady.socket().to_owned(), self.shaky_socket.clone()];
        shaky.stop()?;
        let steady_log = self.steady.log()?;
        self.steady.stop()?;
        for socket in &sockets {
            check!(!socket.exists(), "{} is still there", socket.display());
        }
        let place = self.ground.place()?;
        wait_for("the end of all its processes", LIMIT, || {
            Ok(users_of(&place.program(), &sockets)?
                .is_empty()
                .then_some(()))
        })
        .with_context(|| format!("{:?}", users_of(&place.program(), &sockets)))?;

        // Others may use eBPF meanwhile, so it is looked for what was seen to be ours. The kernel
        // frees it a moment after its last user has gone.
        let mut left = BTreeSet::new();
        let gone = wait_for("nothing left in the kernel", LIMIT, || {
            left = host::bpf_objects()?
                .intersection(&self.objects)
                .copied()
                .collect();
            Ok(left.is_empty().then_some(()))
        });
        gone.with_context(|| format!("{left:?}; the log: {steady_log}"))?;
        let now = host::bpf_objects()?;
        let Tally {
            right,
            disturbed,
            killed,
            restarts,
            garbage,
        } = self.tally;
        check!(right > 0, "not one call was right");
        let report = format!(
            "{right} calls right, {disturbed} ended by the disturbance, {killed} kills of clients, \
             {restarts} restarts, {garbage} conversations of garbage; resident {} KiB after {} KiB, \
             mappings {} after {}; {} eBPF objects of ours seen, none left, on the host {} after {}",
            memory.0,
            warm.0,
            memory.1,
            warm.1,
            self.objects.len(),
            now.len(),
            on_host.len()
        );
        // Last, so that all else is known then.
        check!(
            memory.0 <= warm.0 + GROWTH.0 && memory.1 <= warm.1 + GROWTH.1,
            "the agent has grown, otherwise all is well: {report}"
        );
        Ok(report)
    }
}

/// Processes whose command line names one of these sockets, or that run `program` for one of them.
fn users_of(program: &Path, sockets: &[PathBuf]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let runs = fs::read_link(path.join("exe")).is_ok_and(|exe| exe == program);
        let Ok(words) = fs::read(path.join("cmdline")) else {
            continue;
        };
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        let ours = sockets
            .iter()
            .any(|socket| words.contains(&socket.display().to_string()));
        if ours && (runs || words.contains("agent")) {
            found.push(format!("{}: {words}", path.display()));
        }
    }
    Ok(found)
}
