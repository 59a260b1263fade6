//! Writing our entries into the slots of a library and of what came with it.
//!
//! A slot is written only if it holds what it should: the C library's function, or that of the
//! C++ one, or, where it is not bound yet, the object's own stub. A library that brings an
//! allocator of its own, or operators, goes on using them; the report of what is covered names it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::objects::{self, LoadedObject};
use super::patch::Writer;
use super::slots::{ObjectSlots, Slot, SlotKind, SlotsError};
use super::{Function, hooks, real};

/// Why calls cannot be interposed.
#[derive(Debug, thiserror::Error)]
pub enum InterposeError {
    /// The library is not loaded.
    #[error("{} is not loaded; load it first", .0.display())]
    NotLoaded(PathBuf),
    /// The library belongs to this program, whose own calls must not be seen.
    #[error("{} is part of this program itself, whose calls cannot be told from native code's", .0.display())]
    OwnLibrary(PathBuf),
    /// The file of a loaded object cannot be read.
    #[error(transparent)]
    Slots(#[from] SlotsError),
    /// Its slots cannot be written.
    #[error("cannot make the slots of {} writable: {source}", path.display())]
    Protect {
        /// The object.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// One native heap is watched at a time, for hooks belong to the process.
    #[error("the native heap is watched already in this process; end that first")]
    Busy,
}

/// Which calls are seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// The objects, and how many of their slots were written.
    pub objects: Vec<(PathBuf, usize)>,
    /// Slots that were left alone: object, function, and why.
    pub left_alone: Vec<(PathBuf, Function, &'static str)>,
    /// Objects that can load others by `dlopen`: calls of those are not seen.
    pub loaders: Vec<PathBuf>,
}

/// Slots that were written. They are put back when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Interposition {
    written: Vec<Written>,
    pub(super) coverage: Coverage,
}

#[derive(Debug)]
struct Written {
    writer: Writer,
    /// Address, what it held, our entry.
    slots: Vec<(u64, u64, u64)>,
}

impl Interposition {
    /// Writes the slots of the libraries and of what came with them, in the program whose objects
    /// are `all`.
    pub(super) fn write(
        libraries: &[&Path],
        all: &[LoadedObject],
    ) -> Result<Interposition, InterposeError> {
        real::find();
        let mut targets: Vec<(LoadedObject, ObjectSlots)> = Vec::new();
        for library in libraries {
            for object in covered(library, all)? {
                if targets.iter().all(|(known, _)| known.bias != object.bias) {
                    let slots = ObjectSlots::read(&object.path)?;
                    targets.push((object, slots));
                }
            }
        }
        // One replaced operator may rely on another.
        let own_operators = targets.iter().any(|(object, slots)| {
            !is_cpp_runtime(object) && slots.defines.iter().any(|f| f.is_operator())
        });
        let mut done = Interposition::default();
        for (object, slots) in &targets {
            if slots.loads_others {
                done.coverage.loaders.push(object.path.clone());
            }
            done.write_object(object, slots, own_operators, all)?;
        }
        Ok(done)
    }

