//! Which memory calls reach, and what of it they write.

mod common;

use common::{Mem, case};
use scribe_syscalls::Dir::{In, InOut, Out};
use scribe_syscalls::{Class, Slot};

/// Addresses of test data.
const A: u64 = 0x10_000;
const B: u64 = 0x20_000;
const C: u64 = 0x30_000;
const D: u64 = 0x40_000;
/// Nothing is mapped here.
const WILD: u64 = 0xdead_0000;

const EFAULT: i64 = -14;
const EINTR: i64 = -4;

fn pages() -> Mem {
    let mut mem = Mem::default();
    for addr in [A, B, C, D] {
        mem.put(addr, &[0; 4096]);
    }
    mem
}

#[test]
fn read_and_write() {
    let m = pages();
    let c = case(&m, 0, &[3, A, 100]);
    assert_eq!(c.bufs(), [(Out, A, 100)]);
    assert_eq!(c.plan.bufs[0].slot, Slot::Arg(1));
    assert_eq!(c.out(7), [(A, 7)]);
    assert_eq!(c.out(0), []);
    assert_eq!(c.out(EFAULT), []);
    assert_eq!(
        case(&m, 0, &[3, A, u64::MAX]).bufs(),
        [(Out, A, 0x7fff_f000)]
    );
    assert_eq!(case(&m, 0, &[3, A, 0]).bufs(), []);
    assert_eq!(case(&m, 0, &[3, 0, 10]).bufs(), []);
    let c = case(&m, 1, &[3, A, 100]);
    assert_eq!(c.bufs(), [(In, A, 100)]);
    assert_eq!(c.out(100), []);
}

#[test]
fn paths() {
    let mut m = pages();
    m.put(A, b"/etc/passwd\0");
    // At the end of a mapping.
    m.put(B + 4096 - 4, b"/ab\0");
    assert_eq!(case(&m, 257, &[0, A, 0]).bufs(), [(In, A, 12)]);
    assert_eq!(case(&m, 2, &[B + 4092, 0]).bufs(), [(In, B + 4092, 4)]);
    // No NUL before the end of memory: EFAULT.
    m.put(C, &[b'x'; 4096]);
    assert_eq!(case(&m, 2, &[C + 10, 0]).bufs(), []);
    // Longer than PATH_MAX: ENAMETOOLONG.
    m.put(C + 4096, &[b'x'; 4096]);
    assert_eq!(case(&m, 2, &[C, 0]).bufs(), [(In, C, 4096)]);
    assert_eq!(case(&m, 2, &[WILD, 0]).bufs(), []);
}

#[test]
fn vectors() {
    let mut m = pages();
    m.words(A, &[B, 10, 0, 5, C, 20]);
    let c = case(&m, 19, &[3, A, 3]);
    assert_eq!(c.bufs(), [(In, A, 48), (Out, B, 10), (Out, C, 20)]);
    assert_eq!(c.plan.bufs[2].slot, Slot::Nested { buf: 0, off: 32 });
    // The null element counts with its five bytes.
    assert_eq!(c.out(18), [(B, 10), (C, 3)]);
    assert_eq!(c.out(4), [(B, 4)]);
    assert_eq!(
        case(&m, 20, &[3, A, 3]).bufs(),
        [(In, A, 48), (In, B, 10), (In, C, 20)]
    );
    // Too many, and unreadable.
    assert_eq!(case(&m, 19, &[3, A, 1025]).bufs(), []);
    assert_eq!(case(&m, 19, &[3, A, u64::MAX]).bufs(), []);
    assert_eq!(case(&m, 19, &[3, WILD, 2]).bufs(), []);
    // The total is cut to MAX_RW_COUNT.
    m.words(A, &[B, 0x7fff_0000, C, 0x7fff_0000]);
    let c = case(&m, 295, &[3, A, 2, 0, 0]);
    assert_eq!(
        c.bufs(),
        [(In, A, 32), (Out, B, 0x7fff_0000), (Out, C, 0xf000)]
    );
}

