//! The ring of asynchronous I/O. All else that these calls did is answered from the log.

use super::*;
use scribe_log::Syscall;
use scribe_syscalls::Special;

impl Replayer {
    /// io_setup, io_destroy: the memory of the ring comes and goes.
    pub(super) fn io_ring(
        &mut self,
        id: u32,
        special: Special,
        event: &Syscall,
        data: &[(u64, Vec<u8>)],
    ) -> Result<()> {
        let Some(map) = event.sections.map() else {
            return Ok(());
        };
        let (at, len) = (map.offset, map.len);
        if special == Special::IoDestroy {
            return self.inject_expecting(id, libc::SYS_munmap, [at, len, 0, 0, 0, 0], 0);
        }
        let flags = map.flags as i32 | libc::MAP_FIXED;
        let args = [at, len, map.prot.into(), flags as u64, u64::MAX, 0];
        self.inject_expecting(id, libc::SYS_mmap, args, at as i64)?;
        for (addr, bytes) in data {
            self.task(id).space.mem.write(*addr, bytes)?;
        }
        Ok(())
    }
}
