//! Appending sections to a buffer.

use crate::record::MAX_RECORD;
use crate::section::{CpuidEntry, ExecMap, MAX_SECTION, MapInfo, REGS, Section, Spawn, tag};

/// Appends sections to a buffer.
pub struct SectionWriter<'v> {
    pub(crate) buf: &'v mut Vec<u8>,
}

impl<'v> SectionWriter<'v> {
    /// Appends to `buf`.
    pub fn new(buf: &'v mut Vec<u8>) -> SectionWriter<'v> {
        SectionWriter { buf }
    }

    #[inline]
    fn put<const N: usize>(&mut self, tag: u8, fixed: [u8; N], rest: &[u8]) -> &mut Self {
        let len = N + rest.len();
        self.buf.reserve(4 + len);
        self.buf.extend_from_slice(&head(tag, len));
        self.buf.extend_from_slice(&fixed);
        self.buf.extend_from_slice(rest);
        self
    }

    fn put_list<T: AsRef<[u8]>>(
        &mut self,
        tag: u8,
        list: impl IntoIterator<Item = T>,
    ) -> &mut Self {
        let start = self.buf.len();
        self.buf.extend_from_slice(&[0; 4]);
        for s in list {
            let s = s.as_ref();
            self.buf
                .extend_from_slice(s.split(|b| *b == 0).next().unwrap_or_default());
            self.buf.push(0);
        }
        let len = self.buf.len() - start - 4;
        self.buf[start..start + 4].copy_from_slice(&head(tag, len));
        self
    }

    /// [`Section::Out`]. For more than [`crate::MAX_DATA`] bytes use [`crate::put_data`] before.
    #[inline]
    pub fn out(&mut self, addr: u64, bytes: &[u8]) -> &mut Self {
        self.put(tag::OUT, addr.to_le_bytes(), bytes)
    }

    /// [`Section::Args`].
    #[inline]
    pub fn args(&mut self, args: &[u64; 6]) -> &mut Self {
        self.put(tag::ARGS, cat::<6, 48>(args), &[])
    }

    /// [`Section::In`].
    pub fn input(&mut self, addr: u64, full_len: u64, bytes: &[u8]) -> &mut Self {
        self.put(tag::IN, cat::<2, 16>(&[addr, full_len]), bytes)
    }

    /// [`Section::Serial`].
    #[inline]
    pub fn serial(&mut self, v: u64) -> &mut Self {
        self.put(tag::SERIAL, v.to_le_bytes(), &[])
    }

    /// [`Section::Time`].
    #[inline]
    pub fn time(&mut self, ns: u64) -> &mut Self {
        self.put(tag::TIME, ns.to_le_bytes(), &[])
    }

    /// [`Section::Regs`].
    pub fn regs(&mut self, regs: &[u64; REGS]) -> &mut Self {
        self.put(tag::REGS, cat::<REGS, { REGS * 8 }>(regs), &[])
    }

    /// [`Section::Spawn`].
    pub fn spawn(&mut self, s: &Spawn) -> &mut Self {
        self.put(
            tag::SPAWN,
            cat32::<5, 20>([s.task, s.tid as u32, s.pid as u32, s.lane, s.flags]),
            &[],
        )
    }

    /// [`Section::Map`].
    pub fn map(&mut self, m: &MapInfo) -> &mut Self {
        let mut b = [0; 28];
        b[..4].copy_from_slice(&m.file.to_le_bytes());
        b[4..12].copy_from_slice(&m.offset.to_le_bytes());
        b[12..20].copy_from_slice(&m.len.to_le_bytes());
        b[20..24].copy_from_slice(&m.prot.to_le_bytes());
        b[24..].copy_from_slice(&m.flags.to_le_bytes());
        self.put(tag::MAP, b, &[])
    }

    /// [`Section::FileOut`].
    pub fn file_out(&mut self, addr: u64, offset: u64, len: u64, file: u32) -> &mut Self {
        self.put(
            tag::FILE_OUT,
            cat::<3, 24>(&[addr, offset, len]),
            &file.to_le_bytes(),
        )
    }

    /// [`Section::Desc`].
    pub fn desc(&mut self, fd: i32, text: &[u8]) -> &mut Self {
        self.put(tag::DESC, fd.to_le_bytes(), text)
    }

    /// [`Section::ExecMap`].
    pub fn exec_map(&mut self, m: &ExecMap<'_>) -> &mut Self {
        let mut b = [0; 40];
        b[..16].copy_from_slice(&cat::<2, 16>(&[m.start, m.end]));
        b[16..32].copy_from_slice(&cat32::<4, 16>([m.prot, m.flags, m.file, m.kind]));
        b[32..].copy_from_slice(&m.offset.to_le_bytes());
        self.put(tag::EXEC_MAP, b, m.name)
    }

    /// [`Section::Zero`].
    pub fn zero(&mut self, addr: u64, len: u64) -> &mut Self {
        self.put(tag::ZERO, cat::<2, 16>(&[addr, len]), &[])
    }

    /// [`Section::Brk`].
    pub fn brk(&mut self, v: u64) -> &mut Self {
        self.put(tag::BRK, v.to_le_bytes(), &[])
    }

    /// [`Section::Comm`].
    pub fn comm(&mut self, text: &[u8]) -> &mut Self {
        self.put(tag::COMM, [], text)
    }

    /// [`Section::Lane`].
    pub fn lane(&mut self, lane: u32) -> &mut Self {
        self.put(tag::LANE, lane.to_le_bytes(), &[])
    }

    /// [`Section::Auxv`].
    pub fn auxv(&mut self, bytes: &[u8]) -> &mut Self {
        self.put(tag::AUXV, [], bytes)
    }

    /// [`Section::Xstate`].
    pub fn xstate(&mut self, image: &[u8]) -> &mut Self {
        self.put(tag::XSTATE, [], image)
    }

    /// [`Section::Mask`].
    pub fn mask(&mut self, mask: u64) -> &mut Self {
        self.put(tag::MASK, mask.to_le_bytes(), &[])
    }

    /// [`Section::Actions`].
    pub fn actions(&mut self, actions: &[u8]) -> &mut Self {
        self.put(tag::ACTIONS, [], actions)
    }

    /// [`Section::AltStack`].
    pub fn alt_stack(&mut self, stack: &[u8; 24]) -> &mut Self {
        self.put(tag::ALT_STACK, *stack, &[])
    }

    /// [`Section::Memory`].
    pub fn memory(&mut self, stream: u32) -> &mut Self {
        self.put(tag::MEMORY, stream.to_le_bytes(), &[])
    }

    /// [`Section::Fault`].
    pub fn fault(&mut self, words: &[u64; 3]) -> &mut Self {
        let [trapno, err, cr2] = words.map(u64::to_le_bytes);
        self.put(tag::FAULT, trapno, &[err, cr2].concat())
    }

    /// [`Section::Instructions`].
    pub fn instructions(&mut self, forbidden: u32) -> &mut Self {
        self.put(tag::INSTRUCTIONS, forbidden.to_le_bytes(), &[])
    }

    /// [`Section::Version`].
    pub fn version(&mut self, text: &[u8]) -> &mut Self {
        self.put(tag::VERSION, [], text)
    }

    /// [`Section::Argv`]. A string ends at its first NUL.
    pub fn argv<T: AsRef<[u8]>>(&mut self, argv: impl IntoIterator<Item = T>) -> &mut Self {
        self.put_list(tag::ARGV, argv)
    }

    /// [`Section::Cwd`].
    pub fn cwd(&mut self, path: &[u8]) -> &mut Self {
        self.put(tag::CWD, [], path)
    }

    /// [`Section::Uname`]. A string ends at its first NUL.
    pub fn uname<T: AsRef<[u8]>>(&mut self, fields: impl IntoIterator<Item = T>) -> &mut Self {
        self.put_list(tag::UNAME, fields)
    }

    /// [`Section::Realtime`].
    pub fn realtime(&mut self, ns: i64) -> &mut Self {
        self.put(tag::REALTIME, ns.to_le_bytes(), &[])
    }

    /// [`Section::Flags`].
    pub fn flags(&mut self, v: u64) -> &mut Self {
        self.put(tag::FLAGS, v.to_le_bytes(), &[])
    }

    /// [`Section::Level`].
    pub fn level(&mut self, v: u32) -> &mut Self {
        self.put(tag::LEVEL, v.to_le_bytes(), &[])
    }

    /// [`Section::Cpuid`].
    pub fn cpuid(&mut self, table: &[CpuidEntry]) -> &mut Self {
        let mut b = Vec::with_capacity(table.len() * 24);
        for e in table {
            b.extend_from_slice(&cat32::<6, 24>([
                e.leaf, e.subleaf, e.eax, e.ebx, e.ecx, e.edx,
            ]));
        }
        self.put(tag::CPUID, [], &b)
    }

    /// [`Section::Stdio`].
    pub fn stdio(&mut self, fd: i32, kind: u32, text: &[u8]) -> &mut Self {
        self.put(tag::STDIO, cat32::<2, 8>([fd as u32, kind]), text)
    }

    /// [`Section::Root`].
    pub fn root(&mut self, task: u32, tid: i32, pid: i32, lane: u32) -> &mut Self {
        self.put(
            tag::ROOT,
            cat32::<4, 16>([task, tid as u32, pid as u32, lane]),
            &[],
        )
    }

    /// Any section.
    pub fn section(&mut self, s: &Section<'_>) -> &mut Self {
        match *s {
            Section::Out { addr, bytes } => self.out(addr, bytes),
            Section::Args(a) => self.args(&a),
            Section::In {
                addr,
                full_len,
                bytes,
            } => self.input(addr, full_len, bytes),
            Section::Serial(v) => self.serial(v),
            Section::Time(v) => self.time(v),
            Section::Regs(r) => self.put(tag::REGS, *r.0, &[]),
            Section::Spawn(v) => self.spawn(&v),
            Section::Map(v) => self.map(&v),
            Section::FileOut {
                addr,
                offset,
                len,
                file,
            } => self.file_out(addr, offset, len, file),
            Section::Desc { fd, text } => self.desc(fd, text),
            Section::ExecMap(m) => self.exec_map(&m),
            Section::Zero { addr, len } => self.zero(addr, len),
            Section::Brk(v) => self.brk(v),
            Section::Comm(b) => self.comm(b),
            Section::Lane(v) => self.lane(v),
            Section::Auxv(b) => self.auxv(b),
            Section::Xstate(b) => self.xstate(b),
            Section::Mask(v) => self.mask(v),
            Section::Actions(b) => self.actions(b),
            Section::AltStack(b) => self.alt_stack(b),
            Section::Memory(v) => self.memory(v),
            Section::Instructions(v) => self.instructions(v),
            Section::Fault(words) => self.fault(&words),
            Section::Version(b) => self.version(b),
            Section::Argv(l) => self.put(tag::ARGV, [], l.0),
            Section::Cwd(b) => self.cwd(b),
            Section::Uname(l) => self.put(tag::UNAME, [], l.0),
            Section::Realtime(v) => self.realtime(v),
            Section::Flags(v) => self.flags(v),
            Section::Level(v) => self.level(v),
            Section::Cpuid(t) => self.put(tag::CPUID, [], t.0),
            Section::Stdio { fd, kind, text } => self.stdio(fd, kind, text),
            Section::Root {
                task,
                tid,
                pid,
                lane,
            } => self.root(task, tid, pid, lane),
            Section::Unknown { tag, bytes } => self.put(tag, [], bytes),
        }
    }
}

/// A section that is too long for its length field makes its record too long as well, and that
/// the writer notices.
#[inline]
fn head(tag: u8, len: usize) -> [u8; 4] {
    (u32::from(tag) | (len.min(MAX_SECTION) as u32) << 8).to_le_bytes()
}

const _: () = assert!(MAX_SECTION > MAX_RECORD);

#[inline]
fn cat<const N: usize, const B: usize>(v: &[u64; N]) -> [u8; B] {
    let mut out = [0; B];
    for (o, v) in out.chunks_exact_mut(8).zip(v) {
        o.copy_from_slice(&v.to_le_bytes());
    }
    out
}

#[inline]
fn cat32<const N: usize, const B: usize>(v: [u32; N]) -> [u8; B] {
    let mut out = [0; B];
    for (o, v) in out.chunks_exact_mut(4).zip(v) {
        o.copy_from_slice(&v.to_le_bytes());
    }
    out
}
