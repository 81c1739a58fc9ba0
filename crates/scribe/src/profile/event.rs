//! Records as calls, signals and so on: what text, JSON and divergence reports print.

use super::memory::EventMemory;
use super::model::{Event, Model, Touch};
use super::walk::Ids;
use scribe_hooks::call as hooks;
use scribe_log::{Exec, Exit, Section, Signal, Spawn, Syscall, flags};
use scribe_syscalls::{
    Buf, Call, Dir, Effect, FormatOpts, Memory, Plan, Row, Shape, Slot, Ty, format_args,
    format_call, format_ret, lookup, outputs, plan, signal_name, syscall_name,
};

/// A call of the log.
pub struct CallView<'a> {
    /// Its number.
    pub nr: u32,
    /// What it returned.
    pub ret: i64,
    /// Flags of the record.
    pub flags: u8,
    /// Its arguments, if the log has them.
    pub args: Option<[u64; 6]>,
    /// Its row; without arguments only if the call has no commands.
    pub row: Option<&'static Row>,
    /// What is known of memory.
    pub memory: EventMemory<'a>,
    /// Data that it moved.
    pub data: Vec<Transfer>,
    /// The task that it made.
    pub spawn: Option<Spawn>,
    /// Nanoseconds since the start of the recording.
    pub time: Option<u64>,
    /// Serial number among events that touch objects shared between processes.
    pub serial: Option<u64>,
    event: &'a Syscall<'a>,
}

/// Data that a call moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Whether the program got it.
    pub received: bool,
    /// Where it is in the program.
    pub addr: u64,
    /// How much.
    pub size: u64,
    /// Its beginning; empty if it is in a file that has changed since.
    pub bytes: Vec<u8>,
}

/// What the program put into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its text, or the name of its event.
    pub text: Vec<u8>,
    /// The number of its event.
    pub value: Option<i64>,
}