#[test]
fn names_of_sockets() {
    let mut m = pages();
    m.put(B, &16u32.to_le_bytes());
    let c = case(&m, 43, &[3, A, B]);
    assert_eq!(c.bufs(), [(Out, A, 16), (InOut, B, 4)]);
    assert_eq!(c.out(4), [(A, 16), (B, 4)]);
    // Shorter name than there is room.
    let mut c = case(&m, 43, &[3, A, B]);
    c.mem.put(B, &2u32.to_le_bytes());
    assert_eq!(c.out(4), [(A, 2), (B, 4)]);
    // Longer than there is room.
    c.mem.put(B, &110u32.to_le_bytes());
    assert_eq!(c.out(4), [(A, 16), (B, 4)]);
    assert_eq!(c.out(-11), []);
    // Negative or huge lengths.
    m.put(B, &u32::MAX.to_le_bytes());
    assert_eq!(case(&m, 51, &[3, A, B]).bufs(), [(InOut, B, 4)]);
    m.put(B, &70_000u32.to_le_bytes());
    assert_eq!(
        case(&m, 52, &[3, A, B]).bufs(),
        [(Out, A, 128), (InOut, B, 4)]
    );
    assert_eq!(case(&m, 42, &[3, A, 16]).bufs(), [(In, A, 16)]);
    assert_eq!(case(&m, 43, &[3, 0, 0]).bufs(), []);
}

#[test]
fn datagrams() {
    let mut m = pages();
    m.put(C, &16u32.to_le_bytes());
    let c = case(&m, 45, &[3, A, 64, 0x20, B, C]);
    assert_eq!(c.bufs(), [(Out, A, 64), (Out, B, 16), (InOut, C, 4)]);
    // MSG_TRUNC: the result is above the capacity.
    assert_eq!(c.out(1000), [(A, 64), (B, 16), (C, 4)]);
    let c = case(&m, 44, &[3, A, 64, 0, B, 16]);
    assert_eq!(c.bufs(), [(In, A, 64), (In, B, 16)]);
}

#[test]
fn messages() {
    let mut m = pages();
    // msghdr: name 16, one iovec of 32, control data 64.
    m.words(A, &[B, 16, A + 0x100, 1, C, 64, 0]);
    m.words(A + 0x100, &[D, 32]);
    let mut c = case(&m, 47, &[3, A, 0]);
    assert_eq!(
        c.bufs(),
        [
            (InOut, A, 56),
            (Out, B, 16),
            (In, A + 0x100, 16),
            (Out, D, 32),
            (InOut, C, 64)
        ]
    );
    assert_eq!(c.plan.bufs[1].slot, Slot::Nested { buf: 0, off: 0 });
    assert_eq!(c.plan.bufs[3].slot, Slot::Nested { buf: 2, off: 0 });
    assert_eq!(c.plan.bufs[4].slot, Slot::Nested { buf: 0, off: 32 });
    // After the call: a name of 8 bytes, 24 bytes of control data.
    c.mem.words(A, &[B, 8, A + 0x100, 1, C, 24, 0]);
    assert_eq!(
        c.out(5),
        [
            (A + 8, 4),
            (A + 40, 8),
            (A + 48, 4),
            (B, 8),
            (D, 5),
            (C, 24)
        ]
    );
    assert_eq!(c.out(-11), []);
    let c = case(&m, 46, &[3, A, 0]);
    assert_eq!(c.bufs()[0], (In, A, 56));
    assert!(c.bufs().iter().all(|b| b.0 == In));
    assert_eq!(c.out(5), []);
}

#[test]
fn many_messages() {
    let mut m = pages();
    for i in 0..2 {
        m.words(A + i * 64, &[0, 0, B + i * 16, 1, 0, 0, 0, 0]);
        m.words(B + i * 16, &[C + i * 100, 100]);
    }
    let mut c = case(&m, 299, &[3, A, 2, 0, 0]);
    assert_eq!(
        c.bufs(),
        [
            (InOut, A, 128),
            (In, B, 16),
            (Out, C, 100),
            (In, B + 16, 16),
            (Out, C + 100, 100)
        ]
    );
    c.mem.put(A + 56, &10u32.to_le_bytes());
    c.mem.put(A + 64 + 56, &20u32.to_le_bytes());
    let head = |a: u64| [(a + 8, 4), (a + 40, 8), (a + 48, 4), (a + 56, 4)];
    let mut want = head(A).to_vec();
    want.extend(head(A + 64));
    want.extend([(C, 10), (C + 100, 20)]);
    assert_eq!(c.out(2), want);
    // One message: nothing of the second counts.
    let mut want = head(A).to_vec();
    want.push((C, 10));
    assert_eq!(c.out(1), want);
    let c = case(&m, 307, &[3, A, 2, 0]);
    assert_eq!(c.out(1), [(A + 56, 4)]);
    assert_eq!(c.out(2), [(A + 56, 4), (A + 64 + 56, 4)]);
}

