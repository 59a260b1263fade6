//! The report as people read it: at most 80 columns, the answer first, the cost last.
//!
//! ```text
//!  head        the function, and what it returned
//!  buffers     what was read and written of each, as ranges and as a map
//!  violations  what was wrong, the first ten in full
//!  cost        accesses, time, and what was lost, if anything
//! ```

mod buffers;
mod cost;
mod violations;
mod wrap;

use std::io::{self, Write};

use super::model::{CallReport, Ret};
use super::theme::{Role, Theme};
use crate::ffi::RetValue;

pub(crate) use wrap::wrap;
use wrap::wrap_painted;

/// Columns of a line.
const WIDTH: usize = 80;
/// Writes the report.
///
/// # Errors
/// Those of `out`.
pub fn write(
    out: &mut dyn Write,
    report: &CallReport,
    theme: Theme,
    verbose: bool,
) -> io::Result<()> {
    let text = Text {
        report,
        theme,
        verbose,
    };
    let mut lines = text.head();
    if report.is_traced() {
        lines.extend(text.allocations());
    } else {
        lines.extend(text.untraced());
    }
    lines.extend(text.violations());
    lines.extend(text.cost());
    let mut whole = lines.join("\n");
    whole.push('\n');
    out.write_all(whole.as_bytes())?;
    out.flush()
}

struct Text<'r> {
    report: &'r CallReport,
    theme: Theme,
    verbose: bool,
}

impl Text<'_> {
    fn paint(&self, role: Role, text: &str) -> String {
        self.theme.paint(role, text)
    }

    fn head(&self) -> Vec<String> {
        let report = self.report;
        let mut lines = vec![format!(
            "{}  {}",
            self.paint(Role::Title, &report.function),
            self.paint(Role::Faint, &report.library)
        )];
        match &report.ret {
            Some(ret) => lines.extend(self.returned(ret)),
            None => lines.push(self.paint(Role::Bad, "did not return")),
        }
        lines
    }

    fn returned(&self, ret: &Ret) -> Vec<String> {
        if ret.value == RetValue::Void {
            return vec!["returned".into()];
        }
        let mut about = vec![ret.r#type.clone()];
        match &ret.value {
            RetValue::Int(v) if *v > 9 => about.push(format!("{v:#x}")),
            RetValue::Char(c) if (0x20..0x7f).contains(c) => {
                about.push(format!("'{}'", *c as u8 as char));
            }
            RetValue::Pointer(0) => about.push("null".into()),
            _ => {}
        }
        about.extend(ret.points_to.clone());
        about.extend(ret.constant.clone());
        let (value, about) = (ret.value.text(), format!("({})", about.join(", ")));
        if "returned ".len() + value.chars().count() + 1 + about.chars().count() <= WIDTH {
            let (value, about) = (
                self.paint(Role::Value, &value),
                self.paint(Role::Faint, &about),
            );
            return vec![format!("returned {value} {about}")];
        }
        let mut lines = vec![format!("returned {}", self.paint(Role::Faint, &about))];
        let wrapped = wrap(&value, WIDTH - 2, &[',']);
        lines.extend(
            wrapped
                .iter()
                .map(|line| format!("  {}", self.paint(Role::Value, line))),
        );
        lines
    }
}