    fn write_object(
        &mut self,
        object: &LoadedObject,
        found: &ObjectSlots,
        own_operators: bool,
        all: &[LoadedObject],
    ) -> Result<(), InterposeError> {
        let relro = found.relro.clone();
        let moved = |address: u64| address.wrapping_add(object.bias);
        let writer = Writer::new(relro.map(|range| moved(range.start)..moved(range.end)));
        // The C++ library calls its own operators through slots, so that they can be replaced.
        let replaceable = |f: &Function| f.is_operator() && is_cpp_runtime(object);
        let own = found.defines.iter().copied().filter(|f| !replaceable(f));
        let own: BTreeSet<Function> = own.collect();
        let mut written = Vec::new();
        let mut alone = BTreeSet::new();
        for slot in &found.slots {
            let address = moved(slot.address);
            let verdict = if own.contains(&slot.function) {
                Err("the object has one of its own")
            } else if own_operators && slot.function.is_operator() {
                Err("the library replaces operators of C++")
            } else {
                held(&writer, address, slot, object, all)
            };
            match verdict {
                Ok(original) => written.push((address, original, hooks::entry(slot.function))),
                Err(why) => {
                    alone.insert((slot.function, why));
                }
            }
        }
        let left = alone
            .into_iter()
            .map(|(f, why)| (object.path.clone(), f, why));
        self.coverage.left_alone.extend(left);
        self.coverage
            .objects
            .push((object.path.clone(), written.len()));
        let values: Vec<(u64, u64)> = written.iter().map(|(at, _, entry)| (*at, *entry)).collect();
        let result = write(&writer, &values);
        self.written.push(Written {
            writer,
            slots: written,
        });
        result.map_err(|source| InterposeError::Protect {
            path: object.path.clone(),
            source,
        })
    }
}

impl Drop for Interposition {
    fn drop(&mut self) {
        for Written { writer, slots } in &self.written {
            // What native code has changed since is its own.
            let ours: Vec<(u64, u64)> = slots
                .iter()
                .filter(|(at, _, entry)| read(writer, *at) == Some(*entry))
                .map(|(at, original, _)| (*at, *original))
                .collect();
            if let Err(error) = write(writer, &ours) {
                // The entries pass everything through.
                tracing::warn!("slots could not be put back: {error}");
            }
        }
    }
}

/// The library and what came with it.
fn covered(library: &Path, all: &[LoadedObject]) -> Result<Vec<LoadedObject>, InterposeError> {
    let found = objects::came_with(library, all);
    let wanted = library
        .canonicalize()
        .unwrap_or_else(|_| library.to_owned());
    if found.iter().any(|object| object.path == wanted) {
        Ok(found)
    } else if all.iter().any(|object| object.path == wanted) {
        Err(InterposeError::OwnLibrary(wanted))
    } else {
        Err(InterposeError::NotLoaded(wanted))
    }
}

/// What a slot holds, if it is what is to be replaced.
fn held(
    writer: &Writer,
    address: u64,
    slot: &Slot,
    object: &LoadedObject,
    all: &[LoadedObject],
) -> Result<u64, &'static str> {
    let current = read(writer, address).ok_or("the slot is not aligned")?;
    // Its stub, which would have the loader look it up at the first call.
    let unbound = slot.kind == SlotKind::JumpSlot && object.range.contains(&current);
    let target = if unbound {
        real::resolve(&object.path, slot.function).ok_or("nobody defines it")?
    } else {
        current
    };
    let known = if slot.function.is_operator() {
        let home = all.iter().find(|object| object.range.contains(&target));
        if !home.is_some_and(is_cpp_runtime) {
            return Err("it is bound to an operator that is not the C++ library's");
        }
        real::learn(slot.function, target)
    } else {
        real::address(slot.function) == target
    };
    if known {
        Ok(current)
    } else {
        Err("it is bound to a function that is not the C library's")
    }
}

