//! The command line: what clap makes help, man page and completions of.

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// Scribe records the execution of Linux programs and replays it exactly.
#[derive(Parser, Debug)]
#[command(
    name = "scribe",
    version,
    about = "Records the execution of unmodified Linux programs and replays it exactly",
    long_about = "Scribe records the execution of unmodified Linux programs - all their processes and \
        threads - and replays it exactly, as an ordinary user, on a stock kernel, in virtual machines \
        and containers.",
    after_help = "Examples:\n  \
        scribe record date              record into date.log\n  \
        scribe replay date.log          run it again, with the recorded time\n  \
        scribe profile date.log         what it did, call by call\n  \
        scribe check                    what this machine offers\n\n\
        A log holds all data that the program read: treat it as a secret.",
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    infer_subcommands = false
)]
pub struct Cli {
    /// When to use colours
    #[arg(long, global = true, value_enum, default_value_t = Colour::Auto, value_name = "WHEN")]
    pub color: Colour,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// When output is coloured.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run a command and record what it does
    Record(RecordArgs),
    /// Run a recorded command again, exactly
    Replay(ReplayArgs),
    /// List or apply what a program that turned live changed in files of its own
    Files(FilesArgs),
    /// Set a bookmark in a recording that is going on
    #[command(after_help = "Example:\n  \
        scribe bookmark $(pgrep -n redis-server)\n\n\
        The same as SIGUSR2 to scribe record. scribe replay --to N ends at bookmark N.")]
    Bookmark(ControlArgs),
    /// End a recording, and let the program go on without it
    #[command(after_help = "Example:\n  \
        scribe detach $(pgrep -n redis-server)\n\n\
        The same as SIGUSR1 to scribe record. Nothing of Scribe is left in the program; the log can be\n\
        replayed up to that point.")]
    Detach(ControlArgs),
    /// Show what a log holds, call by call
    Profile(ProfileArgs),
    /// Show the first event in which two logs differ
    Diff(DiffArgs),
    /// Show what this kernel and container offer for recording
    Check(CheckArgs),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  \
        scribe completions bash > ~/.local/share/bash-completion/completions/scribe")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages
    #[command(after_help = "Examples:\n  \
        scribe man | man -l -           read it\n  \
        scribe man ~/.local/share/man/man1")]
    Man {
        /// Directory for one page a command; without it, scribe(1) goes to standard output
        dir: Option<PathBuf>,
    },
}

/// `scribe bookmark` and `scribe detach`.
#[derive(Args, Debug)]
pub struct ControlArgs {
    /// Any process of the recording, or scribe record itself
    #[arg(value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub pid: i32,
}

