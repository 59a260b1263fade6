//! `ffitrace repl`: Lua from the terminal.
//!
//! ```text
//!  line ─► an expression? ─► its values, shown
//!      └─► a statement?   ─► run
//!      └─► not complete   ─► one more line
//! ```

use std::{
    env, fs,
    io::{self, IsTerminal, Write},
    path::PathBuf,
    rc::Rc,
};

use rustyline::{
    Context, Editor, Helper, Highlighter, Hinter, Validator,
    completion::Completer,
    config::{CompletionType, Config},
    error::ReadlineError,
    history::FileHistory,
};

use super::{Exit, args::ReplArguments, failure::Failure};
use crate::{
    lua::{Chunk, LuaSession, ScriptError},
    report::{
        Theme,
        session::{SessionError, violation_text, write_error},
    },
};

const PROMPT: &str = "> ";
const MORE: &str = ">> ";
/// Lines of history that are kept.
const HISTORY: usize = 10_000;

const HELP: &str = "\
ffi and trace are loaded. An expression is printed, a statement is run; what is
not complete goes on in the next line. `local` variables last for one line.

  ffi.cdef 'size_t strlen(const char *);'   declares a function of C
  ffi.C.strlen('hello')                     calls it
  trace.events()                            what that call read and wrote
  z = ffi.load 'z'                          a library; z.<Tab> shows its functions

  :help   this text        :quit   ends, as Ctrl-D does";

/// What the editor asks of the session.
#[derive(Helper, Hinter, Highlighter, Validator)]
struct Assistant {
    lua: Rc<LuaSession>,
}

impl Completer for Assistant {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.lua.complete(&line[..position]))
    }
}

pub(super) fn run(args: &ReplArguments) -> Result<Exit, Failure> {
    let trace = &args.trace;
    let here = env::current_dir().ok();
    let (lua, frame) = super::session::open(trace, &args.stops, "repl", here.as_deref())?;
    let frame = Rc::new(frame);
    let exits = frame.clone();
    lua.on_exit(move |summary, status| exits.leave(summary, status))?;
    lua.set_arguments("repl", &[])?;
    lua.require("ffi")?;
    lua.require("trace")?;
    let lua = Rc::new(lua);
    let cannot = |error: ReadlineError| {
        Failure::environment(
            format!("cannot read from the terminal: {error}"),
            "run a script with `ffitrace run` instead",
        )
    };
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .max_history_size(HISTORY)
        .map_err(cannot)?
        .build();
    let mut editor: Editor<Assistant, FileHistory> = Editor::with_config(config).map_err(cannot)?;
    let assistant = Assistant { lua: lua.clone() };
    editor.set_helper(Some(assistant));
    let history = history_file();
    if let Some(history) = &history {
        // The first time there is none.
        let _ = editor.load_history(history);
    }
    let greets = io::stdin().is_terminal();
    if greets {
        println!(
            "Lua sessions, recorded by {}; :help says more",
            lua.bridge().backend()
        );
    }
    let mut number = 1;
    while let Some(text) = read(&mut editor, &lua, number).map_err(cannot)? {
        match text.trim() {
            "" => continue,
            ":help" => println!("{HELP}"),
            ":quit" | ":q" => break,
            command if command.starts_with(':') => {
                println!("no command {command}; :help lists them");
            }
            _ => {
                evaluate(&lua, &text, number);
                number += 1;
            }
        }
    }
    if let Some(history) = &history {
        // What cannot be kept is lost, and that is all.
        let _ = editor.save_history(history);
    }
    drop(editor);
    match Rc::into_inner(lua) {
        Some(lua) => Ok(frame.report_what_is_new(lua.finish())),
        None => Ok(Exit::status(0)),
    }
}

/// The file of the history, in a folder that is there.
fn history_file() -> Option<PathBuf> {
    let state = env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let state = state.filter(|path| path.is_absolute());
    let state = state.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".local/state")))?;
    let folder = state.join("ffitrace");
    fs::create_dir_all(&folder).ok()?;
    Some(folder.join("history"))
}

/// Reads lines until they are complete; `None` at the end.
fn read(
    editor: &mut Editor<Assistant, FileHistory>,
    lua: &LuaSession,
    number: usize,
) -> Result<Option<String>, ReadlineError> {
    let mut text = String::new();
    loop {
        let prompt = if text.is_empty() { PROMPT } else { MORE };
        match editor.readline(prompt) {
            Ok(line) => {
                if !text.is_empty() {
                    text.push('\n');
                }
                text.push_str(&line);
            }
            // What was begun is given up; at an empty prompt nothing happens.
            Err(ReadlineError::Interrupted) => {
                text.clear();
                continue;
            }
            Err(ReadlineError::Eof) => return Ok(None),
            Err(error) => return Err(error),
        }
        let is_command = text.starts_with(':') || text.trim().is_empty();
        if is_command || !matches!(compile(lua, &text, number), Err(error) if error.is_incomplete) {
            let _ = editor.add_history_entry(text.as_str());
            return Ok(Some(text));
        }
    }
}

/// An expression, or else a statement; the entry's number is part of its name.
fn compile(lua: &LuaSession, text: &str, number: usize) -> Result<Chunk, ScriptError> {
    let name = format!("=repl:{number}");
    let expression = text.trim_start().strip_prefix('=').unwrap_or(text);
    // Not as what is returned, which would take the place of the chunk on Lua's stack.
    let end = if expression.contains("--") { "\n" } else { "" };
    let expression = format!("return (function(...) return ... end)({expression}{end})");
    lua.compile(expression.as_bytes(), &name)
        .or_else(|_| lua.compile(text.as_bytes(), &name))
}

fn evaluate(lua: &LuaSession, text: &str, number: usize) {
    let theme = Theme::of(&io::stdout());
    let told = lua.finding_count();
    let done = compile(lua, text, number).and_then(|chunk| lua.run(&chunk, &[]));
    super::exit::flush_stdout_if_free();
    // What was wrong comes first: an error only says it in short.
    let findings = lua.findings_from(told);
    for finding in findings.iter().filter(|f| !f.expected) {
        println!(
            "{}",
            violation_text(&finding.diagnosis, &finding.bytes, theme)
        );
    }
    match done {
        Ok(values) => {
            for value in &values {
                for line in lua.show(value, theme) {
                    println!("{line}");
                }
            }
        }
        Err(error) => {
            let error = SessionError {
                message: error.message,
                stack: error.stack,
            };
            let mut text = Vec::new();
            // Memory takes all of it.
            let _ = write_error(&mut text, &error, theme);
            print!("{}", String::from_utf8_lossy(&text));
        }
    }
    let _ = io::stdout().flush();
}
