//! Sections: the tagged parts in the body of a record.

use crate::bytes::Cur;
use crate::error::RecordError;
use crate::section_writer::SectionWriter;
use std::borrow::Cow;

/// Number of values in a [`Regs`] section: those of `struct user_regs_struct`.
pub const REGS: usize = 27;

/// The longest content that the length field of a section can tell. What the record can hold is
/// less: [`crate::MAX_RECORD`].
pub const MAX_SECTION: usize = (1 << 24) - 1;

/// The tags of the sections.
#[allow(missing_docs)]
pub mod tag {
    pub const OUT: u8 = scribe_abi::log::OUT;
    pub const ARGS: u8 = scribe_abi::log::ARGS;
    pub const IN: u8 = scribe_abi::log::IN;
    pub const SERIAL: u8 = 4;
    pub const TIME: u8 = 5;
    pub const REGS: u8 = 6;
    pub const SPAWN: u8 = 7;
    pub const MAP: u8 = 8;
    pub const DESC: u8 = scribe_abi::log::DESC;
    pub const FILE_OUT: u8 = 10;
    pub const EXEC_MAP: u8 = 16;
    pub const ZERO: u8 = 17;
    pub const BRK: u8 = 18;
    pub const COMM: u8 = 19;
    pub const LANE: u8 = 20;
    pub const AUXV: u8 = 21;
    pub const XSTATE: u8 = 22;
    pub const MASK: u8 = 23;
    pub const ACTIONS: u8 = 24;
    pub const ALT_STACK: u8 = 25;
    pub const MEMORY: u8 = 26;
    pub const INSTRUCTIONS: u8 = 27;
    pub const FAULT: u8 = 28;
    pub const VERSION: u8 = 32;
    pub const ARGV: u8 = 33;
    pub const CWD: u8 = 34;
    pub const UNAME: u8 = 35;
    pub const REALTIME: u8 = 36;
    pub const FLAGS: u8 = 37;
    pub const LEVEL: u8 = 38;
    pub const CPUID: u8 = 39;
    pub const STDIO: u8 = 40;
    pub const ROOT: u8 = 41;
}

/// Values of [`ExecMap::kind`].
#[allow(missing_docs)]
pub mod map_kind {
    pub const NORMAL: u32 = 0;
    pub const STACK: u32 = 1;
    pub const VDSO: u32 = 2;
    pub const HEAP: u32 = 3;
    pub const VVAR: u32 = 4;
    pub const VSYSCALL: u32 = 5;
}

/// Values of [`Section::Stdio`]'s `kind`.
#[allow(missing_docs)]
pub mod stdio_kind {
    pub const CLOSED: u32 = 0;
    pub const TERMINAL: u32 = 1;
    pub const PIPE: u32 = 2;
    pub const FILE: u32 = 3;
    pub const SOCKET: u32 = 4;
    pub const DEVICE: u32 = 5;
}

/// A new task, as the call that made it saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Spawn {
    /// The number that the log gives the new task.
    pub task: u32,
    /// Its thread id, as the recorded program saw it.
    pub tid: i32,
    /// Its process id, as the recorded program saw it.
    pub pid: i32,
    /// The lane it runs in.
    pub lane: u32,
    /// Flags of `clone`.
    pub flags: u32,
}

/// A mapping made by a call: where its content comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MapInfo {
    /// Id of a [`crate::FileInfo`]; 0 for anonymous memory.
    pub file: u32,
    /// Offset in that file.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
    /// `PROT_` bits.
    pub prot: u32,
    /// `MAP_` bits.
    pub flags: u32,
}

/// A mapping of a new address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ExecMap<'a> {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// `PROT_` bits.
    pub prot: u32,
    /// `MAP_` bits.
    pub flags: u32,
    /// Id of a [`crate::FileInfo`]; 0 for anonymous memory.
    pub file: u32,
    /// See [`map_kind`].
    pub kind: u32,
    /// Offset in the file.
    pub offset: u64,
    /// Name for people, may be empty.
    pub name: &'a [u8],
}

/// One answer of the CPUID instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct CpuidEntry {
    pub leaf: u32,
    pub subleaf: u32,
    pub eax: u32,
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
}

/// A list of [`CpuidEntry`], as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuidTable<'a>(pub(crate) &'a [u8]);

