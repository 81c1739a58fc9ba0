//! System V shared memory, semaphores and message queues (sysvipc(7)): their description, taking it, and making
//! them again with the ids that they had, in the IPC namespace of the caller.

use crate::check;
use crate::make::Contents;
use crate::take::{Limits, Store};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::io;

/// The objects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ipc {
    /// Pieces of shared memory.
    pub segments: Vec<Segment>,
    /// Sets of semaphores.
    pub semaphores: Vec<Semaphores>,
    /// Message queues.
    pub queues: Vec<Queue>,
}

/// What all of them have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Common {
    /// Its id.
    pub id: i32,
    /// Its key; 0: it has none.
    pub key: i32,
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A piece of shared memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Segment {
    /// What all have.
    pub common: Common,
    /// Bytes.
    pub size: u64,
    /// It was removed, and goes when nobody has it attached any more.
    pub removed: bool,
    /// Its content, if it was kept.
    pub content: Option<(u32, u32)>,
}

/// A set of semaphores.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Semaphores {
    /// What all have.
    pub common: Common,
    /// Their values.
    pub values: Vec<u16>,
}

/// A message queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Queue {
    /// What all have.
    pub common: Common,
    /// Bytes that it may hold.
    pub most: u64,
    /// The messages: type, content.
    pub messages: Vec<(i64, (u32, u32))>,
}

/// Memory that a process has attached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attached {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Offset of its beginning in the segment.
    pub offset: u64,
    /// PROT_ bits.
    pub prot: u32,
    /// The segment.
    pub id: i32,
}

/// Ids of objects that are the program's.
#[derive(Clone, Debug, Default)]
pub struct Ids {
    /// Of shared memory.
    pub segments: BTreeSet<i32>,
    /// Of sets of semaphores.
    pub semaphores: BTreeSet<i32>,
    /// Of message queues.
    pub queues: BTreeSet<i32>,
}

/// `SHM_DEST` (include/uapi/linux/shm.h), `MSG_COPY` (msg.h), and commands that libc does not have.
const SHM_DEST: u32 = 0o1000;
const MSG_COPY: i32 = 0o40000;
const GETALL: i32 = 13;
const SETALL: i32 = 17;

fn common(id: i32, perm: &libc::ipc_perm) -> Common {
    Common {
        id,
        key: perm.__key,
        mode: u32::from(perm.mode) & 0o777,
        uid: perm.uid,
        gid: perm.gid,
    }
}

/// Describes objects; those that are gone, or cannot be read, are left out.
pub fn take(ids: &Ids, limits: Limits, store: &mut dyn Store, lost: &mut Vec<String>) -> Ipc {
    let mut left = limits.total;
    let mut ipc = Ipc::default();
    for id in &ids.segments {
        match segment(*id, limits, &mut left, store) {
            Ok(found) => ipc.segments.push(found),
            Err(error) => gone(&error, "shared memory", *id, lost),
        }
    }
    for id in &ids.semaphores {
        match semaphores(*id) {
            Ok(found) => ipc.semaphores.push(found),
            Err(error) => gone(&error, "semaphores", *id, lost),
        }
    }
    for id in &ids.queues {
        match queue(*id, store) {
            Ok(found) => ipc.queues.push(found),
            Err(error) => gone(&error, "message queue", *id, lost),
        }
    }
    ipc
}

/// What was removed is not lost.
fn gone(error: &io::Error, what: &str, id: i32, lost: &mut Vec<String>) {
    let removed = [libc::EINVAL, libc::EIDRM];
    if !removed.iter().any(|no| error.raw_os_error() == Some(*no)) {
        lost.push(format!("System V {what} {id}: {error}"));
    }
}

