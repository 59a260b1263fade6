//! Where a script is.
//!
//! Frames of functions in C, and of our own Lua, are none of its.

use super::session::Session;

/// A frame of the script.
struct Frame {
    /// As Lua names it: a path, or what the chunk was called.
    file: String,
    line: usize,
    /// The function, in words.
    function: String,
}

impl Session {
    /// `FILE:LINE` of the script's line that is running.
    pub(super) fn script_line(&self) -> String {
        let mut found = None;
        self.each_frame(|frame| {
            let name = frame.file.rsplit('/').next().unwrap_or(&frame.file);
            found = Some(format!("{name}:{}", frame.line));
            false
        });
        found.unwrap_or_else(|| "?".to_owned())
    }

    /// Where the script is, innermost first.
    pub(super) fn lua_stack(&self) -> Vec<String> {
        let mut frames = Vec::new();
        self.each_frame(|frame| {
            frames.push(format!("{}:{}{}", frame.file, frame.line, frame.function));
            true
        });
        frames
    }

    /// Calls `each` with frames, innermost first, until it answers that it has enough.
    fn each_frame(&self, mut each: impl FnMut(&Frame) -> bool) {
        let Ok(lua) = self.lua() else {
            return;
        };
        for level in 1.. {
            let found = lua.inspect_stack(level, |debug| {
                let source = debug.source();
                let file = source.source.as_deref().unwrap_or("?");
                if file.starts_with("=[") || source.what == "C" {
                    return None;
                }
                let name = debug.names().name.map(|name| name.into_owned());
                let function = match (name, source.what, source.line_defined) {
                    (Some(name), ..) => format!(" in {name}"),
                    (None, "main", _) => " in the main chunk".to_owned(),
                    (None, _, Some(defined)) => format!(" in the function of line {defined}"),
                    (None, _, None) => String::new(),
                };
                Some(Frame {
                    file: file.trim_start_matches(['@', '=']).to_owned(),
                    line: debug.current_line().unwrap_or(0),
                    function,
                })
            });
            match found {
                Some(Some(frame)) if !each(&frame) => return,
                Some(_) => {}
                None => return,
            }
        }
    }
}