impl<'a> CpuidTable<'a> {
    /// The entries.
    pub fn iter(&self) -> impl Iterator<Item = CpuidEntry> + 'a {
        self.0.chunks_exact(24).map(|c| {
            let mut v = [0u32; 6];
            for (v, b) in v.iter_mut().zip(c.chunks_exact(4)) {
                *v = u32::from_le_bytes(b.try_into().unwrap_or_default());
            }
            let [leaf, subleaf, eax, ebx, ecx, edx] = v;
            CpuidEntry {
                leaf,
                subleaf,
                eax,
                ebx,
                ecx,
                edx,
            }
        })
    }
}

/// Registers, as stored: [`REGS`] values in the order of `struct user_regs_struct`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Regs<'a>(pub(crate) &'a [u8; REGS * 8]);

impl Regs<'_> {
    /// The values.
    pub fn values(&self) -> [u64; REGS] {
        let mut v = [0u64; REGS];
        for (v, b) in v.iter_mut().zip(self.0.chunks_exact(8)) {
            *v = u64::from_le_bytes(b.try_into().unwrap_or_default());
        }
        v
    }
}

impl std::fmt::Debug for Regs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.values()).finish()
    }
}

/// A list of byte strings, as stored: each with a NUL behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StrList<'a>(pub(crate) &'a [u8]);

impl<'a> StrList<'a> {
    /// The strings.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + 'a {
        let body = self.0.strip_suffix(b"\0").unwrap_or(self.0);
        body.split(|b| *b == 0)
            .take(if self.0.is_empty() { 0 } else { usize::MAX })
    }
}