fn segment(id: i32, limits: Limits, left: &mut u64, store: &mut dyn Store) -> io::Result<Segment> {
    // SAFETY: all zero is a value of this structure, and there is room for the answer.
    let stat = unsafe {
        let mut stat: libc::shmid_ds = std::mem::zeroed();
        check(libc::shmctl(id, libc::IPC_STAT, &mut stat).into())?;
        stat
    };
    let size = stat.shm_segsz as u64;
    let mut found = Segment {
        common: common(id, &stat.shm_perm),
        size,
        removed: u32::from(stat.shm_perm.mode) & SHM_DEST != 0,
        content: None,
    };
    // What somebody has attached is in the memory of the replay, too; what nobody has is not.
    if size > limits.file || size > *left {
        return Ok(found);
    }
    *left -= size;
    // SAFETY: the kernel chooses a place of that size, which is only read, and left again.
    unsafe {
        let at = libc::shmat(id, std::ptr::null(), libc::SHM_RDONLY);
        if at as isize == -1 {
            return Err(io::Error::last_os_error());
        }
        let content = store.begin();
        let bytes = std::slice::from_raw_parts(at.cast::<u8>(), size as usize);
        const PIECE: usize = 64 << 10;
        for (i, piece) in bytes.chunks(PIECE).enumerate() {
            if piece.iter().any(|byte| *byte != 0) {
                store.put(content, (i * PIECE) as u64, piece);
            }
        }
        libc::shmdt(at);
        found.content = Some(content);
    }
    Ok(found)
}

fn semaphores(id: i32) -> io::Result<Semaphores> {
    // SAFETY: all zero is a value of this structure; there is room for the answers.
    unsafe {
        let mut stat: libc::semid_ds = std::mem::zeroed();
        check(libc::semctl(id, 0, libc::IPC_STAT, &raw mut stat).into())?;
        let mut values = vec![0u16; stat.sem_nsems as usize];
        check(libc::semctl(id, 0, GETALL, values.as_mut_ptr()).into())?;
        let common = common(id, &stat.sem_perm);
        Ok(Semaphores { common, values })
    }
}

fn queue(id: i32, store: &mut dyn Store) -> io::Result<Queue> {
    // SAFETY: all zero is a value of this structure; there is room for the answer.
    let stat = unsafe {
        let mut stat: libc::msqid_ds = std::mem::zeroed();
        check(libc::msgctl(id, libc::IPC_STAT, &mut stat).into())?;
        stat
    };
    let mut messages = Vec::new();
    let room = stat.__msg_cbytes as usize;
    let mut buf = vec![0u64; 1 + room.div_ceil(8)];
    for i in 0..stat.msg_qnum as i64 {
        let flags = MSG_COPY | libc::IPC_NOWAIT;
        // SAFETY: room for the type, and for all bytes of the queue.
        let got = unsafe { libc::msgrcv(id, buf.as_mut_ptr().cast(), room, i, flags) };
        let got = check(got as i64)? as usize;
        let bytes: Vec<u8> = buf[1..]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        let content = store.begin();
        store.put(content, 0, &bytes[..got]);
        messages.push((buf[0] as i64, content));
    }
    Ok(Queue {
        common: common(id, &stat.msg_perm),
        most: stat.msg_qbytes as u64,
        messages,
    })
}

/// The next object of this kind gets this id (/proc/sys/kernel/shm_next_id and the like).
fn next(kind: &str, id: i32) -> io::Result<()> {
    fs::write(format!("/proc/sys/kernel/{kind}_next_id"), id.to_string())
}

/// Whether what was made has the id that it is to have.
fn expect(wanted: i32, got: i32) -> io::Result<()> {
    match check(got.into())? == i64::from(wanted) {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "it has the id {got}, not {wanted}"
        ))),
    }
}

/// How an object is made.
fn flags(common: &Common) -> i32 {
    common.mode as i32 | libc::IPC_CREAT | libc::IPC_EXCL
}