/// `scribe record`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  \
        scribe record date\n  \
        scribe record -o build.log make -j2\n  \
        scribe record -s 'sort *.txt | uniq -c'\n  \
        scribe record -o - date | ssh host 'cat > date.log'\n  \
        scribe record -p $(pgrep -o nginx) --tree\n\n\
        Exit status: the program's; 128+N if signal N killed it; 127 or 126 if it could not be\n\
        found or executed; 125 if Scribe failed.",
    after_long_help = "Levels (-l):\n  \
        0  the least that can be replayed\n  \
        1  also the arguments of calls, the first 512 bytes of what they take from memory (data that\n     \
           is written, file names), and what descriptors are\n  \
        2  also the time of each call, and 64 KiB of what it takes\n  \
        3  also the registers at each call\n\n\
        Flags (-f), added to the level:\n  \
        a  arguments of calls (level 1)\n  \
        s  resources: what descriptors are (level 1)\n  \
        d  more of the data that calls take (level 2)\n  \
        t  the time of each call (level 2)\n  \
        r  registers at each call (level 3)\n  \
        c  a hash of registers and memory at each event, for replay --verify: slow\n\n\
        The program has Scribe's terminal, environment, limits and ids. Keys such as Ctrl-C and Ctrl-Z\n\
        reach it as usual. SIGTERM and SIGHUP that are sent to Scribe are passed on to it, so that the\n\
        log comes to its end.\n\n\
        SIGUSR2 to Scribe (or scribe bookmark) sets a bookmark, to which scribe replay --to can go.\n\
        SIGUSR1 (or scribe detach) ends the recording: the program goes on without it, and Scribe exits\n\
        with 0, or waits for the program if that has the terminal.\n\n\
        With -o - standard output carries the log. What the program writes to its standard output\n\
        then goes to standard error.\n\n\
        Examples:\n  \
        scribe record date\n  \
        scribe record -o build.log make -j2\n  \
        scribe record -s 'sort *.txt | uniq -c'\n  \
        scribe record -o - date | ssh host 'cat > date.log'\n\n\
        Exit status: the program's; 128+N if signal N killed it; 127 or 126 if it could not be found\n\
        or executed; 125 if Scribe failed."
)]
pub struct RecordArgs {
    /// The log; - for standard output [default: CMD.log, or CMD.2.log... if that exists]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Replace the log if it exists
    #[arg(long)]
    pub force: bool,
    /// How much to record beyond what replay needs, 0 to 3
    #[arg(short, long, value_name = "LEVEL", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(0..=3))]
    pub level: u32,
    /// Single things to record beyond that: letters of "asdtrc"
    #[arg(short, long, value_name = "FLAGS", value_parser = parse_flags)]
    pub flags: Option<Flags>,
    /// Working directory of the command
    #[arg(short = 'c', long, value_name = "DIR")]
    pub chdir: Option<PathBuf>,
    /// Root directory of the command (needs the right to chroot)
    #[arg(short, long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Run the command through /bin/sh; the log is sh.log
    #[arg(short, long)]
    pub shell: bool,
    /// In a network namespace of its own, without any network
    #[arg(short, long = "new-net")]
    pub new_net: bool,
    /// Set an environment variable
    #[arg(long, value_name = "K=V",
          value_parser = OsStringValueParser::new().try_map(parse_env))]
    pub env: Vec<(OsString, OsString)>,
    /// Set a bookmark every so many seconds
    #[arg(short = 'a', long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub auto_bookmark: Option<std::time::Duration>,
    /// How long a signal may wait for a system call before the program is stopped where it computes
    #[arg(long, value_name = "MS", value_parser = parse_milliseconds, default_value = "5",
          conflicts_with = "chaos")]
    pub patience: std::time::Duration,
    /// How long a thread that computes may keep others of its process waiting
    #[arg(long, value_name = "MS", value_parser = parse_milliseconds, default_value = "20",
          conflicts_with = "chaos")]
    pub timeslice: std::time::Duration,
    /// Begin a part of the log, at which a replay can begin, every so many seconds: LOG, LOG.part2...
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds, conflicts_with = "until_failure")]
    pub snapshot_every: Option<std::time::Duration>,
    /// Keep only the last parts of the log: what covers a time (30s, 10m, 2h), or fits into a size (500M, 2G)
    #[arg(long, value_name = "LIMIT", value_parser = crate::parts::parse_keep, conflicts_with = "until_failure")]
    pub keep: Option<crate::parts::Keep>,
    /// When to store hashes of registers and memory for replay --verify
    #[arg(long, value_enum, default_value_t = Checksum::Some, value_name = "WHEN")]
    pub checksum: Checksum,
    /// Record a process that runs already, from here on; Ctrl-C ends the recording, and it goes on
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..),
          conflicts_with_all = ["command", "shell", "chdir", "root", "new_net", "env", "until_failure"])]
    pub pid: Option<i32>,
    /// With -p: also all processes that descend from it
    #[arg(long, requires = "pid", conflicts_with = "command")]
    pub tree: bool,
    /// Print figures about the recording on standard error
    #[arg(long)]
    pub stats: bool,
    /// How to print them
    #[arg(long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub format: Format,
    /// Make rare schedules happen: preempt at random instructions, with random priorities
    #[arg(long, value_name = "SEED", num_args(0..=1), require_equals(true))]
    pub chaos: Option<Option<u64>>,
    /// Record again and again, N times at most, until the program fails; keep that recording only
    /// [default N: 1000]
    #[arg(long, value_name = "N", num_args(0..=1), require_equals(true))]
    pub until_failure: Option<Option<u32>>,
    /// With --until-failure: a program that runs longer is killed, and has failed
    #[arg(long, value_name = "SECONDS", requires = "until_failure",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub time_limit: Option<u64>,
    /// Every call by trap, none within the process: slower, for comparison
    #[arg(long)]
    pub no_agent: bool,
    /// Patch only about half of the places of calls, chosen by a number
    #[arg(long, hide = true, value_name = "SEED")]
    pub patch_some: Option<u64>,
    /// Use PTRACE_SYSEMU even where Syscall User Dispatch exists
    #[arg(long, hide = true)]
    pub no_sud: bool,
    /// Put registers and memory at every hash into a directory, a file each, for comparing
    #[arg(long, hide = true, value_name = "DIR")]
    pub dump_memory: Option<PathBuf>,
    /// The command and its arguments
    #[arg(
        required_unless_present = "pid",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    pub command: Vec<OsString>,
}

