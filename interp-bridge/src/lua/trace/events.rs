//! The events of a native call, kept for the script.

use std::{
    cell::{Cell, RefCell},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mlua::{Lua, Table};

use crate::{
    bridge::{Bridge, Observer},
    lua::failure::Done,
    memory::Memory,
};
use tracer_user::{
    access::{AccessEvent, Source},
    symbols::Symbols,
};

/// Most events of a call that are kept. More are counted.
const MAX_EVENTS: usize = 100_000;

/// What is recorded for the script, and for a file.
#[derive(Default)]
pub(in crate::lua) struct Recording {
    kept: Arc<Mutex<Kept>>,
    file: RefCell<Option<Box<dyn Observer<Memory>>>>,
    on: Cell<bool>,
    depth: Cell<u32>,
    symbols: RefCell<Option<Symbols>>,
}

#[derive(Default)]
struct Kept {
    events: Vec<Seen>,
    total: u64,
}

/// One event, with the allocation as it was called then.
struct Seen {
    event: AccessEvent,
    allocation: Option<String>,
    offset: Option<i64>,
}

/// Who gets the events.
struct Tee {
    kept: Arc<Mutex<Kept>>,
    file: Option<Box<dyn Observer<Memory>>>,
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Observer<Memory> for Tee {
    fn event(&mut self, event: &AccessEvent, memory: &Memory) {
        if let Some(file) = &mut self.file {
            file.event(event, memory);
        }
        let mut kept = lock(&self.kept);
        kept.total += 1;
        if kept.events.len() >= MAX_EVENTS {
            return;
        }
        let place = memory.locate(event.access.addr);
        let record = place.and_then(|place| memory.get(place.allocation));
        kept.events.push(Seen {
            event: *event,
            allocation: record.map(|record| match record.name() {
                Some(name) => name.to_owned(),
                None => record.label(),
            }),
            offset: place.map(|place| place.offset),
        });
    }
}

impl Recording {
    /// Sends all events to a file too.
    pub(in crate::lua) fn write_to(&self, bridge: &Bridge, file: Box<dyn Observer<Memory>>) {
        match self.on.get() {
            true => *self.file.borrow_mut() = Some(file),
            false => drop(bridge.observe(Some(file))),
        }
    }

    /// Keeps events from now on.
    pub(in crate::lua) fn begin(&self, bridge: &Bridge) {
        if self.on.replace(true) {
            return;
        }
        let file = bridge.observe(None);
        bridge.observe(Some(Box::new(Tee {
            kept: self.kept.clone(),
            file,
        })));
    }

    /// A native call begins. What is in the middle of another belongs to that.
    pub(in crate::lua) fn begin_call(&self) {
        let depth = self.depth.get();
        self.depth.set(depth + 1);
        if depth == 0 && self.on.get() {
            let mut kept = lock(&self.kept);
            kept.events.clear();
            kept.total = 0;
        }
    }

    /// It is over.
    pub(in crate::lua) fn end_call(&self) {
        self.depth.set(self.depth.get().saturating_sub(1));
    }

    /// The events as a table: those with a higher number than `after`, if it is given.
    pub(in crate::lua) fn to_lua(&self, lua: &Lua, after: Option<u64>) -> Done<Table> {
        let list = lua.create_table()?;
        let mut symbols = self.symbols.borrow_mut();
        let symbols = symbols.get_or_insert_with(Symbols::new);
        let kept = lock(&self.kept);
        for seen in &kept.events {
            let event = &seen.event;
            if after.is_some_and(|after| event.seq <= after) {
                continue;
            }
            let table = lua.create_table()?;
            table.raw_set("kind", event.access.kind.to_string())?;
            table.raw_set("certain", event.access.certain)?;
            table.raw_set("addr", event.access.addr as f64)?;
            table.raw_set("size", event.access.len)?;
            table.raw_set("allocation", seen.allocation.as_deref())?;
            table.raw_set("offset", seen.offset)?;
            let symbol = symbols.lookup(event.ip);
            if symbol.module.is_some() {
                table.raw_set("symbol", symbol.to_string())?;
            }
            table.raw_set("source", source_name(event.source))?;
            table.raw_set("seq", event.seq)?;
            list.raw_push(table)?;
        }
        list.raw_set("total", kept.total)?;
        Ok(list)
    }
}

/// As in `--events`.
fn source_name(source: Source) -> &'static str {
    match source {
        Source::Fault => "fault",
        Source::Translated => "translated",
        Source::Syscall => "syscall",
        Source::Callback => "callback",
    }
}
