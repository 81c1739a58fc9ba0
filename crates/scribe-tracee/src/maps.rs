//! `/proc/PID/maps`, decoded. proc_pid_maps(5).

use crate::Tid;
use std::io::Read;

/// One mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// `PROT_*`.
    pub prot: u32,
    /// Whether writes go to the shared object.
    pub shared: bool,
    /// Offset in the file, bytes.
    pub offset: u64,
    /// Device of the file, as `makedev` has it; 0 for anonymous memory.
    pub dev: u64,
    /// Inode number; 0 for anonymous memory.
    pub ino: u64,
    /// File name, or `[heap]`, `[stack]`, `[vdso]`...
    pub name: String,
}

impl Mapping {
    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.end - self.start
    }

    /// Whether the program may write here.
    pub fn writable(&self) -> bool {
        self.prot & libc::PROT_WRITE as u32 != 0
    }

    /// Decodes one line.
    pub fn parse(line: &str) -> Option<Mapping> {
        let mut fields = line.splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let perms = fields.next()?.as_bytes();
        let offset = fields.next()?;
        let (major, minor) = fields.next()?.split_once(':')?;
        let ino = fields.next()?.parse().ok()?;
        let name = fields.next().unwrap_or("").trim_start().to_owned();
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let bit = |at: usize, letter: u8, value: i32| {
            if perms.get(at) == Some(&letter) {
                value as u32
            } else {
                0
            }
        };
        Some(Mapping {
            start: hex(start)?,
            end: hex(end)?,
            prot: bit(0, b'r', libc::PROT_READ)
                | bit(1, b'w', libc::PROT_WRITE)
                | bit(2, b'x', libc::PROT_EXEC),
            shared: perms.get(3) == Some(&b's'),
            offset: hex(offset)?,
            dev: libc::makedev(hex(major)? as u32, hex(minor)? as u32),
            ino,
            name,
        })
    }
}

/// All mappings of a task, in order of address; empty when it is gone.
pub fn read(tid: Tid) -> Vec<Mapping> {
    // Room for most, as each read makes the kernel begin anew.
    let mut text = Vec::with_capacity(16 << 10);
    if let Ok(mut file) = std::fs::File::open(format!("/proc/{tid}/maps")) {
        let _ = file.read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text)
        .lines()
        .filter_map(Mapping::parse)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_spaces_in_its_name() {
        let line = "7f00-7f10 rw-s 00001000 fe:00 325843                     /tmp/a b (deleted)";
        let map = Mapping::parse(line).unwrap();
        assert_eq!(
            (map.start, map.end, map.prot, map.shared),
            (0x7f00, 0x7f10, 3, true)
        );
        assert_eq!((map.offset, map.ino), (0x1000, 325843));
        assert_eq!(map.name, "/tmp/a b (deleted)");
        assert_eq!(Mapping::parse("nonsense"), None);
    }

    #[test]
    fn own_maps_hold_the_stack() {
        assert!(
            read(std::process::id() as Tid)
                .iter()
                .any(|map| map.name == "[stack]")
        );
    }
}
