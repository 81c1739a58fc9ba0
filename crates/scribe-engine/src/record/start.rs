//! Starting a recording: options, the log's head, the first process.

use super::*;
use scribe_kernel::xstate::XstateLayout;
use scribe_log::{CpuidEntry, META, WriteOptions, stdio_kind};
use std::ffi::{CString, OsString};
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// When hashes of registers and memory are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksums {
    /// Never.
    Off,
    /// At the end of the first process and, where that takes a small share of the run time, at the ends of the others
    /// and in between.
    #[default]
    Sometimes,
    /// At each event.
    Every,
}

/// One of the recording's own outputs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stdio {
    /// Device number, when it is a terminal; else 0.
    pub terminal: u64,
    /// Device and inode of a regular file, pipe or socket, which may be opened anew.
    pub file: Option<(u64, u64)>,
}

/// Where the log goes.
#[derive(Debug)]
pub enum LogTarget {
    /// A file; `true` replaces an existing one.
    File(PathBuf, bool),
    /// Standard output.
    Stdout,
}

/// What to record and how.
pub struct RecordOptions {
    /// Program (looked up in PATH) and arguments.
    pub argv: Vec<OsString>,
    /// Environment changes.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory.
    pub cwd: Option<PathBuf>,
    /// chroot.
    pub root: Option<PathBuf>,
    /// In a network namespace of its own.
    pub new_net: bool,
    /// Verbosity, 0 the least.
    pub level: u32,
    /// Registers at every event.
    pub registers: bool,
    /// Hashes for `--verify`.
    pub checksum: Checksums,
    /// All calls by trap, none in the process.
    pub no_agent: bool,
    /// Patch only about half of the places, chosen by this number: for tests.
    pub patch_some: Option<u64>,
    /// Use PTRACE_SYSEMU even where Syscall User Dispatch exists.
    pub no_sud: bool,
    /// Make rare schedules happen, chosen by this number.
    pub chaos: Option<u64>,
    /// Put the memory behind every hash into this directory: for finding what differs.
    pub dump: Option<PathBuf>,
    /// Where bookmarks, and the end of the recording, are asked for.
    pub requests: Option<&'static super::Requests>,
    /// Set a bookmark each time that this has passed.
    pub bookmark_every: Option<Duration>,
    /// How long a signal waits for a sync point, before its task is stopped where it computes.
    pub patience: Duration,
    /// How long a task keeps others of its lane waiting.
    pub timeslice: Duration,
    /// The log is written in parts, as this says.
    pub parts: Option<Box<dyn super::Parts>>,
    /// Messages for the user.
    pub warn: Box<dyn FnMut(&str)>,
    /// Standard output and error of the recording, where they are open. Filled by [`Recorder::start`].
    pub stdio: [Option<Stdio>; 2],
}

impl RecordOptions {
    /// Defaults for a command.
    pub fn new(argv: Vec<OsString>) -> RecordOptions {
        RecordOptions {
            argv,
            env: Vec::new(),
            cwd: None,
            root: None,
            new_net: false,
            level: 1,
            registers: false,
            checksum: Checksums::Sometimes,
            no_agent: false,
            patch_some: None,
            no_sud: false,
            chaos: None,
            dump: None,
            requests: None,
            bookmark_every: None,
            patience: super::PATIENCE,
            timeslice: super::TIMESLICE,
            parts: None,
            warn: Box::new(|_| {}),
            stdio: [None; 2],
        }
    }
}

/// The program did not start. [`StartError::shell_status`] is the exit status for it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No such program.
    #[error("cannot execute {program}: {error}")]
    Exec {
        /// Its name.
        program: String,
        /// Why.
        error: std::io::Error,
    },
    /// A process that runs cannot be recorded from here on. It goes on as before.
    #[error("cannot attach to process {pid}: {why}")]
    Attach {
        /// Its id.
        pid: i32,
        /// Why, and what can be done.
        why: String,
    },
    /// A step before that failed.
    #[error("{what}: {error}")]
    Setup {
        /// The step.
        what: String,
        /// Why.
        error: std::io::Error,
    },
}