/// When hashes are stored.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// Never
    Off,
    /// At the ends of processes and in between, where it costs little; in any case at the first one's end
    Some,
    /// At each event: slow
    All,
}

/// How figures are printed.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Letters of `record -f`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// The level that the letters need.
    pub level: u32,
    /// Registers at each call.
    pub registers: bool,
    /// Hashes at each event.
    pub checksums: bool,
}

fn parse_seconds(text: &str) -> Result<std::time::Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "give a number of seconds".to_owned())?;
    let least = 0.001;
    if !(least..=1e9).contains(&seconds) {
        return Err("give a number of seconds, from 0.001".into());
    }
    Ok(std::time::Duration::from_secs_f64(seconds))
}

fn parse_milliseconds(text: &str) -> Result<std::time::Duration, String> {
    let milliseconds: f64 = text
        .parse()
        .map_err(|_| "give a number of milliseconds".to_owned())?;
    if !(1.0..=60_000.0).contains(&milliseconds) {
        return Err("give a number of milliseconds, from 1 to 60000".into());
    }
    Ok(std::time::Duration::from_secs_f64(milliseconds / 1000.0))
}

fn parse_flags(text: &str) -> Result<Flags, String> {
    let mut flags = Flags::default();
    for letter in text.chars() {
        match letter {
            'a' | 's' => flags.level = flags.level.max(1),
            'd' | 't' => flags.level = flags.level.max(2),
            'r' => flags.registers = true,
            'c' => flags.checksums = true,
            other => {
                return Err(format!(
                    "'{other}' is no flag; there are a (arguments), s (resources), d (data), t (times), \
                     r (registers), c (hashes at each event)"
                ));
            }
        }
    }
    Ok(flags)
}

fn parse_env(text: OsString) -> Result<(OsString, OsString), String> {
    let bytes = text.as_bytes();
    match bytes.iter().position(|b| *b == b'=') {
        Some(at) if at > 0 => {
            let part = |b: &[u8]| OsString::from_vec(b.to_vec());
            Ok((part(&bytes[..at]), part(&bytes[at + 1..])))
        }
        _ => Err("give a name and a value, as in LANG=C".into()),
    }
}

/// `scribe replay`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    scribe replay                    the latest recording of this directory\n  \
    scribe replay --verify date.log\n  \
    scribe replay --live-at 2 server.log   go on from bookmark 2 as a living program\n  \
    ssh host cat date.log | scribe replay -\n\n\
    A replay shows what the program wrote to its standard output and error, and has no other effect.\n\
    SIGUSR1 turns a running one live, at the next bookmark.\n\n\
    Exit status: as recorded; 200 if the replay did something other than the recording; 35 if it was\n\
    deadlocked; 1 if the log could not be replayed; 0 at the end of a log that was cut off.")]
