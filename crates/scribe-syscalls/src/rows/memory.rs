//! Address space and memory policy.

use crate::arg::{Ctx, Len, Out, Shape, Ty};
use crate::call::Special;
use crate::dsl::*;
use crate::effect::Effect;
use crate::flags as f;

/// Bytes of a node mask: `maxnode` counts one bit more than there are (mm/mempolicy.c,
/// `get_nodes`).
fn nodes<const ARG: usize>(ctx: &Ctx) -> u64 {
    let bytes = ctx.call.args[ARG]
        .saturating_sub(1)
        .div_ceil(64)
        .saturating_mul(8);
    if bytes > 4096 { 0 } else { bytes }
}

/// A byte for each page.
fn pages(ctx: &Ctx) -> u64 {
    ctx.call.args[1].div_ceil(4096)
}

const fn nodes_in<const ARG: usize>() -> Ty {
    input(Shape::U64s, Len::With(nodes::<ARG>))
}

rows! { ROWS:
    9 mmap(addr: ADDR, length: SIZE, prot: flags(&f::PROT), flags: flags(&f::MAP), fd: FD,
        offset: HEX)
        -> Addr .special(Special::Mmap) .eff(Effect::Mm);
    10 mprotect(addr: ADDR, len: SIZE, prot: flags(&f::PROT))
        .special(Special::Mprotect) .eff(Effect::Mm);
    11 munmap(addr: ADDR, length: SIZE) .special(Special::Munmap) .eff(Effect::Mm);
    12 brk(addr: ADDR) -> Addr .special(Special::Brk) .eff(Effect::Mm);
    25 mremap(old_address: ADDR, old_size: SIZE, new_size: SIZE, flags: flags(&f::MREMAP),
        new_address: ADDR) -> Addr .special(Special::Mremap) .eff(Effect::Mm);
    26 msync(addr: ADDR, length: SIZE, flags: flags(&f::MSYNC)) .may() .eff(Effect::Mm);
    // It tells of the pages before a hole, and then fails.
    27 mincore(addr: ADDR, length: SIZE, vec: output(Shape::Opaque, Len::With(pages), Out::Always))
        .eff(Effect::Mm);
    28 madvise(addr: ADDR, length: SIZE, advice: oneof(&f::MADVISE))
        .special(Special::Madvise) .eff(Effect::Mm);
    // Locking has no effect that a program could see in memory, so replay does not need it.
    149 mlock(addr: ADDR, len: SIZE) .eff(Effect::Mm);
    325 mlock2(addr: ADDR, len: SIZE, flags: HEX) .eff(Effect::Mm);
    150 munlock(addr: ADDR, len: SIZE) .eff(Effect::Mm);
    151 mlockall(flags: HEX) .eff(Effect::Mm);
    152 munlockall() .eff(Effect::Mm);
    216 remap_file_pages(addr: ADDR, size: SIZE, prot: flags(&f::PROT), pgoff: SIZE,
        flags: flags(&f::MAP)) .special(Special::RemapFilePages) .eff(Effect::Mm);
    329 pkey_mprotect(addr: ADDR, len: SIZE, prot: flags(&f::PROT), pkey: INT)
        .special(Special::PkeyMprotect) .eff(Effect::Mm);
    330 pkey_alloc(flags: HEX, access_rights: HEX) .special(Special::PkeyAlloc) .eff(Effect::Mm);
    331 pkey_free(pkey: INT) .special(Special::PkeyFree) .eff(Effect::Mm);
    324 membarrier(cmd: oneof(&f::MEMBARRIER), flags: HEX, cpu_id: INT)
        .special(Special::Membarrier) .eff(Effect::Mm);
    462 mseal(addr: ADDR, len: SIZE, flags: HEX) .execute() .eff(Effect::Mm);
    453 map_shadow_stack(addr: ADDR, size: SIZE, flags: HEX) -> Addr
        .refuse(f::EOPNOTSUPP) .eff(Effect::Mm);
    323 userfaultfd(flags: HEX) -> Fd .refuse(f::ENOSYS) .eff(Effect::OpensFd);

    237 mbind(addr: ADDR, len: SIZE, mode: INT, nodemask: nodes_in::<4>(), maxnode: ULONG,
        flags: HEX)
        .eff(Effect::Mm);
    238 set_mempolicy(mode: INT, nodemask: nodes_in::<2>(), maxnode: ULONG) .eff(Effect::Mm);
    239 get_mempolicy(mode: sout(Shape::I32, 4),
        nodemask: output(Shape::U64s, Len::With(nodes::<2>), Out::Full), maxnode: ULONG, addr: ADDR,
        flags: HEX) .eff(Effect::Mm);
    450 set_mempolicy_home_node(start: ADDR, len: SIZE, home_node: ULONG, flags: HEX)
        .eff(Effect::Mm);
    256 migrate_pages(pid: PID, maxnode: ULONG, old_nodes: nodes_in::<1>(),
        new_nodes: nodes_in::<1>())
        .eff(Effect::OtherMm);
    // `pages` holds addresses of the other process; an error may come after some states were
    // written.
    279 move_pages(pid: PID, count: ULONG, pages: input(Shape::U64s, Len::Elems(1, 8)),
        nodes: input(Shape::I32s, Len::Elems(1, 4)),
        status: Ty::Ptr(gaps(pout(Shape::I32s, Len::Elems(1, 4), Out::Always))), flags: HEX)
        .eff(Effect::OtherMm);
    310 process_vm_readv(pid: PID, local_iov: iovec(2, IOV_OUT), liovcnt: ULONG,
        remote_iov: iovec(4, &[]), riovcnt: ULONG, flags: HEX) -> Size .eff(Effect::OtherMm);
    311 process_vm_writev(pid: PID, local_iov: iovec(2, IOV_IN), liovcnt: ULONG,
        remote_iov: iovec(4, &[]), riovcnt: ULONG, flags: HEX) -> Size
        .special(Special::ProcessVmWritev) .eff(Effect::OtherMm);
    440 process_madvise(pidfd: FD, iov: iovec(2, &[]), vlen: SIZE, advice: oneof(&f::MADVISE),
        flags: HEX) -> Size .special(Special::ProcessMadvise) .eff(Effect::OtherMm);
    448 process_mrelease(pidfd: FD, flags: HEX) .eff(Effect::OtherMm);
}