impl StartError {
    /// 127 for a program that does not exist, 126 for one that cannot be executed, as shells do.
    pub fn shell_status(&self) -> i32 {
        match self {
            StartError::Exec { error, .. } if error.kind() == std::io::ErrorKind::NotFound => 127,
            StartError::Exec { .. } => 126,
            StartError::Attach { .. } | StartError::Setup { .. } => 125,
        }
    }
}

pub(super) fn setup(what: &str) -> impl FnOnce(std::io::Error) -> StartError + '_ {
    move |error| StartError::Setup {
        what: what.to_owned(),
        error,
    }
}

fn cstring(text: &std::ffi::OsStr) -> CString {
    let bytes: Vec<u8> = text
        .as_bytes()
        .iter()
        .copied()
        .filter(|byte| *byte != 0)
        .collect();
    CString::new(bytes).expect("NUL bytes were removed")
}

/// A file in memory with the agent's image, which traced processes map and replays execute.
pub(crate) fn agent_file() -> std::io::Result<std::fs::File> {
    // SAFETY: a valid name; the descriptor is owned by the File.
    let file = unsafe {
        let name = c"scribe-agent".as_ptr();
        let mut fd = libc::memfd_create(name, libc::MFD_CLOEXEC | 0x10 /* MFD_EXEC, 6.3 */);
        if fd < 0 {
            fd = libc::memfd_create(name, libc::MFD_CLOEXEC);
        }
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        std::fs::File::from_raw_fd(fd)
    };
    std::os::unix::fs::FileExt::write_all_at(&file, &scribe_agent::image(), 0)?;
    Ok(file)
}

/// Whether the kernel has Syscall User Dispatch that a tracer can set (6.4).
pub fn sud_available() -> bool {
    // SAFETY: PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG on a process that is not traced gives ESRCH;
    // a kernel without it gives EIO for a bad request only on a tracee, so ask the version.
    let mut name = unsafe { std::mem::zeroed::<libc::utsname>() };
    // SAFETY: the buffer is valid.
    unsafe { libc::uname(&mut name) };
    let release: Vec<u8> = name
        .release
        .iter()
        .map(|c| *c as u8)
        .take_while(|c| *c != 0)
        .collect();
    let release = String::from_utf8_lossy(&release).into_owned();
    let mut parts = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|p| p.parse::<u32>());
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (6, 4),
        _ => false,
    }
}

/// Opens the log.
pub(super) fn create_log(target: &LogTarget) -> Result<LogWriter> {
    let write = WriteOptions::default();
    let failed = |error: scribe_log::LogError| RecordError::Log(error.to_string());
    let log = match target {
        LogTarget::File(path, force) => LogWriter::create(
            path,
            &WriteOptions {
                force: *force,
                ..write
            },
        )
        .map_err(failed)?,
        LogTarget::Stdout => {
            LogWriter::to_writer(Box::new(std::io::stdout()), &write).map_err(failed)?
        }
    };
    Ok(log)
}

impl Recorder {
    /// Starts the program, stopped at its first instruction, and writes the head of the log.
    pub fn start(mut options: RecordOptions, target: LogTarget) -> Result<Recorder> {
        crate::limits::raise();
        for (i, slot) in options.stdio.iter_mut().enumerate() {
            *slot = stdio(i as i32 + 1);
        }
        let log = create_log(&target)?;
        let sud = !options.no_sud && sud_available();
        if !sud && !options.no_sud {
            (options.warn)(
                "this kernel has no Syscall User Dispatch for tracers (Linux 6.4): using \
                 PTRACE_SYSEMU, which is slower",
            );
        }
        let agent_image = agent_file().map_err(setup("creating the agent's image"))?;
        let begin = crate::cpu::Moment::now();
        let pid = spawn(&options)?;
        let tsc = begin.measure();
        let first = 2; // 1 is Scribe itself
        let mut recorder = Recorder::with(options, log, sud, agent_image, pid.pid, tsc);
        recorder.new_lane(1, first);
        recorder.stats.tasks = 1;
        recorder.next_task = first + 1;
        recorder.next_lane = 2;
        recorder.write_start(&[(first, pid.pid, 1)]);
        recorder.first_task(pid, first)?;
        Ok(recorder)
    }