#[test]
fn socket_options() {
    let mut m = pages();
    m.put(B, &8u32.to_le_bytes());
    let mut c = case(&m, 55, &[3, 1, 4, A, B]);
    assert_eq!(c.bufs(), [(InOut, A, 8), (InOut, B, 4)]);
    c.mem.put(B, &4u32.to_le_bytes());
    assert_eq!(c.out(0), [(A, 4), (B, 4)]);
    // The length is written with ERANGE too.
    assert_eq!(c.out(-34), [(B, 4)]);
    // A filter holds a pointer.
    m.words(A, &[3, D]);
    assert_eq!(
        case(&m, 54, &[3, 1, 26, A, 16]).bufs(),
        [(In, A, 16), (In, D, 24)]
    );
    assert_eq!(case(&m, 54, &[3, 1, 2, A, 4]).bufs(), [(In, A, 4)]);
    assert_eq!(case(&m, 54, &[3, 1, 60, A, 4]).row.class, Class::Refuse(95));
    // The same number at another level is something else.
    assert_eq!(case(&m, 54, &[3, 6, 26, A, 4]).bufs(), [(In, A, 4)]);
}

#[test]
fn results_that_are_lengths() {
    let m = pages();
    assert_eq!(case(&m, 79, &[A, 100]).out(5), [(A, 5)]);
    // Padding between the entries is left as it was.
    let c = case(&m, 217, &[3, A, 1000]);
    assert_eq!(c.bufs(), [(InOut, A, 1000)]);
    assert!(!c.plan.bufs[0].input);
    assert_eq!(c.out(48), [(A, 48)]);
    assert_eq!(case(&m, 318, &[A, 16, 0]).out(16), [(A, 16)]);
    assert_eq!(case(&m, 204, &[0, 128, A]).out(8), [(A, 8)]);
    assert_eq!(case(&m, 115, &[32, A]).out(3), [(A, 12)]);
    assert_eq!(case(&m, 115, &[0, A]).bufs(), []);
    assert_eq!(case(&m, 208, &[1, 1, 4, A, 0]).out(2), [(A, 64)]);
    let mut m = pages();
    m.put(B, b"user.x\0");
    m.put(C, b"/f\0");
    let c = case(&m, 191, &[C, B, A, 100]);
    assert_eq!(c.out(9), [(A, 9)]);
    // Asking for the size.
    let c = case(&m, 191, &[C, B, A, 0]);
    assert_eq!(c.out(9), []);
    assert_eq!(case(&m, 89, &[C, A, 64]).out(3), [(A, 3)]);
}

#[test]
fn message_queues() {
    let m = pages();
    let c = case(&m, 70, &[1, A, 100, 0, 0]);
    assert_eq!(c.bufs(), [(Out, A, 108)]);
    assert_eq!(c.out(10), [(A, 18)]);
    assert_eq!(c.out(0), [(A, 8)]);
    assert_eq!(c.out(-42), []);
    assert_eq!(case(&m, 69, &[1, A, 100, 0]).bufs(), [(In, A, 108)]);
    let c = case(&m, 243, &[3, A, 100, B, 0]);
    assert_eq!(c.out(10), [(A, 10), (B, 4)]);
    // A notification by a thread points to a cookie.
    let mut m = pages();
    m.words(A, &[B, 2 << 32]);
    assert_eq!(case(&m, 244, &[3, A]).bufs(), [(In, A, 64), (In, B, 32)]);
    m.words(A, &[B, 0]);
    assert_eq!(case(&m, 244, &[3, A]).bufs(), [(In, A, 64)]);
}

