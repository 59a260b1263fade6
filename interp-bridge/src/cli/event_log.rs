//! The events of a call on their way to the file of `--events`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tracer_user::{access::AccessEvent, symbols::Symbols};

use crate::{
    bridge::Observer,
    memory::Memory,
    report::{
        Hex,
        events::{EventLine, EventsWriter},
    },
};

/// Writes events to the file of `--events`.
pub(super) struct EventLog {
    pub(super) writer: EventsWriter,
    symbols: Symbols,
    names: HashMap<u64, Option<String>>,
}

impl EventLog {
    pub(super) fn new(writer: EventsWriter) -> EventLog {
        EventLog {
            writer,
            symbols: Symbols::new(),
            names: HashMap::new(),
        }
    }
}

impl Observer for Arc<Mutex<EventLog>> {
    fn event(&mut self, event: &AccessEvent, memory: &Memory) {
        let mut log = self.lock().unwrap_or_else(PoisonError::into_inner);
        let EventLog {
            writer,
            symbols,
            names,
        } = &mut *log;
        let symbol = names.entry(event.ip).or_insert_with(|| {
            let symbol = symbols.lookup(event.ip);
            symbol.module.is_some().then(|| symbol.to_string())
        });
        let place = memory.locate(event.access.addr);
        let allocation = place.and_then(|place| memory.get(place.allocation));
        let label = allocation.and_then(|allocation| allocation.name().map(str::to_owned));
        writer.write(&EventLine {
            seq: event.seq,
            tid: event.tid,
            kind: event.access.kind,
            certain: event.access.certain,
            addr: Hex(event.access.addr),
            size: event.access.len,
            allocation: label.as_deref(),
            offset: place.map(|place| place.offset),
            ip: Hex(event.ip),
            symbol: symbol.as_deref(),
            source: event.source,
        });
    }
}
