//! What all commands share: messages, colours, writing to standard output, opening logs.

use crate::cli::Colour;
use scribe_log::{LogError, LogReader};
use std::io::{self, IsTerminal, Write};
use std::path::Path;

/// Says something on standard error.
pub fn say(text: impl std::fmt::Display) {
    // Nobody is there to be told that standard error is closed.
    let _ = writeln!(io::stderr(), "scribe: {text}");
}

/// Why a command failed: what is said, and the exit status.
#[derive(Debug)]
pub struct Failure {
    status: i32,
    text: String,
}

impl Failure {
    /// A sentence that says what is wrong and what to do.
    pub fn new(status: i32, text: impl Into<String>) -> Failure {
        Failure {
            status,
            text: text.into(),
        }
    }

    /// Ends with a status, and says nothing: the reader of a pipe has gone.
    pub fn quiet(status: i32) -> Failure {
        Failure {
            status,
            text: String::new(),
        }
    }

    /// Prints it, and gives the exit status.
    pub fn print(&self) -> i32 {
        if !self.text.is_empty() {
            say(&self.text);
        }
        self.status
    }
}

/// What a shell reports of a program that a closed pipe has killed.
pub const PIPE_CLOSED: i32 = 128 + libc::SIGPIPE;

impl From<io::Error> for Failure {
    /// An error of standard output.
    fn from(error: io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Failure::quiet(PIPE_CLOSED)
        } else {
            Failure::new(1, format!("cannot write to standard output: {error}"))
        }
    }
}

/// Writes to standard output.
pub fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// A panic is a bug of Scribe: one sentence, and no backtrace unless somebody wants one.
pub fn install_panic_hook() {
    let verbose = std::env::var_os("RUST_BACKTRACE").is_some_and(|v| v != "0");
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if verbose {
            default(info);
        }
        let at = info
            .location()
            .map_or(String::new(), |l| format!(" ({}:{})", l.file(), l.line()));
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let what = text.unwrap_or("no message").trim().replace('\n', " ");
        say(format!(
            "internal error{at}: {what}; this is a bug in Scribe, please report this line"
        ));
    }));
}

/// Opens a log; `-` is standard input.
pub fn open_log(path: &Path, status: i32) -> Result<LogReader, Failure> {
    let (opened, shown) = if path == Path::new("-") {
        (
            LogReader::from_stream(Box::new(io::stdin())),
            "standard input".to_owned(),
        )
    } else {
        if path.is_dir() {
            let text = format!("{} is a directory; give the name of a log", path.display());
            return Err(Failure::new(status, text));
        }
        (LogReader::open(path), path.display().to_string())
    };
    opened.map_err(|error| Failure::new(status, explain(&shown, &error)))
}

/// A sentence about a log that cannot be read.
pub fn explain(log: &str, error: &LogError) -> String {
    match error {
        LogError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            format!("{log} does not exist; scribe record makes logs")
        }
        LogError::Io { source, .. } => format!("cannot read {log}: {source}"),
        LogError::NotALog => format!("{log} is not a Scribe log"),
        LogError::Version { .. } => {
            format!("{log}: {error}; use the version of Scribe that recorded it")
        }
        _ => format!("{log}: {error}"),
    }
}

/// Whether the end of the log is one that a recorder which was killed, or still runs, leaves.
pub fn is_cut(error: &LogError) -> bool {
    matches!(error, LogError::Truncated { .. } | LogError::NoEnd { .. })
}

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    on: bool,
}

impl Style {
    /// As the user wants it for this stream: 1 standard output, 2 standard error.
    pub fn new(colour: Colour, stream: i32) -> Style {
        let on = match colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => {
                let terminal = if stream == 2 {
                    io::stderr().is_terminal()
                } else {
                    io::stdout().is_terminal()
                };
                let set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
                terminal && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
            }
        };
        Style { on }
    }

    /// No colours.
    pub fn plain() -> Style {
        Style { on: false }
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.on {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// The thing itself.
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// Beside the point.
    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// Good.
    pub fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// To be noted.
    pub fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }

    /// Bad.
    pub fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }
}
