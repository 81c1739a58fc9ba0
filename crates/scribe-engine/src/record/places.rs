//! Places in a program's own code by which its threads may meet: where chaos stops them. Only from
//! sections that hold nothing but code, as a breakpoint elsewhere would change data.

use scribe_tracee::{Tid, maps, near};
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::rc::Rc;

/// Most code that is looked through.
const LONGEST: u64 = 1 << 20;

/// What is known of program files, by device and inode.
#[derive(Default)]
pub(super) struct Places {
    known: HashMap<(u64, u64), Rc<Text>>,
}

/// The code of a program file.
#[derive(Default)]
struct Text {
    /// Its offset in the file.
    offset: u64,
    /// Places, from there.
    places: Vec<u32>,
}

impl Places {
    /// The address, in a process, of the `choice`th place of its program, counted round.
    pub(super) fn address(&mut self, tid: Tid, choice: u64) -> Option<u64> {
        let file = File::open(format!("/proc/{tid}/exe")).ok()?;
        let meta = file.metadata().ok()?;
        let text = self
            .known
            .entry((meta.dev(), meta.ino()))
            .or_insert_with(|| Rc::new(text(&file).unwrap_or_default()))
            .clone();
        let count = text.places.len() as u64;
        let place = text.places.get((choice % count.max(1)) as usize)?;
        let offset = text.offset + u64::from(*place);
        let all = maps::read(tid);
        let map = all.iter().find(|map| {
            map.ino == meta.ino()
                && map.prot & libc::PROT_EXEC as u32 != 0
                && !map.writable()
                && (map.offset..map.offset + map.size()).contains(&offset)
        })?;
        Some(map.start + (offset - map.offset))
    }
}

/// The places in the section `.text` of an ELF file (elf(5)).
fn text(file: &File) -> Option<Text> {
    let read = |offset: u64, len: u64| {
        let mut bytes = vec![0; len.min(LONGEST) as usize];
        file.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    };
    let word = |bytes: &[u8], at: usize| {
        let bytes = bytes.get(at..at + 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    };
    let half = |bytes: &[u8], at: usize| {
        let bytes = bytes.get(at..at + 2)?;
        Some(u64::from(u16::from_le_bytes(bytes.try_into().ok()?)))
    };
    let head = read(0, 64)?;
    if head[..5] != *b"\x7fELF\x02" {
        return None;
    }
    let (at, size) = (word(&head, 0x28)?, half(&head, 0x3a)?);
    let (count, names) = (half(&head, 0x3c)?, half(&head, 0x3e)?);
    if size < 64 {
        return None;
    }
    let sections = read(at, size.checked_mul(count)?)?;
    let section = |i: u64| sections.get((i * size) as usize..((i + 1) * size) as usize);
    let strings = section(names)?;
    let strings = read(word(strings, 0x18)?, word(strings, 0x20)?)?;
    let named_text = |section: &&[u8]| {
        let name = section
            .get(..4)
            .map(|name| u32::from_le_bytes([name[0], name[1], name[2], name[3]]) as usize);
        name.and_then(|name| strings.get(name..name + 6)) == Some(b".text\0")
    };
    let found = (0..count).filter_map(section).find(named_text)?;
    let (offset, len) = (word(found, 0x18)?, word(found, 0x20)?);
    let code = read(offset, len)?;
    Some(Text {
        offset,
        places: near::meeting_places(&code),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_places_in_its_own_code() {
        let file = File::open("/proc/self/exe").unwrap();
        let text = text(&file).unwrap();
        assert!(text.places.len() > 100);
        let tid = std::process::id() as Tid;
        let mut places = Places::default();
        let first = places.address(tid, 0).unwrap();
        assert_eq!(places.address(tid, text.places.len() as u64), Some(first));
    }

    #[test]
    fn what_is_no_program_has_none() {
        assert!(text(&File::open("/proc/self/maps").unwrap()).is_none());
    }
}
