//! The index over the rows.

use std::sync::OnceLock;

use crate::call::{Call, Row, Sub};
use crate::rows::TABLES;

/// The highest number of a call that this table knows (Linux 6.18).
pub const KNOWN_MAX: u32 = 469;

/// Rows of one call.
#[derive(Default)]
struct Entry {
    /// Row for all that has no sub row.
    whole: Option<&'static Row>,
    groups: Vec<Group>,
}

/// Sub rows that are selected by the same bits of the same arguments, sorted.
struct Group {
    arg: u8,
    mask: u64,
    and: Option<u8>,
    rows: Vec<(Key, &'static Row)>,
}

/// Value of the selecting argument, and of the second one.
type Key = (u64, u64);

impl Group {
    fn takes(&self, sub: &Sub) -> bool {
        self.arg == sub.arg && self.mask == sub.mask && self.and == sub.and.map(|a| a.0)
    }

    fn key(&self, call: &Call) -> Key {
        let second = self.and.map_or(0, |a| call.args[a as usize] & 0xffff_ffff);
        (call.args[self.arg as usize] & self.mask, second)
    }
}

fn index() -> &'static [Entry] {
    static INDEX: OnceLock<Vec<Entry>> = OnceLock::new();
    INDEX.get_or_init(|| {
        let mut index: Vec<Entry> = Vec::new();
        index.resize_with(KNOWN_MAX as usize + 1, Entry::default);
        for row in rows() {
            let entry = &mut index[row.nr as usize];
            let Some(sub) = &row.sub else {
                entry.whole = Some(row);
                continue;
            };
            let key = (sub.value, sub.and.map_or(0, |a| a.1));
            match entry.groups.iter_mut().find(|g| g.takes(sub)) {
                Some(group) => group.rows.push((key, row)),
                None => entry.groups.push(Group {
                    arg: sub.arg,
                    mask: sub.mask,
                    and: sub.and.map(|a| a.0),
                    rows: vec![(key, row)],
                }),
            }
        }
        for entry in &mut index {
            // What looks at more bits goes first.
            entry
                .groups
                .sort_by_key(|g| (g.and.is_none(), u32::MAX - g.mask.count_ones()));
            for group in &mut entry.groups {
                group.rows.sort_by_key(|r| r.0);
            }
        }
        index
    })
}

/// The rows of one call in the order in which they are to be tried: [`lookup`] takes the first that
/// matches.
pub(crate) fn rows_of(nr: u32) -> impl Iterator<Item = &'static Row> {
    let entry = index().get(nr as usize);
    let subs = entry.into_iter().flat_map(|entry| &entry.groups);
    let subs = subs.flat_map(|group| group.rows.iter().map(|row| row.1));
    subs.chain(entry.and_then(|entry| entry.whole))
}

/// All rows, in no particular order.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    TABLES.iter().copied().flatten()
}

/// The row for a call. `None`: the call, or the command of a multiplexed call, is unknown.
pub fn lookup(call: &Call) -> Option<&'static Row> {
    let entry = index().get(call.nr as usize)?;
    for group in &entry.groups {
        if let Ok(i) = group.rows.binary_search_by_key(&group.key(call), |r| r.0) {
            return Some(group.rows[i].1);
        }
    }
    entry.whole
}

/// Whether a number is above the range of this table, so that the call is to be answered with
/// ENOSYS and a warning: a kernel of the table's time would do the same.
pub fn unknown_is_enosys(nr: u32) -> bool {
    nr > KNOWN_MAX || index()[nr as usize].is_empty()
}

impl Entry {
    fn is_empty(&self) -> bool {
        self.whole.is_none() && self.groups.is_empty()
    }

    fn any(&self) -> Option<&'static Row> {
        self.whole
            .or_else(|| Some(self.groups.first()?.rows.first()?.1))
    }
}

/// Name of a call.
pub fn syscall_name(nr: u32) -> Option<&'static str> {
    Some(index().get(nr as usize)?.any()?.name)
}

/// Number of a call.
pub fn by_name(name: &str) -> Option<u32> {
    let found = index()
        .iter()
        .position(|e| e.any().is_some_and(|r| r.name == name));
    found.map(|nr| nr as u32)
}