#[test]
fn ipc_control() {
    let m = pages();
    assert_eq!(case(&m, 31, &[1, 2, A]).out(0), [(A, 112)]);
    assert_eq!(case(&m, 71, &[1, 2, A]).out(0), [(A, 120)]);
    assert_eq!(case(&m, 66, &[1, 0, 2, A]).out(0), [(A, 104)]);
    let c = case(&m, 66, &[1, 0, 13, A]);
    assert!(matches!(c.row.class, Class::Special(_)));
    // As much as is mapped.
    assert_eq!(c.bufs(), [(InOut, A, 4096)]);
    assert_eq!(case(&m, 66, &[1, 0, 16, 5]).bufs(), []);
    assert_eq!(case(&m, 66, &[1, 0, 99, 5]).row.class, Class::Refuse(22));
}

#[test]
fn waiting() {
    let m = pages();
    let c = case(&m, 61, &[u64::MAX, A, 1, B]);
    assert_eq!(c.out(100), [(A, 4), (B, 144)]);
    // WNOHANG without a child: nothing is written.
    assert_eq!(c.out(0), []);
    assert_eq!(c.out(-10), []);
    let c = case(&m, 247, &[0, 0, A, 4, B]);
    assert_eq!(c.bufs(), [(Out, A, 128), (InOut, B, 144)]);
    assert_eq!(c.out(0), [(A, 12), (A + 16, 12), (B, 144)]);
    // The information is cleared if the call fails.
    assert_eq!(c.out(-10), [(A, 12), (A + 16, 12)]);
    assert_eq!(c.out(EFAULT), []);
}

#[test]
fn polling() {
    let m = pages();
    let c = case(&m, 271, &[A, 3, B, C, 8]);
    assert_eq!(c.bufs(), [(InOut, A, 24), (InOut, B, 16), (In, C, 8)]);
    assert!(c.plan.bufs[2].sigmask);
    assert_eq!(c.out(1), [(A, 24), (B, 16)]);
    assert_eq!(c.out(EINTR), [(A, 24), (B, 16)]);
    // 65 descriptors: two words.
    let c = case(&m, 23, &[65, A, 0, B, C]);
    assert_eq!(c.bufs(), [(InOut, A, 16), (InOut, B, 16), (InOut, C, 16)]);
    assert_eq!(c.out(2), [(A, 16), (B, 16), (C, 16)]);
    assert_eq!(c.out(EINTR), [(C, 16)]);
    // The kernel reads no more than its table of descriptors is long.
    let c = case(&m, 23, &[0x7fff_ffff, A, 0, 0, 0]);
    assert_eq!(c.bufs(), [(InOut, A, 4096)]);
    let mut m = pages();
    m.words(D, &[C, 8]);
    let c = case(&m, 270, &[1, A, 0, 0, B, D]);
    assert_eq!(
        c.bufs(),
        [(InOut, A, 8), (InOut, B, 16), (In, D, 16), (In, C, 8)]
    );
    assert!(c.plan.bufs[3].sigmask);
    let c = case(&m, 281, &[3, A, 10, 0, C, 8]);
    assert_eq!(c.bufs(), [(Out, A, 120), (In, C, 8)]);
    assert_eq!(c.out(2), [(A, 24)]);
    assert_eq!(case(&m, 232, &[3, A, u64::MAX, 0]).bufs(), []);
    // Rubbish above the 32 bits of an int does not count.
    assert_eq!(
        case(&m, 232, &[3, A, 0xffff_0000_0000_0002, 0]).bufs(),
        [(Out, A, 24)]
    );
}

#[test]
fn sleeping() {
    let m = pages();
    let c = case(&m, 35, &[A, B]);
    assert_eq!(c.out(0), []);
    assert_eq!(c.out(EINTR), [(B, 16)]);
    assert_eq!(c.out(-516), [(B, 16)]);
    assert_eq!(c.out(-22), []);
    assert_eq!(case(&m, 230, &[0, 0, A, B]).out(EINTR), [(B, 16)]);
    // TIMER_ABSTIME: nothing remains.
    assert_eq!(case(&m, 230, &[0, 1, A, B]).bufs(), [(In, A, 16)]);
}

