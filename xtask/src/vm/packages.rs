//! What the machine is made of: an emulator, a kernel, and the programs of a small system.
//!
//! The emulator has to be installed. Kernel and busybox are only unpacked, into a directory of ours.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};

use crate::apt;
use crate::test::command::capture;

/// The emulator, and Debian's package of it.
const QEMU: (&str, &str) = ("qemu-system-x86_64", "qemu-system-x86");

/// Debian's kernel packages, as a pattern for `apt-cache search`. The cloud kernels have all that is
/// needed built in, and none of the drivers that they would otherwise carry; the unsigned packages
/// hold the kernel itself.
const KERNELS: &str = r"^linux-image-6\.1\.0-[0-9]+-cloud-amd64-unsigned$";

/// Debian's package of a busybox that needs no libraries.
const BUSYBOX: &str = "busybox-static";

/// All that is needed, by path.
#[derive(Debug)]
pub(super) struct Packages {
    pub(super) qemu: PathBuf,
    pub(super) kernel: PathBuf,
    pub(super) busybox: PathBuf,
}

/// Why something cannot be had.
#[derive(Debug)]
pub(super) enum Lack {
    /// It is not here, or could not be fetched.
    Missing(String),
    /// This distribution does not have it.
    Unknown(String),
}

/// Finds what is needed, and gets it where it may; or why it cannot be had.
///
/// # Errors
/// Fails if `kernel` is given and is no file, or if an installation fails.
pub(super) fn find(
    cache: &Path,
    kernel: Option<&Path>,
    install: bool,
) -> Result<Result<Packages, Lack>> {
    let (program, package) = QEMU;
    if on_path(program).is_none() && install {
        apt::install(&[package])?;
    }
    let Some(qemu) = on_path(program) else {
        return Ok(Err(Lack::Missing(format!(
            "there is no {program} on PATH (package {package}; --install gets it)"
        ))));
    };
    let kernel = match kernel {
        Some(path) if path.is_file() => path.to_owned(),
        Some(path) => bail!("--kernel {}: no such file", path.display()),
        None => match debian_kernel(cache, install)? {
            Ok(path) => path,
            Err(lack) => return Ok(Err(lack)),
        },
    };
    let busybox = match static_busybox(cache)? {
        Ok(path) => path,
        Err(lack) => return Ok(Err(lack)),
    };
    Ok(Ok(Packages {
        qemu,
        kernel,
        busybox,
    }))
}

/// The newest of Debian's 6.1 kernels: of those in the lists, else of those unpacked earlier.
fn debian_kernel(cache: &Path, install: bool) -> Result<Result<PathBuf, Lack>> {
    let mut newest = newest_kernel();
    let mut got = newest.as_deref().map(|name| unpacked(cache, name));
    // Without lists there is no name, and by lists that are old a package that is gone. Where they
    // cannot be fetched either, apt has said so, and a kernel from earlier will do.
    if install && !matches!(got, Some(Ok(_))) && apt::update().is_ok() {
        newest = newest_kernel();
        got = newest.as_deref().map(|name| unpacked(cache, name));
    }
    let lack = match got {
        Some(Ok(directory)) => return kernel_image(&directory).map(Ok),
        Some(Err(error)) => Lack::Missing(format!("{error:#}")),
        None => Lack::Unknown(
            "apt knows no linux-image-6.1.0-*-cloud-amd64-unsigned (Debian 12 has it; --install \
             fetches the lists, --kernel PATH takes another kernel)"
                .to_owned(),
        ),
    };
    Ok(match earlier_kernel(cache)? {
        Some(directory) => kernel_image(&directory).map(Ok)?,
        None => Err(lack),
    })
}

/// The name of the newest kernel package that apt knows.
fn newest_kernel() -> Option<String> {
    let found = capture(Command::new("apt-cache").args(["search", "--names-only", KERNELS]))?;
    let names = found
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    names
        .max_by_key(|name| build_number(name))
        .map(str::to_owned)
}

/// 57 of `linux-image-6.1.0-57-cloud-amd64-unsigned`.
fn build_number(package: &str) -> u32 {
    let number = package
        .strip_prefix("linux-image-6.1.0-")
        .and_then(|rest| rest.split('-').next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The newest kernel package that was unpacked earlier.
fn earlier_kernel(cache: &Path) -> Result<Option<PathBuf>> {
    let entries = std::fs::read_dir(cache).with_context(|| cache.display().to_string())?;
    let number = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        build_number(&name)
    };
    let unpacked = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_none_or(|extension| extension != "part"));
    Ok(unpacked
        .max_by_key(number)
        .filter(|newest| number(newest) > 0))
}

/// The kernel's image in its unpacked package.
fn kernel_image(package: &Path) -> Result<PathBuf> {
    let boot = package.join("boot");
    let entries = std::fs::read_dir(&boot).with_context(|| boot.display().to_string())?;
    let is_image = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with("vmlinuz")
    };
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(is_image)
        .with_context(|| {
            format!(
                "there is no vmlinuz in {}; remove that directory to have it unpacked again",
                boot.display()
            )
        })
}

/// A busybox that needs no libraries: this machine's, or one unpacked for us.
fn static_busybox(cache: &Path) -> Result<Result<PathBuf, Lack>> {
    if let Some(path) = on_path("busybox")
        && is_static(&path)
    {
        return Ok(Ok(path));
    }
    let directory = match unpacked(cache, BUSYBOX) {
        Ok(directory) => directory,
        Err(error) => return Ok(Err(Lack::Missing(format!("no busybox: {error:#}")))),
    };
    let found = ["bin/busybox", "usr/bin/busybox"]
        .into_iter()
        .map(|name| directory.join(name))
        .find(|path| path.is_file());
    found.map(Ok).with_context(|| {
        format!(
            "there is no busybox in {}; remove that directory to have it unpacked again",
            directory.display()
        )
    })
}

/// Whether a program runs without a loader.
fn is_static(program: &Path) -> bool {
    let Ok(bytes) = std::fs::read(program) else {
        return false;
    };
    let Ok(file) = ElfFile64::<object::Endianness>::parse(&*bytes) else {
        return false;
    };
    let endian = file.endian();
    let headers = file.elf_header().program_headers(endian, &*bytes);
    headers.is_ok_and(|headers| {
        headers
            .iter()
            .all(|header| header.p_type(endian) != object::elf::PT_INTERP)
    })
}

/// The directory that a package is unpacked into: now, unless it was before.
fn unpacked(cache: &Path, package: &str) -> Result<PathBuf> {
    let directory = cache.join(package);
    if !directory.is_dir() {
        apt::unpack(package, &directory)
            .with_context(|| format!("the package {package} cannot be fetched"))?;
    }
    Ok(directory)
}

/// Where on `PATH` a program is.
pub(super) fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}
