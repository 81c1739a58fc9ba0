//! Where CPUID cannot be made to trap it tells a program which CPU it runs on (APIC ids). So all tasks of a
//! lane run on one CPU, which depends on the lane's number only: the same at record and at replay.
//! Several lanes still run on several CPUs.

use scribe_tracee::Tid;

/// The CPUs.
#[derive(Clone, Debug)]
pub(crate) struct Pins {
    cpus: Vec<u32>,
}

/// Words of a set: 1,024 CPUs (sched_setaffinity(2), `CPU_SETSIZE`).
const WORDS: usize = 16;

/// The set of CPUs on which a task may run.
pub(crate) fn affinity(tid: Tid) -> Vec<u8> {
    let mut set = [0u64; WORDS];
    // SAFETY: room for the length.
    let got = unsafe {
        let at = set.as_mut_ptr();
        libc::syscall(libc::SYS_sched_getaffinity, tid, size_of_val(&set), at)
    };
    let bytes: Vec<u8> = set.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes[..(got.max(0) as usize).min(bytes.len())].to_vec()
}

/// Lets a task run there only. One that is gone need not be told.
pub(crate) fn set_affinity(tid: Tid, set: &[u8]) {
    // SAFETY: a buffer with its length.
    unsafe { libc::syscall(libc::SYS_sched_setaffinity, tid, set.len(), set.as_ptr()) };
}

/// The numbers in a set.
fn members(set: &[u8]) -> Vec<u32> {
    let has = |cpu: &u32| set[*cpu as usize / 8] & 1 << (cpu % 8) != 0;
    (0..set.len() as u32 * 8).filter(has).collect()
}

impl Pins {
    /// Those on which this process may run.
    pub fn own() -> Pins {
        Pins {
            cpus: members(&affinity(0)),
        }
    }

    /// Those of a recording: four bytes each.
    pub fn recorded(bytes: &[u8]) -> Pins {
        let cpus = bytes.chunks_exact(4);
        let cpus = cpus.map(|cpu| u32::from_le_bytes(cpu.try_into().expect("four bytes")));
        Pins {
            cpus: cpus.filter(|cpu| *cpu < 64 * WORDS as u32).collect(),
        }
    }

    /// The same, for the log.
    pub fn bytes(&self) -> Vec<u8> {
        self.cpus.iter().flat_map(|cpu| cpu.to_le_bytes()).collect()
    }

    /// Those of them on which this process may not run.
    pub fn missing(&self) -> Vec<u32> {
        let own = Pins::own().cpus;
        let missing = self.cpus.iter().filter(|cpu| !own.contains(cpu));
        missing.copied().collect()
    }

    /// Moves a task to the CPU of its lane.
    pub fn pin(&self, tid: Tid, lane: u32) {
        let Some(cpu) = self.cpus.get(lane as usize % self.cpus.len().max(1)) else {
            return;
        };
        let mut set = [0u8; 8 * WORDS];
        set[*cpu as usize / 8] = 1 << (cpu % 8);
        set_affinity(tid, &set);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_and_lists() {
        assert_eq!(members(&[0b101, 0, 1]), [0, 2, 16]);
        let pins = Pins { cpus: vec![3, 700] };
        assert_eq!(Pins::recorded(&pins.bytes()).cpus, [3, 700]);
        assert!(!affinity(0).is_empty() && Pins::own().missing().is_empty());
    }
}
