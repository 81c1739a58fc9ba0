//! System V objects: they are made in the IPC namespace that the program gets, and what it has attached is put
//! where it was.

use super::Live;
use crate::replay::*;
use scribe_objects::ipc;
use scribe_objects::model;

/// include/uapi/linux/shm.h
const SHM_RDONLY: u64 = 0o10_000;
const SHM_REMAP: u64 = 0o40_000;
const SHM_EXEC: u64 = 0o100_000;

impl Replayer {
    /// Makes all of them; shared memory that is attached has the content that it has in the replay.
    pub(super) fn make_ipc(&mut self, live: &Live, lost: &mut Vec<String>) {
        let all = &live.objects.ipc;
        for segment in &all.segments {
            let content = self.attached_content(&live.objects.processes, segment);
            if let Err(error) = ipc::make_segment(segment, &live.streams, content.as_deref()) {
                let id = segment.common.id;
                lost.push(format!("System V shared memory {id}: {error}"));
            }
        }
        for set in &all.semaphores {
            if let Err(error) = ipc::make_semaphores(set) {
                lost.push(format!("System V semaphores {}: {error}", set.common.id));
            }
        }
        for queue in &all.queues {
            if let Err(error) = ipc::make_queue(queue, &live.streams) {
                lost.push(format!(
                    "System V message queue {}: {error}",
                    queue.common.id
                ));
            }
        }
    }

    /// What a process that has the whole of it attached finds there.
    fn attached_content(
        &self,
        processes: &[model::Process],
        segment: &ipc::Segment,
    ) -> Option<Vec<u8>> {
        processes.iter().find_map(|process| {
            let whole = |map: &&ipc::Attached| {
                map.id == segment.common.id
                    && map.offset == 0
                    && map.end - map.start >= segment.size
            };
            let map = process.attached.iter().find(whole)?;
            let task = self.task(self.leader(process));
            let read = task.space.mem.read_vec(map.start, segment.size as usize);
            read.ok()
        })
    }

    /// Puts shared memory in place of what the replay had there.
    pub(super) fn attach_segments(&mut self, live: &Live, process: &model::Process) -> Result<()> {
        let id = self.leader(process);
        for map in &process.attached {
            let prot = map.prot as i32;
            let mut flags = SHM_REMAP;
            if prot & libc::PROT_WRITE == 0 {
                flags |= SHM_RDONLY;
            }
            if prot & libc::PROT_EXEC != 0 {
                flags |= SHM_EXEC;
            }
            let args = [map.id as u64, map.start, flags];
            // A part of one cannot be attached: it stays shared among the program's processes.
            let mut segments = live.objects.ipc.segments.iter();
            let segment = segments.find(|segment| segment.common.id == map.id);
            let whole = map.offset == 0
                && segment.is_some_and(|segment| {
                    segment.size.next_multiple_of(scribe_abi::PAGE) == map.end - map.start
                });
            let got = match whole {
                true => self.do_call(id, libc::SYS_shmat, &args)?,
                false => -1,
            };
            if got as u64 != map.start {
                (self.options.warn)(&format!(
                    "shared memory {} of process {} is no longer that which others find by its key",
                    map.id, process.pid
                ));
            }
        }
        Ok(())
    }
}
