//! The code that lies inside every traced process: no libc, no allocation, no thread-local storage,
//! no writable data of its own, no vector registers. It knows nothing of the engine but the memory
//! that both share (`scribe_abi::shared`).
//!
//! May depend on `scribe-abi` only.
#![no_std]
#![no_main]

mod copy;
mod descriptor;
mod entry;
mod mask;
mod nowait;
mod plan;
mod record;
mod replay;
mod ring;
mod shape;
mod sleep;
mod token;
mod turns;

use core::sync::atomic::Ordering::Relaxed;
use scribe_abi::shared::{ANY_SUBLEAF, Config, Process, SHARED_BASE, TaskArea, mode, reason};
use scribe_abi::{MARK_RDTSCP, MARKS, PROCESS};

/// Called by the entry with the registers of a call in the task's area. 0: the call is done.
/// Otherwise why the engine has to see it.
#[unsafe(no_mangle)]
extern "C" fn scribe_agent_main(area: *mut TaskArea) -> u32 {
    // SAFETY: the entry passes the area of the task that holds the token; until it gives that up
    // nobody else touches what is not atomic in it.
    let area = unsafe { &mut *area };
    match area.mode.load(Relaxed) {
        mode::RECORD => record::call(area),
        mode::REPLAY => replay::call(area),
        _ => reason::CALL,
    }
}

/// Answers a CPUID (or an RDTSC or RDTSCP, if where to return to is marked so) whose registers are in the area but for rcx:
/// the subleaf, whose place in the process's page takes the answer. The area's reason is 0 if there is an answer.
#[unsafe(no_mangle)]
extern "C" fn scribe_agent_cpuid(area: *mut TaskArea, subleaf: u32) {
    // SAFETY: as above; the process's page is the agent's while the token is held.
    let (area, process) = unsafe { (&mut *area, &mut *(PROCESS as *mut Process)) };
    let mark = process.saved_ret & MARKS;
    process.saved_ret &= !MARKS;
    if mark != 0 {
        let with_aux = mark == u64::from(MARK_RDTSCP);
        let answer = match area.mode.load(Relaxed) {
            mode::RECORD => record::counter(area, with_aux),
            mode::REPLAY => replay::counter(area, with_aux),
            _ => None,
        };
        area.reason.store(u32::from(answer.is_none()), Relaxed);
        if let Some((value, aux)) = answer {
            area.rax = value & 0xffff_ffff;
            area.args[2] = value >> 32;
            if with_aux {
                process.saved_rcx = aux;
            }
        }
        return;
    }
    let saved_rcx = &mut process.saved_rcx;
    let config = config();
    let leaf = area.rax as u32;
    let known = config
        .cpuid
        .get(..config.cpuid_count as usize)
        .unwrap_or_default();
    let mut of_leaf = known.iter().filter(|entry| entry[0] == leaf);
    let hit = of_leaf
        .clone()
        .find(|entry| entry[1] == subleaf || entry[1] == ANY_SUBLEAF)
        // Subleafs that are not there are zero.
        .or(of_leaf.next().map(|_| &[0; 6]));
    let allowed = area.mode.load(Relaxed) != mode::PASS;
    area.reason
        .store(u32::from(hit.is_none() || !allowed), Relaxed);
    if let Some([_, _, a, b, c, d]) = hit.filter(|_| allowed) {
        area.rax = u64::from(*a);
        area.saved[0] = u64::from(*b);
        *saved_rcx = u64::from(*c);
        area.args[2] = u64::from(*d);
    }
}

/// What holds for all processes.
fn config() -> &'static Config {
    // SAFETY: the engine maps it before any place is patched, and does not change it afterwards.
    unsafe { &*(SHARED_BASE as *const Config) }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {
        // SAFETY: an instruction that traps; the engine finds that it is no place it knows.
        unsafe { core::arch::asm!("ud2") };
    }
}