    /// A recording of nothing yet. `root` is the process whose end is its own.
    pub(super) fn with(
        options: RecordOptions,
        log: LogWriter,
        sud: bool,
        agent_image: std::fs::File,
        root: Tid,
        tsc: scribe_abi::shared::Tsc,
    ) -> Recorder {
        let shared = agent::shared(&options, sud);
        let mut cpuid = Cpuid::host();
        if !crate::faulting::is_possible() {
            cpuid.hide_state_size();
        }
        let xstate = XstateLayout::from_cpuid(|leaf, sub| {
            let r = std::arch::x86_64::__cpuid_count(leaf, sub);
            [r.eax, r.ebx, r.ecx, r.edx]
        });
        if let Some(shared) = &shared {
            shared.set_cpuid(&cpuid.shown());
            shared.set_tsc(tsc);
        }
        Recorder {
            machine: Machine::new(sud),
            log: Journal::new(log),
            chaos: options.chaos.map(super::chaos::Chaos::new),
            options,
            tasks: HashMap::new(),
            by_tid: HashMap::new(),
            lanes: HashMap::new(),
            merged: Vec::new(),
            shared,
            texts: Default::default(),
            next_task: 2,
            pid_namespaces: false,
            next_lane: 1,
            terminal: None,
            terminal_waits: VecDeque::new(),
            serial: 0,
            files: Files::default(),
            cpuid,
            root,
            outcome: None,
            runnable: VecDeque::new(),
            newborn: newborn::Newborn::default(),
            next_slipped: Instant::now(),
            stats: RecordStats::default(),
            started: Instant::now(),
            warned: BTreeSet::new(),
            agent_image,
            next_checksum: Instant::now() + Duration::from_millis(20),
            next_end_checksum: Instant::now(),
            shared_files: HashMap::new(),
            next_backing: 0,
            ticking: false,
            often: false,
            waits: Default::default(),
            ptrace: Default::default(),
            dying: Default::default(),
            group_stopped: HashSet::new(),
            gather: Default::default(),
            ipc: Default::default(),
            taker: Default::default(),
            changes: Default::default(),
            detached: false,
            part: super::parts::Part::new(),
            copies: Default::default(),
            tsc,
            xstate,
        }
    }

    /// Writes the head of the log: what was there at the beginning, by task, process id and lane.
    pub(super) fn write_start(&mut self, roots: &[(u32, Tid, u32)]) {
        let argv: Vec<Vec<u8>> = self
            .options
            .argv
            .iter()
            .map(|arg| arg.as_bytes().to_vec())
            .collect();
        let cwd = std::env::current_dir().unwrap_or_default();
        let leaves: Vec<CpuidEntry> = self
            .cpuid
            .leaves()
            .iter()
            .map(|leaf| {
                let [leaf, subleaf, eax, ebx, ecx, edx] = *leaf;
                CpuidEntry {
                    leaf,
                    subleaf,
                    eax,
                    ebx,
                    ecx,
                    edx,
                }
            })
            .collect();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let level = self.options.level;
        let flags = self.cpuid.flags();
        let stdio: Vec<(i32, u32)> = (0..3).map(|fd| (fd, stdio_kind_of(fd))).collect();
        self.log.append(META, |buf| {
            let mut start = scribe_log::begin_start(buf);
            start.version(concat!("scribe ", env!("CARGO_PKG_VERSION")).as_bytes());
            start.argv(&argv);
            start.cwd(cwd.as_os_str().as_bytes());
            start.realtime(now.map_or(0, |d| d.as_nanos() as i64));
            start.level(level);
            start.cpuid(&leaves);
            start.flags(flags);
            for (fd, kind) in stdio {
                start.stdio(fd, kind, b"");
            }
            for (task, pid, lane) in roots {
                start.root(*task, *pid, *pid, *lane);
            }
            start.finish();
        });
    }