impl<'a> CallView<'a> {
    /// Of a record, and the data before it.
    pub fn new(event: &'a Syscall<'a>, data: &'a [(u64, Vec<u8>)]) -> CallView<'a> {
        let args = event.sections.args();
        let nr = u32::from(event.nr);
        let row = match args {
            Some(args) => lookup(&Call { nr, args }),
            None => lookup(&Call { nr, args: [0; 6] }).filter(|row| row.sub.is_none()),
        };
        let memory = EventMemory::new(&event.sections, data);
        let mut view = CallView {
            nr,
            ret: event.ret,
            flags: event.flags,
            args,
            row,
            memory,
            data: Vec::new(),
            spawn: event.sections.spawn(),
            time: event.sections.time(),
            serial: event.sections.serial(),
            event,
        };
        view.data = view.transfers();
        view
    }

    /// Name of the call.
    pub fn name(&self) -> String {
        match self.row {
            Some(row) => row.name.to_owned(),
            None => syscall_name(self.nr).map_or(format!("syscall_{}", self.nr), str::to_owned),
        }
    }

    /// Whether it failed.
    pub fn failed(&self) -> bool {
        (-4095..0).contains(&self.ret)
    }

    /// The call, if its arguments are known.
    fn call(&self) -> Option<Call> {
        self.args.map(|args| Call { nr: self.nr, args })
    }

    /// What it touches; the model follows.
    pub fn touches(&self, model: &mut Model, task: u32, ids: Ids) -> Vec<Touch> {
        let (Some(call), Some(row)) = (self.call(), self.row) else {
            return Vec::new();
        };
        let sections = &self.event.sections;
        let (ret, memory) = (self.ret, &self.memory);
        let ret = if self.flags & flags::RESTART != 0 {
            -1
        } else {
            ret
        };
        model.call(&Event {
            task,
            ids,
            call,
            row,
            ret,
            memory,
            sections,
        })
    }

    /// What the program put into the log by this call, if the call is one for that.
    pub fn said(&self) -> Option<Said> {
        self.row.filter(|row| row.is_hook() && !self.failed())?;
        let [_, operation, text, size, value, _] = self.args?;
        let value = match operation as u32 {
            hooks::TEXT => None,
            hooks::EVENT => Some(value as i64),
            _ => return None,
        };
        let text = self.memory.bytes(text, size);
        Some(Said { text, value })
    }

    /// `name(arguments)` and the result. `all`: also what [`CallView::data`] says.
    pub fn text(&self, all: bool, limit: usize) -> (String, String) {
        let name = self.name();
        let result = match self.row {
            Some(row) => format_ret(row, self.ret),
            None => plain_result(self.ret),
        };
        let (Some(call), Some(row)) = (self.call(), self.row) else {
            return (format!("{name}()"), result);
        };
        if !all && self.data_says_all(row) {
            return (format!("{name}()"), result);
        }
        let limit = if self.data.is_empty() || all {
            limit
        } else {
            limit.min(32)
        };
        let options = FormatOpts {
            string_limit: limit,
            ..FormatOpts::default()
        };
        // The result is printed again by the same code, with what it adds to it.
        let whole = format_call(row, &call, self.ret, &self.memory, &options);
        match whole.rfind(&format!(") = {result}")) {
            Some(at) => (whole[..=at].to_owned(), whole[at + 4..].to_owned()),
            None => (whole, result),
        }
    }

    /// Whether descriptor, buffer and count are all that the call has, and data follows.
    fn data_says_all(&self, row: &Row) -> bool {
        matches!(row.effect, Effect::Reads(0) | Effect::Writes(0))
            && row.args.len() == 3
            && matches!(row.args[2].ty, Ty::Size | Ty::Uint | Ty::Ulong)
            && matches!(row.args[1].ty, Ty::Ptr(ptr) if ptr.shape == Shape::Bytes)
            && !self.data.is_empty()
    }

    /// The data that the call moved through descriptors, as far as the log has it.
    fn transfers(&self) -> Vec<Transfer> {
        let (Some(call), Some(row)) = (self.call(), self.row) else {
            return Vec::new();
        };
        let writes = matches!(
            row.effect,
            Effect::Writes(_) | Effect::WritesAt(_) | Effect::SendFds(_) | Effect::Moves { .. }
        );
        let reads = matches!(
            row.effect,
            Effect::Reads(_) | Effect::ReadsAt(_) | Effect::RecvFds(_)
        );
        if self.failed() || self.flags & flags::RESTART != 0 || !(writes || reads) {
            return Vec::new();
        }
        let plan = plan(row, &call, &self.memory);
        if reads {
            return self.received(row, &call, &plan);
        }
        let mut left = self.ret as u64;
        let mut all = Vec::new();
        for buf in plan
            .bufs
            .iter()
            .filter(|buf| is_data(&plan, buf) && buf.dir == Dir::In)
        {
            let size = buf.cap.min(left);
            left -= size;
            self.add(&mut all, false, buf.addr, size);
        }
        all
    }

    fn received(&self, row: &Row, call: &Call, plan: &Plan) -> Vec<Transfer> {
        let mut read = |buf: usize, off: u64, bytes: &mut [u8]| {
            let at = plan.bufs.get(buf).and_then(|buf| buf.addr.checked_add(off));
            at.is_some_and(|at| self.memory.read_exact(at, bytes))
        };
        let mut all = Vec::new();
        for range in outputs(row, call, plan, self.ret, &mut read) {
            let buf = &plan.bufs[range.buf];
            if is_data(plan, buf) {
                self.add(&mut all, true, buf.addr + range.off, range.len);
            }
        }
        all
    }

    fn add(&self, all: &mut Vec<Transfer>, received: bool, addr: u64, size: u64) {
        let bytes = self.memory.bytes(addr, size);
        let in_file = |section| matches!(section, Section::FileOut { addr: at, .. } if at == addr);
        if size > 0 && (!bytes.is_empty() || self.event.sections.iter().any(in_file)) {
            all.push(Transfer {
                received,
                addr,
                size,
                bytes,
            });
        }
    }
}

/// Data of the program: not a structure that the call works on, nor control data of a message.
fn is_data(plan: &Plan, buf: &Buf) -> bool {
    let in_message = match buf.slot {
        Slot::Arg(_) => false,
        Slot::Nested { buf, .. } => {
            !matches!(plan.bufs.get(buf).map(|b| b.shape), Some(Shape::Iovec))
        }
    };
    buf.shape == Shape::Bytes && !in_message
}

fn plain_result(ret: i64) -> String {
    match ret {
        -4095..0 => match scribe_syscalls::errno_name(-ret as i32) {
            Some(name) => {
                let text = scribe_syscalls::errno_text(-ret as i32).unwrap_or_default();
                format!("-1 {name} ({text})")
            }
            None => ret.to_string(),
        },
        // Addresses.
        0x1_0000_0000.. => format!("{ret:#x}"),
        _ => ret.to_string(),
    }
}

/// Index of rsp in `struct user_regs_struct`.
const RSP: usize = 19;

/// A successful exec as a call, from the stack that the new program found.
pub fn exec_text(exec: &Exec, data: &[(u64, Vec<u8>)], limit: usize) -> String {
    let memory = EventMemory::new(&exec.sections, data);
    exec_call(exec, &memory, limit).unwrap_or_else(|| "execve() = 0".into())
}

/// A task that was there when its recording began.
pub fn snapshot_text(exec: &Exec) -> String {
    let mut name = String::new();
    let mut maps = 0;
    for section in &exec.sections {
        match section {
            Section::Comm(comm) => name = String::from_utf8_lossy(comm).into_owned(),
            Section::ExecMap(_) => maps += 1,
            _ => {}
        }
    }
    let ids = (exec.tid, exec.pid);
    match maps {
        0 => format!(
            "+++ attached to thread {} ({name:?}) of {} +++",
            ids.0, ids.1
        ),
        _ => format!(
            "+++ attached to process {} ({name:?}), {maps} mappings +++",
            ids.1
        ),
    }
}

fn exec_call(exec: &Exec, memory: &EventMemory, limit: usize) -> Option<String> {
    const AT_EXECFN: u64 = 31;
    let stack = exec.sections.regs()?[RSP];
    let count = memory.read_u64(stack)?.min(1 << 16);
    let argv = stack.checked_add(8)?;
    let envp = argv.checked_add(8 * (count + 1))?;
    let mut at = envp;
    while memory.read_u64(at)? != 0 {
        at = at.checked_add(8)?;
    }
    at = at.checked_add(8)?;
    let mut path = 0;
    for _ in 0..64 {
        match memory.read_u64(at)? {
            0 => break,
            AT_EXECFN => path = memory.read_u64(at.checked_add(8)?)?,
            _ => {}
        }
        at = at.checked_add(16)?;
    }
    let call = Call {
        nr: libc::SYS_execve as u32,
        args: [path, argv, envp, 0, 0, 0],
    };
    let options = FormatOpts {
        string_limit: limit,
        ..FormatOpts::default()
    };
    Some(format_call(lookup(&call)?, &call, 0, memory, &options))
}

/// How a task ended.
pub fn exit_text(exit: &Exit) -> String {
    // From outside: the engine's flag for a process that was killed wherever it stood.
    const KILLED: u8 = 2;
    if libc::WIFSIGNALED(exit.status) {
        let signal = signal_text(libc::WTERMSIG(exit.status));
        let core = if libc::WCOREDUMP(exit.status) {
            ", core dumped"
        } else {
            ""
        };
        return format!("killed by {signal}{core}");
    }
    if exit.flags & KILLED != 0 {
        return format!(
            "ended from outside, status = {}",
            libc::WEXITSTATUS(exit.status)
        );
    }
    let group = exit.flags & flags::GROUP != 0;
    let nr = if group {
        libc::SYS_exit_group
    } else {
        libc::SYS_exit
    } as u32;
    let call = Call {
        nr,
        args: [libc::WEXITSTATUS(exit.status) as u64, 0, 0, 0, 0, 0],
    };
    let options = FormatOpts::default();
    match lookup(&call) {
        Some(row) => format_call(row, &call, 0, &EventMemory::default(), &options),
        None => format!("exit({})", call.args[0]),
    }
}

/// Name of a signal.
pub fn signal_text(signal: i32) -> String {
    signal_name(signal).map_or(format!("signal {signal}"), str::to_owned)
}

/// A delivered signal with its details.
pub fn signal_details(signal: &Signal) -> String {
    use scribe_log::action;
    let action = match signal.action {
        action::HANDLER => "handler",
        action::TERMINATE => "terminate",
        action::CORE => "core",
        action::STOP => "stop",
        action::IGNORE => "ignore",
        _ => "unknown",
    };
    let name = signal_text(signal.signo.into());
    let mut text = format!("signal: {name}, action = {action}");
    if let Some(info) = siginfo(signal) {
        text.push_str(&format!(", info = {info}"));
    }
    text
}

/// The `siginfo_t`, printed as that of rt_sigqueueinfo(2), whose third argument it is.
fn siginfo(signal: &Signal) -> Option<String> {
    if signal.info.is_empty() {
        return None;
    }
    struct Info([u8; 128]);
    const AT: u64 = 0x1000;
    impl Memory for Info {
        fn read_some(&self, addr: u64, buf: &mut [u8]) -> usize {
            let from = addr
                .checked_sub(AT)
                .and_then(|skip| self.0.get(skip as usize..));
            let from = from.unwrap_or_default();
            let n = from.len().min(buf.len());
            buf[..n].copy_from_slice(&from[..n]);
            n
        }
    }
    let call = Call {
        nr: libc::SYS_rt_sigqueueinfo as u32,
        args: [0, u64::from(signal.signo), AT, 0, 0, 0],
    };
    let text = format_args(
        lookup(&call)?,
        &call,
        &Info(signal.siginfo()),
        &FormatOpts::default(),
    );
    let (from, to) = (text.find('{')?, text.rfind('}')?);
    text.get(from..=to).map(str::to_owned)
}

/// A text of the program in quotes, in one line: as it is where it is text, otherwise as [`quote`].
pub fn quote_text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => format!("{text:?}"),
        Err(_) => quote(bytes),
    }
}