/// Makes a segment. `attached`: its content, from a process that has it attached.
pub fn make_segment(
    segment: &Segment,
    contents: &dyn Contents,
    attached: Option<&[u8]>,
) -> io::Result<()> {
    let common = &segment.common;
    next("shm", common.id)?;
    // SAFETY: plain numbers.
    expect(common.id, unsafe {
        libc::shmget(common.key, segment.size as usize, flags(common))
    })?;
    // SAFETY: the kernel chooses a place of that size; what is copied lies within.
    unsafe {
        let at = libc::shmat(common.id, std::ptr::null(), 0);
        if at as isize == -1 {
            return Err(io::Error::last_os_error());
        }
        let room = std::slice::from_raw_parts_mut(at.cast::<u8>(), segment.size as usize);
        let mut put = |offset: u64, bytes: &[u8]| {
            let offset = (offset as usize).min(room.len());
            let len = bytes.len().min(room.len() - offset);
            room[offset..offset + len].copy_from_slice(&bytes[..len]);
        };
        let done = match (attached, segment.content) {
            (Some(bytes), _) => {
                put(0, bytes);
                Ok(())
            }
            (None, Some(content)) => contents.read(content, &mut put),
            (None, None) => Err(io::Error::other("its content was not kept")),
        };
        libc::shmdt(at);
        done?;
        let mut stat: libc::shmid_ds = std::mem::zeroed();
        check(libc::shmctl(common.id, libc::IPC_STAT, &mut stat).into())?;
        own(&mut stat.shm_perm, common);
        libc::shmctl(common.id, libc::IPC_SET, &mut stat);
    }
    Ok(())
}

/// A segment that was removed goes with the last that has it attached.
pub fn remove_segment(segment: &Segment) {
    // SAFETY: plain numbers.
    unsafe { libc::shmctl(segment.common.id, libc::IPC_RMID, std::ptr::null_mut()) };
}

/// Owner and permissions; without the right to that they are those of the caller.
fn own(perm: &mut libc::ipc_perm, common: &Common) {
    (perm.uid, perm.gid, perm.mode) = (common.uid, common.gid, common.mode as _);
}

/// Makes a set of semaphores.
pub fn make_semaphores(set: &Semaphores) -> io::Result<()> {
    let common = &set.common;
    next("sem", common.id)?;
    // SAFETY: plain numbers; as many values as the set has; valid structures.
    unsafe {
        let made = libc::semget(common.key, set.values.len() as i32, flags(common));
        expect(common.id, made)?;
        check(libc::semctl(common.id, 0, SETALL, set.values.as_ptr()).into())?;
        let mut stat: libc::semid_ds = std::mem::zeroed();
        check(libc::semctl(common.id, 0, libc::IPC_STAT, &raw mut stat).into())?;
        own(&mut stat.sem_perm, common);
        libc::semctl(common.id, 0, libc::IPC_SET, &raw mut stat);
    }
    Ok(())
}

/// Makes a message queue.
pub fn make_queue(queue: &Queue, contents: &dyn Contents) -> io::Result<()> {
    let common = &queue.common;
    next("msg", common.id)?;
    // SAFETY: plain numbers; valid structures; a message with its length.
    unsafe {
        expect(common.id, libc::msgget(common.key, flags(common)))?;
        let mut stat: libc::msqid_ds = std::mem::zeroed();
        check(libc::msgctl(common.id, libc::IPC_STAT, &mut stat).into())?;
        own(&mut stat.msg_perm, common);
        stat.msg_qbytes = queue.most as _;
        libc::msgctl(common.id, libc::IPC_SET, &mut stat);
        for (kind, content) in &queue.messages {
            let mut message = kind.to_le_bytes().to_vec();
            contents.read(*content, &mut |_, bytes| message.extend_from_slice(bytes))?;
            let len = message.len() - 8;
            let sent = libc::msgsnd(common.id, message.as_ptr().cast(), len, libc::IPC_NOWAIT);
            check(sent.into())?;
        }
    }
    Ok(())
}
