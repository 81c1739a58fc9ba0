//! The log of Scribe: records, chunks, writer, reader, editing.
//!
//! `docs/LOG-FORMAT.md` describes the format to the byte. This crate knows nothing about processes
//! and may not touch any: it turns records into bytes and bytes into records. What it reads is
//! treated as hostile: a damaged or forged log gives an error with the place, never a panic and
//! never an allocation beyond the limits below.
//!
//! * [`Record`] and [`Section`] are the vocabulary; [`begin_syscall`] and its siblings append
//!   records to a buffer without intermediate allocation.
//! * [`LogWriter`] collects records per stream and writes them as compressed chunks from a thread
//!   of its own.
//! * [`LogReader`] gives random access to a log that is finished, still growing, cut off, or
//!   arriving through a pipe; [`LaneReader`] walks through one stream.
//! * [`edit`] rewrites logs and compares them.

mod builder;
mod bytes;
mod chunk;
pub mod edit;
mod error;
mod files;
mod index;
mod lane;
mod reader;
mod record;
mod section;
mod section_writer;
mod source;
mod types;
mod writer;

pub use builder::{
    RecordBuilder, begin_detached, begin_end, begin_exec, begin_exit, begin_forced, begin_snapshot,
    begin_start, begin_syscall, begin_tracer, put_data, put_instr, put_switch,
};
pub use chunk::{MAX_CHUNK_RAW, VERSION_MAJOR, VERSION_MINOR};
pub use error::{LogError, RecordError, Result};
pub use lane::{InOrder, LaneReader, Position};
pub use reader::LogReader;
pub use record::{MAX_DATA, MAX_RECORD, Record};
pub use section::{
    CpuidEntry, CpuidTable, ExecMap, MAX_SECTION, MapInfo, REGS, Regs, Section, SectionIter,
    Sections, Spawn, StrList, map_kind, stdio_kind, tag,
};
pub use section_writer::SectionWriter;
pub use types::{
    BookmarkTask, End, Exec, Exit, FileInfo, Forced, Signal, Start, Syscall, Tracer, Unknown,
    Values, action, file_flags, flags, instr, kind, patch, place,
};
pub use writer::{LogWriter, Stats, WriteOptions, without_signals};

/// The stream of global records: [`Record::Start`], files and their contents, [`Record::End`].
pub const META: u32 = 0;