    /// Takes the child from its fork through exec to its first instruction.
    fn first_task(&mut self, mut child: Child, id: u32) -> Result<()> {
        let pid = child.pid;
        let running = scribe_tracee::seize(pid)?;
        self.machine.add(running);
        let ids = ids::Ids::read(pid);
        self.pid_namespaces = ids.is_nested();
        let task = Task {
            id,
            tid: pid,
            tgid: pid,
            ids,
            process: Rc::new(RefCell::new(Process {
                exit_recorded: false,
            })),
            sighand: Rc::new(RefCell::new(ignored_signals(pid))),
            files: Rc::default(),
            space: Rc::new(AddressSpace::open(pid)?),
            lane: 1,
            state: State::Exiting,
            // SAFETY: plain integers.
            app: unsafe { std::mem::zeroed() },
            mask: 0,
            alt: AltStack::initial(),
            stash: SignalQueue::default(),
            keeps: false,
            call: None,
            slot: None,
            vfork_wait: false,
            after_stop: Ready::Resume,
            listening: false,
            agent_regs: None,
            clone_flags: 0,
            clear_tid: 0,
            robust_list: 0,
            run: forced::Run::new(),
            area: None,
            seccomp: Default::default(),
            instructions: (true, true),
            rseq: Default::default(),
            broken: 0,
            fault: Default::default(),
        };
        self.tasks.insert(id, Box::new(task));
        self.by_tid.insert(pid, id);
        // SAFETY: a signal to our own child.
        unsafe { libc::kill(pid, libc::SIGCONT) };
        drop(child.go.take());
        loop {
            let event = self.machine.wait_for(pid)?;
            match event.stop {
                Stop::Event(Event::Exec) => break,
                Stop::Exited(_) | Stop::Killed(..) => {
                    return Err(child.why(&self.options).into());
                }
                Stop::Signal(signal) if signal != libc::SIGCONT && signal != libc::SIGSTOP => {
                    self.machine.go(pid, Go::Agent, signal)?;
                }
                _ => self.machine.go(pid, Go::Agent, 0)?,
            }
        }
        self.task_mut(id).mask = self.machine.stopped(pid)?.sigmask()?;
        self.new_program(id)
    }
}

fn stdio(fd: i32) -> Option<Stdio> {
    // SAFETY: the buffer is valid; all zero is a valid value.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        if libc::fstat(fd, &mut stat) != 0 {
            return None;
        }
        let terminal = if libc::isatty(fd) == 1 {
            stat.st_rdev
        } else {
            0
        };
        let device = stat.st_mode & libc::S_IFMT == libc::S_IFCHR;
        let file = (!device).then_some((stat.st_dev, stat.st_ino));
        Some(Stdio { terminal, file })
    }
}

/// The same of another process's, by its name in /proc.
pub(super) fn stdio_of(path: &str) -> Option<Stdio> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let meta = std::fs::metadata(path).ok()?;
    let device = meta.file_type().is_char_device();
    // Pseudo terminals, and those of the system: Documentation/admin-guide/devices.txt.
    let terminal = device && matches!(libc::major(meta.rdev()), 4 | 136..=143);
    Some(Stdio {
        terminal: if terminal { meta.rdev() } else { 0 },
        file: (!device).then_some((meta.dev(), meta.ino())),
    })
}

fn stdio_kind_of(fd: i32) -> u32 {
    // SAFETY: as above.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        if libc::fstat(fd, &mut stat) != 0 {
            return stdio_kind::CLOSED;
        }
        match stat.st_mode & libc::S_IFMT {
            _ if libc::isatty(fd) == 1 => stdio_kind::TERMINAL,
            libc::S_IFREG => stdio_kind::FILE,
            libc::S_IFIFO => stdio_kind::PIPE,
            libc::S_IFSOCK => stdio_kind::SOCKET,
            _ => stdio_kind::DEVICE,
        }
    }
}

/// Signals that the new program finds ignored. Of SIGPIPE its process may not have said yet that it
/// is not.
fn ignored_signals(pid: Tid) -> Dispositions {
    let mut sighand = Dispositions::default();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = line
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let mask = mask & !(1 << (libc::SIGPIPE - 1));
    for signal in 1..=64u32 {
        if mask >> (signal - 1) & 1 != 0 {
            let ignore = scribe_kernel::signal::Disposition {
                handler: 1,
                ..Default::default()
            };
            let _ = sighand.sigaction(signal, Some(ignore));
        }
    }
    sighand
}

/// A forked child that waits to be traced and then executes the program.
struct Child {
    pid: Tid,
    /// Closing it lets the child go on.
    go: Option<std::fs::File>,
    /// What failed in the child: step and errno.
    report: std::fs::File,
}