pub struct ReplayArgs {
    /// Events shown before a divergence
    #[arg(short, long = "backlog", value_name = "N", default_value_t = 100)]
    pub backlog: usize,
    /// At most so many of them for each task
    #[arg(short = 'l', long = "per-task", value_name = "N")]
    pub per_task: Option<usize>,
    /// Do not show what the program wrote
    #[arg(short, long)]
    pub quiet: bool,
    /// Compare registers and memory wherever the recording stored hashes of them
    #[arg(long)]
    pub verify: bool,
    /// End at this bookmark
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u32).range(1..))]
    pub to: Option<u32>,
    /// Turn live at this bookmark, or at the last one (end): the program goes on by itself
    #[arg(long, value_name = "ID|end", value_parser = parse_live_at, conflicts_with = "to")]
    pub live_at: Option<LiveAt>,
    /// The files of a program that turns live: its own, as they were (isolated), or those there are (real)
    #[arg(long, value_enum, default_value_t = LiveFilesArg::Isolated, value_name = "WHICH")]
    pub files: LiveFilesArg,
    /// Where what it changes of its own files goes [default: NAME.live beside the log]
    #[arg(long, value_name = "DIR")]
    pub files_dir: Option<PathBuf>,
    /// Record what turns live from then on, into this log
    #[arg(long, value_name = "FILE")]
    pub record_on: Option<PathBuf>,
    /// Turn live also where something of the program cannot be brought back
    #[arg(long)]
    pub live_anyway: bool,
    /// Say on standard error how much was replayed, and with --verify, compared
    #[arg(short, long)]
    pub verbose: bool,
    /// Every call by trap, none within the process: slower, for comparison
    #[arg(long)]
    pub no_agent: bool,
    /// Use PTRACE_SYSEMU even where Syscall User Dispatch exists
    #[arg(long, hide = true)]
    pub no_sud: bool,
    /// Put registers and memory at every hash into a directory, a file each, for comparing
    #[arg(long, hide = true, value_name = "DIR")]
    pub dump_memory: Option<PathBuf>,
    /// The log; - for standard input [default: the latest log of this directory]
    #[arg(value_name = "LOG")]
    pub log: Option<PathBuf>,
}

/// Where a replay turns live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiveAt {
    /// At this bookmark.
    Bookmark(u32),
    /// At the last one.
    End,
}

fn parse_live_at(text: &str) -> Result<LiveAt, String> {
    match (text, text.parse()) {
        ("end", _) => Ok(LiveAt::End),
        (_, Ok(id)) if id > 0 => Ok(LiveAt::Bookmark(id)),
        _ => Err("give the number of a bookmark, or end".into()),
    }
}

/// Which files a program that turns live has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LiveFilesArg {
    /// Those that it had; what it changes is seen by it alone.
    Isolated,
    /// Those that are there.
    Real,
}

/// `scribe files`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    scribe replay --live-at end server.log\n  \
    scribe files server.live\n  \
    scribe files --apply server.live\n\n\
    A is a file that was added, M one that was changed, D one that was removed.")]
pub struct FilesArgs {
    /// Put the changes in place
    #[arg(long)]
    pub apply: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub format: Format,
    /// The directory, NAME.live
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// `scribe profile`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    scribe profile date.log | grep openat\n  \
    scribe profile --summary date.log\n  \
    scribe profile --follow server.log\n  \
    scribe profile --format json date.log | jq 'select(.errno == \"ENOENT\")'\n\n\
    Each call is followed by the resources that it held, and by the data that it moved. A resource's\n\
    serial says how often it was accessed before. Arguments are there if the log has them (record\n\
    level 1 and above); those of a plain read or write are the lines below it, unless --args is given.")]
pub struct ProfileArgs {
    /// Show the records of the log as they are
    #[arg(short, long, conflicts_with = "summary")]
    pub raw: bool,
    /// Only this process or task; may be given more than once
    #[arg(short, long = "pid", value_name = "PID")]
    pub pid: Vec<i64>,
    /// Show the place of each record in the log: offset of its chunk, offset in the chunk
    #[arg(short, long)]
    pub offsets: bool,
    /// Show the process and thread ids of the recording instead of task numbers
    #[arg(long)]
    pub pids: bool,
    /// Show the arguments of every call
    #[arg(short, long)]
    pub args: bool,
    /// Bytes of each string that are shown
    #[arg(short, long = "strsize", value_name = "N", default_value_t = 128)]
    pub strsize: usize,
    /// Only count the calls, as strace -c does
    #[arg(long)]
    pub summary: bool,
    /// Wait for more at the end of a log that is being written
    #[arg(long)]
    pub follow: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub format: Format,
    /// The log; - for standard input
    #[arg(value_name = "LOG")]
    pub log: PathBuf,
}

/// `scribe diff`.
#[derive(Args, Debug)]
#[command(
    after_help = "Lanes (tasks that share memory) are compared one by one; in each, the first \
    difference is shown.\n\nExit status: 0 if the logs agree, 1 if they differ, 2 if one cannot be read."
)]
pub struct DiffArgs {
    /// Events shown before each difference
    #[arg(short, long = "backlog", value_name = "N", default_value_t = 3)]
    pub backlog: usize,
    /// A log
    #[arg(value_name = "A")]
    pub a: PathBuf,
    /// Another log
    #[arg(value_name = "B")]
    pub b: PathBuf,
}