/// One tagged part of a record. Which ones a record may hold is up to its kind; a reader skips
/// those it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Section<'a> {
    /// Memory that the event wrote.
    Out {
        /// Address in the task.
        addr: u64,
        /// What was written there.
        bytes: &'a [u8],
    },
    /// The six arguments of the call.
    Args([u64; 6]),
    /// Memory that the call read: the beginning, for people.
    In {
        /// Address in the task.
        addr: u64,
        /// How much the call read in all.
        full_len: u64,
        /// The beginning of it.
        bytes: &'a [u8],
    },
    /// Serial number among the events that touch objects shared between processes.
    Serial(u64),
    /// Nanoseconds since the start of the recording.
    Time(u64),
    /// Registers after the event.
    Regs(Regs<'a>),
    /// The event made a task.
    Spawn(Spawn),
    /// The event made a mapping.
    Map(MapInfo),
    /// Memory that the call wrote, whose content stands in a file which the log names.
    FileOut {
        /// Address in the task.
        addr: u64,
        /// Offset in the file.
        offset: u64,
        /// Number of bytes.
        len: u64,
        /// Id of the file.
        file: u32,
    },
    /// What a descriptor is, for people.
    Desc {
        /// The descriptor.
        fd: i32,
        /// What it is.
        text: &'a [u8],
    },
    /// A mapping of a new address space.
    ExecMap(ExecMap<'a>),
    /// Memory that the event filled with zeros.
    Zero {
        /// Address in the task.
        addr: u64,
        /// Length in bytes.
        len: u64,
    },
    /// The program break.
    Brk(u64),
    /// The name of the task.
    Comm(&'a [u8]),
    /// The lane in which the task goes on.
    Lane(u32),
    /// The auxiliary vector, as in memory.
    Auxv(&'a [u8]),
    /// Floating-point and vector registers, in the standard form of XSAVE.
    Xstate(&'a [u8]),
    /// The signals that the task blocks.
    Mask(u64),
    /// What signals do that do not have their default action: 36 bytes each, the number and the
    /// kernel's `struct sigaction`.
    Actions(&'a [u8]),
    /// The alternate signal stack: `stack_t`.
    AltStack(&'a [u8; 24]),
    /// The stream whose [`crate::Record::Blob`]s hold the memory, by addresses.
    Memory(u32),
    /// Which instructions the program forbade itself: bit 0 RDTSC (PR_SET_TSC), bit 1 CPUID
    /// (ARCH_SET_CPUID).
    Instructions(u32),
    /// What frames of signals say about the task's last fault: number of the exception, its error code, address.
    Fault([u64; 3]),
    /// The version of Scribe that wrote the log.
    Version(&'a [u8]),
    /// The command.
    Argv(StrList<'a>),
    /// The working directory.
    Cwd(&'a [u8]),
    /// sysname, nodename, release, version, machine, domainname.
    Uname(StrList<'a>),
    /// Nanoseconds since 1970 at the start of the recording.
    Realtime(i64),
    /// Flags of the recording; their meaning is the engine's.
    Flags(u64),
    /// The verbosity of the recording.
    Level(u32),
    /// The CPUID answers of the machine that recorded.
    Cpuid(CpuidTable<'a>),
    /// What a descriptor was at the start.
    Stdio {
        /// The descriptor.
        fd: i32,
        /// See [`stdio_kind`].
        kind: u32,
        /// A name, may be empty.
        text: &'a [u8],
    },
    /// The first task.
    Root {
        /// Its number in the log.
        task: u32,
        /// Its thread id, as the recorded program saw it.
        tid: i32,
        /// Its process id, as the recorded program saw it.
        pid: i32,
        /// Its lane.
        lane: u32,
    },
    /// Something that this version does not know.
    Unknown {
        /// Its tag.
        tag: u8,
        /// Its content.
        bytes: &'a [u8],
    },
}

impl<'a> Section<'a> {
    /// Reads the content of a section; `None` when it is too short for its tag. Bytes behind the
    /// known fields are ignored: later versions may add some.
    #[inline]
    fn parse(tag: u8, body: &'a [u8]) -> Option<Section<'a>> {
        let mut c = Cur(body);
        Some(match tag {
            tag::OUT => Section::Out {
                addr: c.u64()?,
                bytes: c.rest(),
            },
            tag::ARGS => {
                let mut a = [0; 6];
                for a in &mut a {
                    *a = c.u64()?;
                }
                Section::Args(a)
            }
            tag::IN => Section::In {
                addr: c.u64()?,
                full_len: c.u64()?,
                bytes: c.rest(),
            },
            tag::SERIAL => Section::Serial(c.u64()?),
            tag::TIME => Section::Time(c.u64()?),
            tag::REGS => Section::Regs(Regs(c.take(REGS * 8)?.try_into().ok()?)),
            tag::SPAWN => Section::Spawn(Spawn {
                task: c.u32()?,
                tid: c.i32()?,
                pid: c.i32()?,
                lane: c.u32()?,
                flags: c.u32()?,
            }),
            tag::MAP => Section::Map(MapInfo {
                file: c.u32()?,
                offset: c.u64()?,
                len: c.u64()?,
                prot: c.u32()?,
                flags: c.u32()?,
            }),
            tag::FILE_OUT => Section::FileOut {
                addr: c.u64()?,
                offset: c.u64()?,
                len: c.u64()?,
                file: c.u32()?,
            },
            tag::DESC => Section::Desc {
                fd: c.i32()?,
                text: c.rest(),
            },
            tag::EXEC_MAP => Section::ExecMap(ExecMap {
                start: c.u64()?,
                end: c.u64()?,
                prot: c.u32()?,
                flags: c.u32()?,
                file: c.u32()?,
                kind: c.u32()?,
                offset: c.u64()?,
                name: c.rest(),
            }),
            tag::ZERO => Section::Zero {
                addr: c.u64()?,
                len: c.u64()?,
            },
            tag::BRK => Section::Brk(c.u64()?),
            tag::COMM => Section::Comm(body),
            tag::LANE => Section::Lane(c.u32()?),
            tag::AUXV => Section::Auxv(body),
            tag::XSTATE => Section::Xstate(body),
            tag::MASK => Section::Mask(c.u64()?),
            tag::ACTIONS if body.len().is_multiple_of(36) => Section::Actions(body),
            tag::ACTIONS => return None,
            tag::ALT_STACK => Section::AltStack(c.take(24)?.try_into().ok()?),
            tag::MEMORY => Section::Memory(c.u32()?),
            tag::INSTRUCTIONS => Section::Instructions(c.u32()?),
            tag::FAULT => Section::Fault([c.u64()?, c.u64()?, c.u64()?]),
            tag::VERSION => Section::Version(body),
            tag::ARGV => Section::Argv(StrList(body)),
            tag::CWD => Section::Cwd(body),
            tag::UNAME => Section::Uname(StrList(body)),
            tag::REALTIME => Section::Realtime(c.i64()?),
            tag::FLAGS => Section::Flags(c.u64()?),
            tag::LEVEL => Section::Level(c.u32()?),
            tag::CPUID if body.len().is_multiple_of(24) => Section::Cpuid(CpuidTable(body)),
            tag::CPUID => return None,
            tag::STDIO => Section::Stdio {
                fd: c.i32()?,
                kind: c.u32()?,
                text: c.rest(),
            },
            tag::ROOT => Section::Root {
                task: c.u32()?,
                tid: c.i32()?,
                pid: c.i32()?,
                lane: c.u32()?,
            },
            tag => Section::Unknown { tag, bytes: body },
        })
    }
}

/// The sections of a record: checked, still in their stored form, so that reading a record
/// allocates nothing.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Sections<'a>(Cow<'a, [u8]>);

impl<'a> Sections<'a> {
    /// Checks stored sections.
    pub fn parse(bytes: &'a [u8]) -> Result<Sections<'a>, RecordError> {
        let mut it = SectionIter(bytes);
        while !it.0.is_empty() {
            it.next_checked().ok_or(RecordError("bad section"))?;
        }
        Ok(Sections(Cow::Borrowed(bytes)))
    }

    /// Builds sections.
    pub fn build(f: impl FnOnce(&mut SectionWriter<'_>)) -> Sections<'static> {
        let mut buf = Vec::new();
        f(&mut SectionWriter::new(&mut buf));
        Sections(Cow::Owned(buf))
    }

    /// The sections one after the other.
    #[inline]
    pub fn iter(&self) -> SectionIter<'_> {
        SectionIter(&self.0)
    }

    /// The stored form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same, owning its bytes.
    pub fn into_owned(self) -> Sections<'static> {
        Sections(Cow::Owned(self.0.into_owned()))
    }

    /// The memory written: address and bytes of each [`Section::Out`].
    pub fn outs(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.iter().filter_map(|s| match s {
            Section::Out { addr, bytes } => Some((addr, bytes)),
            _ => None,
        })
    }

    /// The first [`Section::Args`].
    pub fn args(&self) -> Option<[u64; 6]> {
        self.iter().find_map(|s| {
            if let Section::Args(v) = s {
                Some(v)
            } else {
                None
            }
        })
    }

    /// The first [`Section::Serial`].
    pub fn serial(&self) -> Option<u64> {
        self.iter().find_map(|s| {
            if let Section::Serial(v) = s {
                Some(v)
            } else {
                None
            }
        })
    }

    /// The first [`Section::Time`].
    pub fn time(&self) -> Option<u64> {
        self.iter().find_map(|s| {
            if let Section::Time(v) = s {
                Some(v)
            } else {
                None
            }
        })
    }

    /// The first [`Section::Regs`].
    pub fn regs(&self) -> Option<[u64; REGS]> {
        self.iter().find_map(|s| {
            if let Section::Regs(v) = s {
                Some(v.values())
            } else {
                None
            }
        })
    }

    /// The first [`Section::Spawn`].
    pub fn spawn(&self) -> Option<Spawn> {
        self.iter().find_map(|s| {
            if let Section::Spawn(v) = s {
                Some(v)
            } else {
                None
            }
        })
    }

    /// The first [`Section::Map`].
    pub fn map(&self) -> Option<MapInfo> {
        self.iter().find_map(|s| {
            if let Section::Map(v) = s {
                Some(v)
            } else {
                None
            }
        })
    }

    /// The first [`Section::Lane`].
    pub fn lane(&self) -> Option<u32> {
        self.iter().find_map(|s| {
            if let Section::Lane(v) = s {
                Some(v)
            } else {
                None
            }
        })
    }
}

impl std::fmt::Debug for Sections<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'b> FromIterator<Section<'b>> for Sections<'static> {
    fn from_iter<T: IntoIterator<Item = Section<'b>>>(iter: T) -> Self {
        Sections::build(|w| {
            for s in iter {
                w.section(&s);
            }
        })
    }
}

impl<'b> IntoIterator for &'b Sections<'_> {
    type Item = Section<'b>;
    type IntoIter = SectionIter<'b>;
    fn into_iter(self) -> SectionIter<'b> {
        self.iter()
    }
}

/// Iterator over [`Sections`].
#[derive(Clone)]
pub struct SectionIter<'a>(&'a [u8]);

impl<'a> SectionIter<'a> {
    #[inline]
    fn next_checked(&mut self) -> Option<Section<'a>> {
        let mut c = Cur(self.0);
        let head = c.u32()?;
        let body = c.take((head >> 8) as usize)?;
        let s = Section::parse(head as u8, body)?;
        self.0 = c.0;
        Some(s)
    }
}

impl<'a> Iterator for SectionIter<'a> {
    type Item = Section<'a>;
    #[inline]
    fn next(&mut self) -> Option<Section<'a>> {
        self.next_checked()
    }
}
