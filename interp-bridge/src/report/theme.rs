//! How to show text: colours and characters that the place it goes to can take.

use std::io::IsTerminal;

use anstyle::{AnsiColor, Style};

/// What the output takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    /// Whether to write colours.
    pub color: bool,
    /// Whether to write more than ASCII.
    pub unicode: bool,
}

/// What a piece of text is, which decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Title,
    Value,
    Faint,
    Read,
    Write,
    Both,
    Unset,
    Bad,
    Good,
}

impl Theme {
    /// No colour, ASCII only.
    pub const PLAIN: Theme = Theme {
        color: false,
        unicode: false,
    };

    /// What suits `stream`, by `NO_COLOR`, `TERM` and the locale.
    pub fn of(stream: &impl IsTerminal) -> Theme {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_none_or(|term| term == "dumb");
        let color = stream.is_terminal() && set("NO_COLOR").is_none() && !dumb;
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
        let locale = locale
            .map(|l| l.to_string_lossy().to_ascii_lowercase())
            .unwrap_or_default();
        Theme {
            color,
            unicode: locale.contains("utf-8") || locale.contains("utf8"),
        }
    }

    /// `text` in the colour of its role.
    pub(crate) fn paint(self, role: Role, text: &str) -> String {
        if !self.color || text.is_empty() {
            return text.to_owned();
        }
        let style = match role {
            Role::Title => Style::new().bold(),
            Role::Value => Style::new().bold().fg_color(Some(AnsiColor::Cyan.into())),
            Role::Faint => Style::new().dimmed(),
            Role::Read => Style::new().fg_color(Some(AnsiColor::Green.into())),
            Role::Write => Style::new().fg_color(Some(AnsiColor::Yellow.into())),
            Role::Both => Style::new().fg_color(Some(AnsiColor::Cyan.into())),
            Role::Unset => Style::new().fg_color(Some(AnsiColor::Magenta.into())),
            Role::Bad => Style::new().bold().fg_color(Some(AnsiColor::Red.into())),
            Role::Good => Style::new().fg_color(Some(AnsiColor::Green.into())),
        };
        format!("{style}{text}{style:#}")
    }

    /// `text` if the output takes Unicode, else `ascii`.
    pub(crate) fn pick<'a>(self, text: &'a str, ascii: &'a str) -> &'a str {
        if self.unicode { text } else { ascii }
    }
}