impl Child {
    /// Why the child ended before exec.
    fn why(&mut self, options: &RecordOptions) -> StartError {
        let mut report = [0; 8];
        let program = options.argv[0].to_string_lossy().into_owned();
        if self.report.read_exact(&mut report).is_err() {
            let error = std::io::Error::other("it was killed before it began");
            return StartError::Exec { program, error };
        }
        let step = u32::from_le_bytes(report[..4].try_into().expect("four bytes"));
        let errno = i32::from_le_bytes(report[4..].try_into().expect("four bytes"));
        let error = std::io::Error::from_raw_os_error(errno);
        let path = |path: &Option<PathBuf>| {
            path.as_ref()
                .map_or(String::new(), |path| path.display().to_string())
        };
        let what = match step {
            1 => "creating a network namespace".to_owned(),
            2 => format!("chroot to {}", path(&options.root)),
            3 => format!("changing to directory {}", path(&options.cwd)),
            _ => return StartError::Exec { program, error },
        };
        StartError::Setup { what, error }
    }
}

fn pipe() -> std::result::Result<[std::fs::File; 2], StartError> {
    let mut fds = [0; 2];
    // SAFETY: room for two descriptors, which the Files own afterwards.
    unsafe {
        if libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
            return Err(setup("pipe")(std::io::Error::last_os_error()));
        }
        Ok(fds.map(|fd| std::fs::File::from_raw_fd(fd)))
    }
}

fn spawn(options: &RecordOptions) -> std::result::Result<Child, StartError> {
    let argv: Vec<CString> = options.argv.iter().map(|arg| cstring(arg)).collect();
    let mut env: std::collections::BTreeMap<OsString, OsString> = std::env::vars_os().collect();
    env.extend(options.env.iter().cloned());
    let env: Vec<CString> = env
        .iter()
        .map(|(key, value)| {
            let mut pair = key.clone();
            pair.push("=");
            pair.push(value);
            cstring(&pair)
        })
        .collect();
    let argv_ptrs: Vec<_> = argv
        .iter()
        .map(|arg| arg.as_ptr())
        .chain([std::ptr::null()])
        .collect();
    let env_ptrs: Vec<_> = env
        .iter()
        .map(|var| var.as_ptr())
        .chain([std::ptr::null()])
        .collect();
    let root = options.root.as_ref().map(|path| cstring(path.as_os_str()));
    let cwd = options.cwd.as_ref().map(|path| cstring(path.as_os_str()));
    let [wait_read, wait_write] = pipe()?;
    let [report_read, report_write] = pipe()?;
    // SAFETY: between fork and exec the child makes only async-signal-safe calls, on memory that
    // was prepared before.
    unsafe {
        let pid = libc::fork();
        if pid < 0 {
            return Err(setup("fork")(std::io::Error::last_os_error()));
        }
        if pid == 0 {
            let fail = |step: u32| -> ! {
                let errno = *libc::__errno_location();
                let report = [step.to_le_bytes(), errno.to_le_bytes()].concat_array();
                libc::write(report_write.as_raw_fd(), report.as_ptr().cast(), 8);
                libc::_exit(127);
            };
            libc::close(wait_write.as_raw_fd());
            // The Rust runtime ignores SIGPIPE; the program is not to inherit that.
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            crate::limits::restore();
            let mut byte = 0u8;
            // Until the parent traces us, or is gone.
            libc::read(wait_read.as_raw_fd(), (&raw mut byte).cast(), 1);
            if options.new_net
                && libc::unshare(libc::CLONE_NEWNET) != 0
                && libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET) != 0
            {
                fail(1);
            }
            if let Some(root) = &root
                && (libc::chroot(root.as_ptr()) != 0 || libc::chdir(c"/".as_ptr()) != 0)
            {
                fail(2);
            }
            if let Some(cwd) = &cwd
                && libc::chdir(cwd.as_ptr()) != 0
            {
                fail(3);
            }
            libc::execvpe(argv_ptrs[0], argv_ptrs.as_ptr(), env_ptrs.as_ptr());
            fail(4);
        }
        Ok(Child {
            pid,
            go: Some(wait_write),
            report: report_read,
        })
    }
}

trait ConcatArray {
    fn concat_array(self) -> [u8; 8];
}

impl ConcatArray for [[u8; 4]; 2] {
    fn concat_array(self) -> [u8; 8] {
        let [[a, b, c, d], [e, f, g, h]] = self;
        [a, b, c, d, e, f, g, h]
    }
}
