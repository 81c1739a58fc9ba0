//! The numbers of the log's format that the agent needs too; the format itself is `scribe-log`'s.

/// Length of a record's head: kind (1 byte), flags (1), argument (2), length of the body (4).
pub const RECORD_HEAD: usize = 8;
/// Kind of a switch's record: the task (4 bytes).
pub const SWITCH: u8 = 1;
/// Flag of switches: the task before is inside a call.
pub const PREV_IN_CALL: u8 = 1;
/// Kind of a system call's record: the number is the argument; the body begins with the result (8
/// bytes) and the hash of the inputs (4).
pub const SYSCALL: u8 = 2;
/// Kind of a signal's record.
pub const SIGNAL: u8 = 4;
/// Kind of an instruction's record.
pub const INSTR: u8 = 5;
/// Argument of an instruction's record: RDTSC, whose value is the counter.
pub const RDTSC: u16 = 0;
/// RDTSCP: the counter, and what ECX gets.
pub const RDTSCP: u16 = 1;
/// Kind of an end's record.
pub const EXIT: u8 = 7;
/// Kind of a record of hashes.
pub const CHECKSUM: u8 = 10;
/// Flag of signals that are delivered before a call, and of faults: the task runs on to there.
pub const SIGNAL_AT_ENTRY: u8 = 1;
/// See [`SIGNAL_AT_ENTRY`].
pub const SIGNAL_SYNC: u8 = 2;
/// Flag of signals before whose handler the task returns from the function in which it stands.
pub const SIGNAL_RETURNS: u8 = 4;
/// Flag of ends from outside.
pub const EXIT_ASYNC: u8 = 2;
/// Length of a section's head: tag (1 byte), length (3).
pub const SECTION_HEAD: usize = 4;
/// Section: memory written. Address (8 bytes), content.
pub const OUT: u8 = 1;
/// Section: the six arguments.
pub const ARGS: u8 = 2;
/// Section: memory read. Address (8 bytes), full length (8), what is kept of it.
pub const IN: u8 = 3;
/// Section: name of a descriptor.
pub const DESC: u8 = 9;
/// Section: what a mapping shows. File (4 bytes), offset in it (8), length (8), protection (4), flags (4).
pub const MAP: u8 = 8;
/// Bytes of its content.
pub const MAP_LEN: u64 = 28;