#[test]
fn signals() {
    let m = pages();
    let c = case(&m, 13, &[2, A, B, 8]);
    assert_eq!(c.bufs(), [(In, A, 32), (Out, B, 32)]);
    assert_eq!(c.out(0), [(B, 32)]);
    let c = case(&m, 14, &[0, A, B, 8]);
    assert_eq!(c.bufs(), [(In, A, 8), (Out, B, 8)]);
    let c = case(&m, 128, &[A, B, C, 8]);
    assert_eq!(c.out(2), [(B, 128)]);
    assert_eq!(c.out(-11), []);
    assert!(case(&m, 130, &[A, 8]).plan.bufs[0].sigmask);
}

#[test]
fn programs() {
    let mut m = pages();
    m.put(A, b"/bin/ls\0");
    m.words(B, &[C, C + 16, 0]);
    m.put(C, b"ls\0");
    m.put(C + 16, b"-l\0");
    m.words(D, &[0]);
    let c = case(&m, 59, &[A, B, D]);
    assert_eq!(
        c.bufs(),
        [
            (In, A, 8),
            (In, B, 24),
            (In, C, 3),
            (In, C + 16, 3),
            (In, D, 8)
        ]
    );
    assert_eq!(c.plan.bufs[3].slot, Slot::Nested { buf: 1, off: 8 });
    // A vector without an end.
    m.words(B, &[C; 512]);
    assert_eq!(case(&m, 59, &[A, B, 0]).bufs(), [(In, A, 8)]);
}

#[test]
fn tasks() {
    let mut m = pages();
    // CLONE_PARENT_SETTID
    assert_eq!(case(&m, 56, &[0x10_0011, 0, A, B, 0]).bufs(), [(Out, A, 4)]);
    assert_eq!(case(&m, 56, &[0x11, 0, A, B, 0]).bufs(), []);
    // clone_args with CLONE_PIDFD and a set_tid of two.
    m.words(A, &[0x1000, B, 0, C, 17, 0, 0, 0, D, 2, 0]);
    let c = case(&m, 435, &[A, 88]);
    assert_eq!(c.bufs(), [(In, A, 88), (Out, B, 4), (In, D, 8)]);
    assert_eq!(c.out(100), [(B, 4)]);
    // A first version of the structure has no set_tid.
    assert_eq!(case(&m, 435, &[A, 64]).bufs(), [(In, A, 64), (Out, B, 4)]);
}

#[test]
fn limits_and_capabilities() {
    let mut m = pages();
    let c = case(&m, 302, &[0, 7, A, B]);
    assert_eq!(c.bufs(), [(In, A, 16), (Out, B, 16)]);
    m.put(A, &0x2008_0522u32.to_le_bytes());
    assert_eq!(case(&m, 125, &[A, B]).bufs(), [(InOut, A, 8), (Out, B, 24)]);
    // The kernel tells the version that it wants.
    m.put(A, &0u32.to_le_bytes());
    let c = case(&m, 125, &[A, B]);
    assert_eq!(c.bufs(), [(InOut, A, 8)]);
    assert_eq!(c.out(-22), [(A, 8)]);
}

#[test]
fn memory() {
    let mut m = pages();
    let c = case(&m, 27, &[0x1000, 4097, A]);
    assert_eq!(c.out(0), [(A, 2)]);
    let c = case(&m, 239, &[A, B, 65, 0, 0]);
    assert_eq!(c.bufs(), [(Out, A, 4), (Out, B, 8)]);
    let c = case(&m, 279, &[0, 2, A, 0, B, 0]);
    assert_eq!(c.bufs(), [(In, A, 16), (InOut, B, 8)]);
    // Addresses in another process are not followed.
    m.words(A, &[B, 10]);
    m.words(C, &[0x7000_0000, 10]);
    let c = case(&m, 310, &[1, A, 1, C, 1, 0]);
    assert_eq!(c.bufs(), [(In, A, 16), (Out, B, 10), (In, C, 16)]);
    assert_eq!(c.out(6), [(B, 6)]);
}

#[test]
fn offsets() {
    let m = pages();
    let c = case(&m, 40, &[1, 3, A, 100]);
    assert_eq!(c.bufs(), [(InOut, A, 8)]);
    assert_eq!(c.out(50), [(A, 8)]);
    let c = case(&m, 326, &[1, A, 3, B, 100, 0]);
    assert_eq!(c.out(50), [(A, 8), (B, 8)]);
}

