//! Clients that want functions marked.
//!
//! # Safety
//! A file is mapped for reading, at an address that the kernel chooses, and never looked at.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};
use ffitrace_tests::check;
use ffitrace_tests::packets::{self, Client, refusal};
use serde_json::{Value, json};

use super::forger::{BASE, LENGTH};
use super::word;

/// A function to be marked.
#[inline(never)]
extern "C" fn marked(value: u64) -> u64 {
    std::hint::black_box(value) + 1
}

/// Offset of [`marked`] in this program's file.
fn marked_offset() -> Result<u64> {
    let address = marked as *const () as u64;
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    for line in maps.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let hex = |text: &str| u64::from_str_radix(text, 16);
        let (from, to) = fields[0].split_once('-').context("range")?;
        let (from, to) = (hex(from)?, hex(to)?);
        if (from..to).contains(&address) {
            return Ok(address - from + hex(fields[2])?);
        }
    }
    anyhow::bail!("own code is not mapped")
}

/// What this process has mapped, by the kernel's account, which goes with the wish for a mark.
pub(super) fn own_maps() -> io::Result<File> {
    File::open(format!("/proc/{}/maps", std::process::id()))
}

fn ask(client: &Client, message: &Value, files: &[&File]) -> Result<Value> {
    let files: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
    client.converse(message, &files)?.json()
}

/// Wants the function at this offset of the file marked.
fn ask_mark(client: &Client, offset: u64, name: &str, file: &File) -> Result<Value> {
    ask(client, &packets::probe(offset, name), &[file, &own_maps()?])
}

/// Asks for marks that are refused, and for one that is not. Words: socket, a library that this
/// program does not use, a file that this program may write.
pub(super) fn marks(words: &[String]) -> Result<()> {
    let library = File::open(word(words, 1)?)?;
    let program = File::open(std::env::current_exe()?)?;
    let client = Client::greet(Path::new(word(words, 0)?))?;
    let offset = marked_offset()?;

    let reply = ask_mark(&client, offset, "marked", &program)?;
    let (why, message) = refusal(&reply)?;
    check!(why == "protocol" && message.contains("open"), "{reply}");

    let files = client.open(BASE, LENGTH)?;
    foreign(&client, &library, &program, word(words, 2)?)?;
    // Code of its own, but nothing that can be marked.
    for offset in [u64::MAX, 1 << 62, program.metadata()?.len() + 4096] {
        let reply = ask_mark(&client, offset, "nowhere", &program)?;
        let (why, message) = refusal(&reply)?;
        check!(why == "host" && message.contains("nowhere"), "{reply}");
    }
    let reply = ask_mark(&client, offset, "marked", &program)?;
    check!(reply == "done", "{reply}");
    check!(marked(1) == 2, "the marked function does something else");
    check!(
        files.counters()?[2] == 1,
        "a call of the marked function: {:?}",
        files.counters()?
    );
    let reply = ask(&client, &json!("unprobe"), &[])?;
    check!(reply == "done", "{reply}");
    check!(marked(2) == 3, "the function does something else");
    check!(
        files.counters()?[2] == 1,
        "a call that was no longer marked: {:?}",
        files.counters()?
    );
    Ok(())
}

/// Files that are not this process's code, and accounts of its memory that are none.
fn foreign(client: &Client, library: &File, program: &File, scratch: &str) -> Result<()> {
    let name = "crc32_of_a_friend";
    let refused = |files: &[&File], words: &[&str]| -> Result<()> {
        let reply = ask(client, &packets::probe(0x1000, name), files)?;
        let (_, message) = refusal(&reply)?;
        let named = words.iter().all(|word| message.contains(word));
        check!(named, "{reply} does not name {words:?}");
        Ok(())
    };
    refused(&[], &["descriptor"])?;
    refused(&[program], &["descriptor"])?;
    refused(&[library, &own_maps()?], &[name, "mapped"])?;
    // Mapped, but not as code.
    // SAFETY: see the module.
    let mapped = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            0x4000,
            libc::PROT_READ,
            libc::MAP_PRIVATE,
            library.as_raw_fd(),
            0,
        )
    };
    check!(
        mapped != libc::MAP_FAILED,
        "no mapping: {}",
        io::Error::last_os_error()
    );
    refused(&[library, &own_maps()?], &[name, "mapped"])?;
    for file in ["/dev/null", "/proc/self/comm", "/"] {
        refused(&[&File::open(file)?, &own_maps()?], &[name])?;
    }
    // An account that says what is wanted, but is not the kernel's; and the kernel's of something else.
    let metadata = library.metadata()?;
    let device = metadata.dev();
    let line = format!(
        "10000-20000 r-xp 00000000 {:02x}:{:02x} {} /lib\n",
        libc::major(device),
        libc::minor(device),
        metadata.ino()
    );
    fs::write(scratch, line)?;
    for account in [scratch, "/proc/self/comm", "/dev/zero"] {
        refused(&[library, &File::open(account)?], &[name])?;
    }
    Ok(())
}

/// Asks for more marks than are allowed. Words: socket, how many are.
pub(super) fn limited(words: &[String]) -> Result<()> {
    let program = File::open(std::env::current_exe()?)?;
    let client = Client::greet(Path::new(word(words, 0)?))?;
    let allowed = super::number(words, 1)?;
    let offset = marked_offset()?;
    let _files = client.open(BASE, LENGTH)?;
    for _ in 0..2 {
        for number in 0..allowed {
            let reply = ask_mark(&client, offset, "marked", &program)?;
            check!(reply == "done", "mark {number}: {reply}");
        }
        let reply = ask_mark(&client, offset, "marked", &program)?;
        let (why, text) = refusal(&reply)?;
        check!(
            why == "limit" && text.contains("probes_per_session"),
            "{reply}"
        );
        // Then there is room again.
        let reply = ask(&client, &json!("unprobe"), &[])?;
        check!(reply == "done", "{reply}");
    }
    Ok(())
}