/// Bytes in quotes, escaped as in C and as strace does it.
pub fn quote(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for (i, byte) in bytes.iter().enumerate() {
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x0b => out.push_str("\\v"),
            0x0c => out.push_str("\\f"),
            b' '..=b'~' => out.push(char::from(*byte)),
            _ => {
                let digit_next = bytes.get(i + 1).is_some_and(u8::is_ascii_digit);
                out.push_str(&if digit_next {
                    format!("\\{byte:03o}")
                } else {
                    format!("\\{byte:o}")
                });
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use scribe_log::Sections;

    fn write(count: u64, ret: i64) -> Syscall<'static> {
        let sections = Sections::build(|w| {
            w.args(&[1, 0x1000, count, 0, 0, 0]);
            w.input(0x1000, count, b"hello, world\n");
        });
        Syscall {
            nr: libc::SYS_write as u16,
            ret,
            sections,
            ..Syscall::default()
        }
    }

    #[test]
    fn a_short_write_moved_what_it_says() {
        let event = write(13, 5);
        let view = CallView::new(&event, &[]);
        let bytes = b"hello".to_vec();
        assert_eq!(
            view.data,
            [Transfer {
                received: false,
                addr: 0x1000,
                size: 5,
                bytes
            }]
        );
        assert_eq!(view.text(false, 80), ("write()".into(), "5".into()));
        let (call, result) = view.text(true, 80);
        assert_eq!(
            (&call[..], &result[..]),
            (r#"write(1, "hello, world\n", 13)"#, "5")
        );
    }

    #[test]
    fn a_failed_write_shows_its_arguments() {
        let event = write(13, -32);
        let (call, result) = CallView::new(&event, &[]).text(false, 80);
        assert_eq!(call, r#"write(1, "hello, world\n", 13)"#);
        assert_eq!(result, "-1 EPIPE (Broken pipe)");
    }

    #[test]
    fn without_arguments_there_are_none() {
        let event = Syscall {
            nr: libc::SYS_write as u16,
            ret: 29,
            ..Syscall::default()
        };
        assert_eq!(
            CallView::new(&event, &[]).text(false, 80),
            ("write()".into(), "29".into())
        );
        let event = Syscall {
            nr: libc::SYS_ioctl as u16,
            ret: -25,
            ..Syscall::default()
        };
        let (call, result) = CallView::new(&event, &[]).text(false, 80);
        assert_eq!((&call[..], &result[..9]), ("ioctl()", "-1 ENOTTY"));
    }

    #[test]
    fn signals_say_who_sent_them() {
        let mut info = vec![0; 32];
        info[..4].copy_from_slice(&17i32.to_le_bytes());
        info[8..12].copy_from_slice(&1i32.to_le_bytes());
        info[16..20].copy_from_slice(&42i32.to_le_bytes());
        let signal = Signal {
            signo: 17,
            flags: 0,
            back: 0,
            action: scribe_log::action::HANDLER,
            info: info.into(),
        };
        let text = signal_details(&signal);
        assert!(
            text.starts_with("signal: SIGCHLD, action = handler, info = {si_signo=SIGCHLD"),
            "{text}"
        );
        assert!(text.contains("si_pid=42"), "{text}");
    }

    #[test]
    fn ends_are_told_apart() {
        let exit = |status, flags| Exit {
            task: 2,
            status,
            flags,
            sections: Sections::default(),
        };
        assert_eq!(exit_text(&exit(0x300, flags::GROUP)), "exit_group(3) = ?");
        assert_eq!(exit_text(&exit(0, 0)), "exit(0) = ?");
        assert_eq!(exit_text(&exit(9, flags::GROUP | 2)), "killed by SIGKILL");
    }

    #[test]
    fn quoting() {
        assert_eq!(quote(b"a\"\\\n\x001\x7f\xff"), r#""a\"\\\n\0001\177\377""#);
    }
}
