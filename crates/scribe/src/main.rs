//! The command line of Scribe.
//!
//! May depend on every crate of the workspace that has a command, and holds no logic of theirs: it
//! reads arguments, calls the engine, and prints.

mod check;
mod cli;
mod control;
mod diff;
mod files;
mod live;
mod parts;
mod profile;
mod record;
mod replay;
mod report;
mod symbols;
mod ui;
mod until;

use clap::{CommandFactory, Parser};
use cli::{Cli, Command};
use std::path::Path;
use ui::{Failure, Style};

/// The status with which a panic ends.
const PANIC: i32 = 1;

fn main() {
    let cli = Cli::parse_from(cli::joined(std::env::args_os()));
    let recording = matches!(cli.command, Command::Record(_));
    keep_buffers();
    ui::install_panic_hook();
    let result = std::panic::catch_unwind(|| run(cli));
    let status = match result {
        Ok(Ok(status)) => status,
        Ok(Err(failure)) => failure.print(),
        // The hook has said it.
        Err(_) if recording => record::FAILED,
        Err(_) => PANIC,
    };
    std::process::exit(status);
}

/// The C library gives buffers of some hundred kilobytes back to the kernel at once, and gets them anew, page by
/// page, for the next chunk of a log. It is to keep them.
fn keep_buffers() {
    #[cfg(target_env = "gnu")]
    // SAFETY: these set two numbers, before there are other threads.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 8 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 16 << 20);
    }
}

fn run(cli: Cli) -> Result<i32, Failure> {
    let style = |stream| Style::new(cli.color, stream);
    match &cli.command {
        Command::Record(args) => record::run(args),
        Command::Files(args) => files::run(args),
        Command::Replay(args) => replay::run(args, style(2)),
        Command::Bookmark(args) => control::run(args, libc::SIGUSR2),
        Command::Detach(args) => control::run(args, libc::SIGUSR1),
        Command::Profile(args) => profile::run(args, style(1)),
        Command::Diff(args) => diff::run(args, style(1)),
        Command::Check(args) => check::run(args, style(1)),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "scribe", &mut script);
            ui::print(&script).map(|()| 0)
        }
        Command::Man { dir } => man(dir.as_deref()).map(|()| 0),
    }
}

/// The page of scribe(1), or all pages into a directory.
fn man(dir: Option<&Path>) -> Result<(), Failure> {
    let Some(dir) = dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command())
            .render(&mut page)
            .map_err(|e| Failure::new(1, format!("cannot make the manual page: {e}")))?;
        return ui::print(&page);
    };
    let failed = |e| Failure::new(1, format!("cannot write to {}: {e}", dir.display()));
    std::fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), dir).map_err(failed)
}