fn is_cpp_runtime(object: &LoadedObject) -> bool {
    let name = object.name();
    ["libstdc++.so", "libc++.so", "libc++abi.so"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

#[allow(unsafe_code)]
fn read(writer: &Writer, slot: u64) -> Option<u64> {
    // SAFETY: an address from the relocations of a loaded object, moved by its bias, in one of
    // its writable segments.
    unsafe { writer.read(slot) }
}

#[allow(unsafe_code)]
fn write(writer: &Writer, slots: &[(u64, u64)]) -> std::io::Result<()> {
    // SAFETY: addresses as in `read`; the values are the entry for the function that the slot is
    // for, or what it held before.
    unsafe { writer.write(slots) }
}

#[cfg(test)]
#[allow(unsafe_code)]
mod tests {
    use libloading::os::unix::{Library, RTLD_LAZY, RTLD_NOW};

    use super::*;
    use crate::native::testing::Fixture;

    const SOURCE: &str = r#"
        #include <stdlib.h>
        #include <string.h>
        void *(*allocate)(size_t) = malloc;
        void (*const release[1])(void *) = { free };
        long run(void) {
            char *p = strdup("text"), *q = allocate(3);
            long len = strlen(p) + (q != NULL);
            release[0](p), free(q);
            return len;
        }
    "#;

    /// Rights of the mapping with an address, as `r--p`.
    fn rights(addr: u64) -> String {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
        let holds = |line: &&str| {
            let (range, _) = line.split_once(' ').expect("a range");
            let (start, end) = range.split_once('-').expect("a range");
            let number = |text| u64::from_str_radix(text, 16).expect("hexadecimal");
            (number(start)..number(end)).contains(&addr)
        };
        let line = maps.lines().find(holds).expect("mapped");
        line.split(' ').nth(1).expect("rights").to_owned()
    }

    fn contents(fixture: &Fixture) -> Vec<(Slot, u64, u64)> {
        let all = objects::loaded();
        let path = fixture.path.canonicalize().expect("a path");
        let object = all
            .iter()
            .find(|object| object.path == path)
            .expect("loaded");
        let found = ObjectSlots::read(&path).expect("slots");
        let writer = Writer::new(None);
        let hold = |slot: &Slot| {
            let address = slot.address + object.bias;
            (*slot, address, read(&writer, address).expect("aligned"))
        };
        found.slots.iter().map(hold).collect()
    }

    #[test]
    fn slots_are_written_and_put_back() {
        let variants: [(&[&str], i32); 3] = [
            (&["-O1", "-Wl,-z,lazy"], RTLD_LAZY),
            (&["-O1", "-Wl,-z,now,-z,relro"], RTLD_NOW),
            (&["-O1", "-Wl,-z,norelro"], RTLD_NOW),
        ];
        for (flags, binding) in variants {
            let fixture = Fixture::c("interposed", SOURCE, flags);
            // SAFETY: the fixture has no constructors.
            let library = unsafe { Library::open(Some(&fixture.path), binding) }.expect("loads");
            // SAFETY: its signature is that.
            let run = *unsafe { library.get::<unsafe extern "C" fn() -> i64>(b"run") }
                .expect("a function");
            let before = contents(&fixture);
            let rights_before: Vec<_> = before.iter().map(|(_, at, _)| rights(*at)).collect();
            let all = objects::loaded();
            let done = Interposition::write(&[&fixture.path], &all).expect("written");
            assert_eq!(done.coverage.objects.len(), 1);
            assert_eq!(done.coverage.objects[0].1, before.len(), "{flags:?}");
            assert_eq!(done.coverage.left_alone, []);
            for (slot, _, value) in contents(&fixture) {
                assert_eq!(value, hooks::entry(slot.function), "{flags:?} {slot:?}");
            }
            let now: Vec<_> = before.iter().map(|(_, at, _)| rights(*at)).collect();
            assert_eq!(now, rights_before, "{flags:?}");
            // Nobody watches: the calls pass through.
            // SAFETY: it takes nothing.
            assert_eq!(unsafe { run() }, 5);
            drop(done);
            assert_eq!(contents(&fixture), before, "{flags:?}");
            // SAFETY: as above.
            assert_eq!(unsafe { run() }, 5);
        }
    }

    #[test]
    fn allocators_of_their_own_are_left_alone() {
        let own = "#include <stdlib.h>\n\
            static char room[1 << 12]; static size_t used;\n\
            void *malloc(size_t n) { void *p = room + used; used += n + 15 & ~15; return p; }\n\
            void free(void *p) { (void)p; }\n\
            void *make(void) { free(malloc(3)); return calloc(1, 2); }\n";
        let fixture = Fixture::c("own_malloc", own, &["-O0", "-fno-builtin", "-w"]);
        // SAFETY: the fixture has no constructors.
        let library = unsafe { Library::open(Some(&fixture.path), RTLD_NOW) }.expect("loads");
        let done = Interposition::write(&[&fixture.path], &objects::loaded()).expect("written");
        let alone: Vec<Function> = done
            .coverage
            .left_alone
            .iter()
            .map(|(_, f, _)| *f)
            .collect();
        assert_eq!(alone, [Function::Malloc, Function::Free]);
        assert_eq!(done.coverage.objects[0].1, 1, "calloc alone");
        drop(done);
        drop(library);
    }

    #[test]
    fn the_programs_own_libraries_are_refused() {
        let all = objects::loaded();
        let libc = all
            .iter()
            .find(|object| object.name().starts_with("libc.so"));
        let path = libc.expect("the C library").path.clone();
        let refused = Interposition::write(&[&path], &all).expect_err("refused");
        assert!(
            matches!(refused, InterposeError::OwnLibrary(_)),
            "{refused}"
        );
    }
}