#[test]
fn futexes() {
    let m = pages();
    // The word itself is no buffer, whatever flags the command has.
    for op in [0, 128, 128 | 256] {
        assert_eq!(case(&m, 202, &[A, op, 1, B]).bufs(), [(In, B, 16)]);
    }
    let c = case(&m, 202, &[A, 5 | 128, 1, 1, B, 0]);
    assert_eq!(c.bufs(), [(InOut, B, 4)]);
    assert!(c.plan.bufs[0].in_place);
    assert_eq!(case(&m, 202, &[A, 99]).row.class, Class::Refuse(38));
    assert_eq!(
        case(&m, 449, &[A, 3, 0, B, 1]).bufs(),
        [(In, A, 72), (In, B, 16)]
    );
}

#[test]
fn device_control() {
    let mut m = pages();
    assert_eq!(case(&m, 16, &[0, 0x5413, A]).out(0), [(A, 8)]);
    assert_eq!(case(&m, 16, &[0, 0x5401, A]).out(0), [(A, 36)]);
    assert_eq!(case(&m, 16, &[0, 0x5402, A]).bufs(), [(In, A, 36)]);
    // The number is 32 bits wide.
    assert_eq!(
        case(&m, 16, &[0, 0xffff_ffff_0000_541b, A]).out(0),
        [(A, 4)]
    );
    // SIOCGIFCONF: length and pointer.
    m.words(A, &[80, B]);
    let mut c = case(&m, 16, &[3, 0x8912, A]);
    assert_eq!(c.bufs(), [(InOut, A, 16), (Out, B, 80)]);
    c.mem.words(A, &[40, B]);
    assert_eq!(c.out(0), [(A, 4), (B, 40)]);
    // Names of input devices carry their length in the number.
    assert_eq!(case(&m, 16, &[3, 0x8040_4506, A]).out(9), [(A, 9)]);
    assert_eq!(case(&m, 16, &[3, 0x8008_4523, A]).bufs(), [(Out, A, 8)]);
    // SIOCETHTOOL: a pointer, to what the command says.
    m.words(A, &[0, 0, B]);
    m.words(B, &[3]);
    assert_eq!(
        case(&m, 16, &[3, 0x8946, A]).bufs(),
        [(InOut, A, 40), (InOut, B, 196)]
    );
    // What is unknown.
    for cmd in [0x8930, 0xc020_6464] {
        assert!(
            scribe_syscalls::lookup(&scribe_syscalls::Call {
                nr: 16,
                args: [3, cmd, A, 0, 0, 0]
            })
            .is_none()
        );
    }
}

#[test]
fn file_control() {
    let m = pages();
    assert_eq!(case(&m, 72, &[3, 5, A]).out(0), [(A, 32)]);
    assert_eq!(case(&m, 72, &[3, 7, A]).bufs(), [(In, A, 32)]);
    assert_eq!(case(&m, 72, &[3, 0, 10]).bufs(), []);
    assert_eq!(case(&m, 72, &[3, 16, A]).out(0), [(A, 8)]);
    assert_eq!(case(&m, 72, &[3, 77, A]).row.class, Class::Refuse(22));
}

#[test]
fn process_control() {
    let mut m = pages();
    m.put(A, b"a name that is too long\0");
    assert_eq!(case(&m, 157, &[15, A]).bufs(), [(In, A, 16)]);
    assert_eq!(case(&m, 157, &[16, A]).out(0), [(A, 16)]);
    assert_eq!(case(&m, 157, &[62, 0, 0, 0, B]).out(0), [(B, 8)]);
    assert_eq!(case(&m, 157, &[62, 1, 0, 0, B]).bufs(), []);
    assert_eq!(case(&m, 157, &[0x4155_5856, A, 100]).out(400), [(A, 100)]);
    m.words(A, &[2, B]);
    assert_eq!(
        case(&m, 157, &[22, 2, A]).bufs(),
        [(In, A, 16), (In, B, 16)]
    );
    assert_eq!(case(&m, 157, &[22, 1, A]).bufs(), []);
    assert_eq!(case(&m, 158, &[0x1003, A]).out(0), [(A, 8)]);
    assert_eq!(case(&m, 158, &[0x1002, A]).bufs(), []);
    assert_eq!(case(&m, 158, &[0x3001, A]).row.class, Class::Refuse(22));
}

