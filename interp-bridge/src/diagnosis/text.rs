//! A diagnosis for people:
//!
//! ```text
//! out_of_bounds: write of 4 bytes at offset 44 of `buf`: 0 bytes past its end
//!   at           w_oob+0x4 (w.c:12)
//!   called from  outer+0x10 (w.c:20)
//!   instruction  mov [rdi+2Ch],eax
//!   allocation   `buf` (number 3): 44 bytes at 0x100000040
//!   thread       4711, event 12, seen 5 times
//!   call         w_oob
//!   interpreter  main.rs:7 in f
//!                main.rs:2 in main
//! ```

use std::fmt;

use super::Diagnosis;
use crate::report::wrap;

/// Columns.
const WIDTH: usize = 80;
/// Column at which what a head announces begins.
const INDENT: usize = 15;

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = format!("{}: {}", self.kind, self.message);
        for (index, line) in wrap(&title, WIDTH - 2, &[' ']).iter().enumerate() {
            if index > 0 {
                f.write_str("\n  ")?;
            }
            f.write_str(line)?;
        }
        for (index, frame) in self.backtrace.iter().enumerate() {
            let head = match index {
                0 => "at",
                1 => "called from",
                _ => "",
            };
            entry(f, head, &frame.to_string())?;
        }
        if let Some(instruction) = &self.instruction {
            entry(f, "instruction", instruction)?;
        }
        if let Some(note) = &self.allocation {
            let (number, base) = (note.id.number(), note.base);
            let name = match &note.name {
                Some(name) => format!("`{name}` (number {number})"),
                None => format!("number {number}"),
            };
            let size = note.size.map_or("no longer known".to_owned(), |size| {
                let plural = if size == 1 { "" } else { "s" };
                format!("{} byte{plural} at {base:#x}", crate::report::count(size))
            });
            entry(f, "allocation", &format!("{name}: {size}"))?;
        }
        let mut thread = self.thread.to_string();
        if let Some(seq) = self.seq {
            thread += &format!(", event {seq}");
        }
        if self.count > 1 {
            thread += &format!(", seen {} times", self.count);
        }
        entry(f, "thread", &thread)?;
        if let Some(function) = &self.function {
            entry(f, "call", function)?;
        }
        for (index, frame) in self.interpreter_stack.iter().enumerate() {
            entry(f, if index == 0 { "interpreter" } else { "" }, frame)?;
        }
        Ok(())
    }
}

/// One line below the title, or more where it is long.
fn entry(f: &mut fmt::Formatter<'_>, head: &str, text: &str) -> fmt::Result {
    for (index, line) in wrap(text, WIDTH - INDENT, &[' ']).iter().enumerate() {
        let head = if index == 0 { head } else { "" };
        write!(f, "\n  {head:<width$}{line}", width = INDENT - 2)?;
    }
    Ok(())
}