/// `scribe check`.
#[derive(Args, Debug)]
#[command(after_help = "Exit status: 0 if programs can be recorded here, 1 if not.")]
pub struct CheckArgs {
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub format: Format,
}

/// Joins `--until-failure` with a number behind it, as it may be written, too. Only in front of the
/// recorded command: what follows is that one's.
pub fn joined(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut list: Vec<OsString> = args.collect();
    if list.get(1).is_none_or(|command| command != "record") {
        return list;
    }
    let whole = <Cli as clap::CommandFactory>::command();
    let Some(record) = whole.find_subcommand("record") else {
        return list;
    };
    let takes_next = |arg: &str| {
        record.get_arguments().any(|known| {
            let long = known.get_long().is_some_and(|l| arg == format!("--{l}"));
            let short = known.get_short().is_some_and(|s| arg == format!("-{s}"));
            (long || short) && known.get_action().takes_values() && !known.is_require_equals_set()
        })
    };
    let mut at = 2;
    while let Some(arg) = list.get(at).and_then(|arg| arg.to_str()) {
        if !arg.starts_with('-') || arg == "--" {
            break;
        }
        if arg == "--until-failure" {
            let next = list.get(at + 1).and_then(|next| next.to_str());
            if next.is_some_and(|next| next.parse::<u32>().is_ok()) {
                let number = list.remove(at + 1);
                list[at].push("=");
                list[at].push(number);
            }
        } else if takes_next(arg) {
            at += 1;
        }
        at += 1;
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_command_ends_the_options() {
        let cli = Cli::parse_from(["scribe", "record", "-l", "2", "ls", "-l", "--force"]);
        let Command::Record(args) = cli.command else {
            panic!()
        };
        assert_eq!(args.level, 2);
        assert!(!args.force);
        assert_eq!(args.command, ["ls", "-l", "--force"]);
    }

    #[test]
    fn flags_add_up() {
        let flags = parse_flags("asc").unwrap();
        assert_eq!(
            flags,
            Flags {
                level: 1,
                registers: false,
                checksums: true
            }
        );
        assert_eq!(
            parse_flags("tr").unwrap(),
            Flags {
                level: 2,
                registers: true,
                checksums: false
            }
        );
        let error = parse_flags("az").unwrap_err();
        assert!(
            error.contains("'z'") && error.contains("r (registers)"),
            "{error}"
        );
    }

    #[test]
    fn a_number_behind_until_failure_belongs_to_it() {
        let join = |line: &str| {
            let all = joined(line.split(' ').map(OsString::from));
            let all: Vec<_> = all.iter().map(|arg| arg.to_str().unwrap()).collect();
            all.join(" ")
        };
        assert_eq!(
            join("scribe record -o x --until-failure 5 prog 6"),
            "scribe record -o x --until-failure=5 prog 6"
        );
        for same in [
            "scribe record --until-failure prog 6",
            "scribe record prog --until-failure 5",
            "scribe record -o --until-failure 5",
            "scribe record -- --until-failure 5",
            "scribe replay --until-failure 5",
        ] {
            assert_eq!(join(same), same);
        }
    }
}