#[test]
fn tracing() {
    let mut m = pages();
    assert_eq!(case(&m, 101, &[1, 5, 0x1234, A]).out(0), [(A, 8)]);
    m.words(A, &[B, 512]);
    let mut c = case(&m, 101, &[0x4204, 5, 1, A]);
    assert_eq!(c.bufs(), [(InOut, A, 16), (Out, B, 512)]);
    c.mem.words(A, &[B, 216]);
    assert_eq!(c.out(0), [(A + 8, 8), (B, 216)]);
    assert_eq!(case(&m, 101, &[0x420e, 5, 88, A]).out(33), [(A, 33)]);
}

#[test]
fn handles_and_mounts() {
    let mut m = pages();
    m.put(A, b"/\0");
    m.put(B, &8u32.to_le_bytes());
    let c = case(&m, 303, &[0, A, B, C, 0]);
    assert_eq!(c.bufs(), [(In, A, 2), (InOut, B, 16), (InOut, C, 4)]);
    // EOVERFLOW tells the size.
    assert_eq!(c.out(-75), [(B, 16), (C, 4)]);
    assert_eq!(case(&m, 303, &[0, A, B, C, 1]).bufs()[2], (InOut, C, 8));
    m.put(B, &32u32.to_le_bytes());
    m.put(C, &600u32.to_le_bytes());
    let c = case(&m, 457, &[B, C, 1000, 0]);
    assert_eq!(c.bufs(), [(In, B, 32), (Out, C, 1000)]);
    assert_eq!(c.out(0), [(C, 600)]);
    assert_eq!(case(&m, 458, &[B, C, 10, 0]).out(3), [(C, 24)]);
}

#[test]
fn keys() {
    let m = pages();
    // What does not fit is not written.
    let c = case(&m, 250, &[6, 1, A, 10]);
    assert_eq!(c.out(8), [(A, 8)]);
    assert_eq!(c.out(20), []);
}

#[test]
fn submitted_io() {
    let mut m = pages();
    m.words(A, &[B, C]);
    let c = case(&m, 209, &[1, 2, A]);
    assert_eq!(c.bufs(), [(In, A, 16), (InOut, B, 64), (InOut, C, 64)]);
    assert!(c.plan.bufs[1].in_place);
    assert_eq!(c.out(2), [(B + 8, 4), (C + 8, 4)]);
}

#[test]
fn attributes() {
    let mut m = pages();
    m.put(A, b"/f\0");
    m.put(A + 64, b"user.a\0");
    m.words(B, &[C, 100]);
    let c = case(&m, 464, &[0, A, 0, A + 64, B, 16]);
    assert_eq!(
        c.bufs(),
        [(In, A, 3), (In, A + 64, 7), (In, B, 16), (Out, C, 100)]
    );
    assert_eq!(c.out(7), [(C, 7)]);
}

#[test]
fn kernel_addresses() {
    let m = pages();
    assert_eq!(case(&m, 0, &[3, u64::MAX - 5, 100]).bufs(), []);
    assert_eq!(
        case(&m, 0, &[3, (1 << 56) - 5, 100]).bufs(),
        [(Out, (1 << 56) - 5, 5)]
    );
}

#[test]
fn data_of_asynchronous_writes() {
    const PREAD: u64 = 0;
    const PWRITE: u64 = 1;
    const PWRITEV: u64 = 8;
    let mut m = pages();
    m.words(A, &[B, B + 64, B + 128]);
    let iocb = |opcode, buf, len| [7, 0, opcode | 5 << 32, buf, len, 0, 0, 0];
    m.words(B, &iocb(PREAD, C, 100));
    m.words(B + 64, &iocb(PWRITE, C, 30));
    m.words(B + 128, &iocb(PWRITEV, D, 2));
    m.words(D, &[C + 1, 4, C + 2, 5]);
    let c = case(&m, 209, &[1, 3, A]);
    assert_eq!(
        c.bufs(),
        [
            (In, A, 24),
            (InOut, B, 64),
            (InOut, B + 64, 64),
            (In, C, 30),
            (InOut, B + 128, 64),
            (In, D, 32),
            (In, C + 1, 4),
            (In, C + 2, 5),
        ]
    );
}
