//! Calls as text.

mod common;

use common::{Mem, case};
use scribe_syscalls::{
    Call, FormatOpts, errno_name, errno_text, format_args, format_call, format_unknown, signal_name,
};

const A: u64 = 0x10_000;
const B: u64 = 0x20_000;
const C: u64 = 0x30_000;
const D: u64 = 0x40_000;
const CWD: u64 = -100i64 as u64;

fn pages() -> Mem {
    let mut mem = Mem::default();
    for addr in [A, B, C, D] {
        mem.put(addr, &[0; 4096]);
    }
    mem
}

#[track_caller]
fn check(mem: &Mem, nr: u32, args: &[u64], ret: i64, want: &str) {
    let c = case(mem, nr, args);
    assert_eq!(
        format_call(c.row, &c.call, ret, mem, &FormatOpts::default()),
        want
    );
}

#[test]
fn files() {
    let mut m = pages();
    m.put(A, b"/etc/passwd\0");
    check(
        &m,
        257,
        &[CWD, A, 0o2_000_000],
        3,
        r#"openat(AT_FDCWD, "/etc/passwd", O_RDONLY|O_CLOEXEC) = 3"#,
    );
    check(
        &m,
        257,
        &[3, A, 0o102, 0o644],
        -2,
        r#"openat(3, "/etc/passwd", O_RDWR|O_CREAT, 0644) = -1 ENOENT (No such file or directory)"#,
    );
    check(
        &m,
        257,
        &[CWD, 0x99, 0],
        -14,
        "openat(AT_FDCWD, 0x99, O_RDONLY) = -1 EFAULT (Bad address)",
    );
    check(&m, 21, &[A, 4], 0, r#"access("/etc/passwd", R_OK) = 0"#);
    check(&m, 21, &[A, 0], 0, r#"access("/etc/passwd", F_OK) = 0"#);
    check(&m, 3, &[3], 0, "close(3) = 0");
    check(
        &m,
        8,
        &[3, -5i64 as u64, 1],
        10,
        "lseek(3, -5, SEEK_CUR) = 10",
    );
    check(&m, 95, &[0o22], 0o77, "umask(022) = 077");
    check(
        &m,
        72,
        &[3, 3],
        0x8002,
        "fcntl(3, F_GETFL) = 0x8002 (flags O_RDWR|O_LARGEFILE)",
    );
    check(&m, 72, &[3, 2, 1], 0, "fcntl(3, F_SETFD, FD_CLOEXEC) = 0");
    check(
        &m,
        72,
        &[3, 1],
        1,
        "fcntl(3, F_GETFD) = 0x1 (flags FD_CLOEXEC)",
    );
    check(
        &m,
        72,
        &[3, 1030, 10],
        10,
        "fcntl(3, F_DUPFD_CLOEXEC, 10) = 10",
    );
}

#[test]
fn data() {
    let mut m = pages();
    m.put(A, b"a\"b\\c\n\t\x01\x012\xff and then a good deal more");
    check(
        &m,
        1,
        &[1, A, 12],
        12,
        r#"write(1, "a\"b\\c\n\t\1\0012\377 ", 12) = 12"#,
    );
    check(&m, 0, &[3, A, 100], 1, r#"read(3, "a", 100) = 1"#);
    check(&m, 0, &[3, A, 100], 0, r#"read(3, "", 100) = 0"#);
    check(
        &m,
        0,
        &[3, A, 100],
        -11,
        "read(3, 0x10000, 100) = -1 EAGAIN (Resource temporarily unavailable)",
    );
    check(
        &m,
        1,
        &[1, B, 40],
        -512,
        &format!(
            r#"write(1, "{}"..., 40) = ? ERESTARTSYS (To be restarted if SA_RESTART is set)"#,
            r"\0".repeat(32)
        ),
    );
    let c = case(&m, 0, &[3, A, 100]);
    assert_eq!(
        format_args(c.row, &c.call, &m, &FormatOpts::default()),
        "read(3, 0x10000, 100)"
    );
    m.put(C, b"hello");
    m.words(B, &[C, 5, 0, 0]);
    check(
        &m,
        20,
        &[1, B, 2],
        5,
        r#"writev(1, [{iov_base="hello", iov_len=5}, {iov_base=NULL, iov_len=0}], 2) = 5"#,
    );
    check(
        &m,
        19,
        &[1, B, 1],
        2,
        r#"readv(1, [{iov_base="he", iov_len=5}], 1) = 2"#,
    );
}

#[test]
fn metadata() {
    let mut m = pages();
    m.put(A + 24, &0o100_644u32.to_le_bytes())
        .words(A + 48, &[1234]);
    check(
        &m,
        5,
        &[3, A],
        0,
        "fstat(3, {st_mode=S_IFREG|0644, st_size=1234, ...}) = 0",
    );
    m.put(A + 24, &0o020_620u32.to_le_bytes())
        .words(A + 40, &[0x8803]);
    check(
        &m,
        5,
        &[0, A],
        0,
        "fstat(0, {st_mode=S_IFCHR|0620, st_rdev=makedev(0x88, 0x3), ...}) = 0",
    );
    m.put(B + 16, &24u16.to_le_bytes())
        .put(B + 40, &32u16.to_le_bytes());
    check(
        &m,
        217,
        &[3, B, 1000],
        56,
        "getdents64(3, 0x20000 /* 2 entries */, 1000) = 56",
    );
    check(
        &m,
        217,
        &[3, B, 1000],
        0,
        "getdents64(3, 0x20000, 1000) = 0",
    );
}

#[test]
fn memory() {
    let m = pages();
    check(
        &m,
        9,
        &[0, 8192, 3, 0x22, u64::MAX, 0],
        0x7f00_0000_0000,
        "mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000",
    );
    check(
        &m,
        10,
        &[0x1000, 4096, 0],
        0,
        "mprotect(0x1000, 4096, PROT_NONE) = 0",
    );
    check(&m, 12, &[0], 0x55_0000, "brk(NULL) = 0x550000");
    check(
        &m,
        28,
        &[0x1000, 4096, 4],
        0,
        "madvise(0x1000, 4096, MADV_DONTNEED) = 0",
    );
}

#[test]
fn processes() {
    let mut m = pages();
    m.put(A, b"/bin/ls\0");
    m.words(B, &[C, C + 16, 0])
        .put(C, b"ls\0")
        .put(C + 16, b"-l\0");
    m.words(D, &[C, 0]);
    check(
        &m,
        59,
        &[A, B, D],
        0,
        r#"execve("/bin/ls", ["ls", "-l"], 0x40000 /* 1 var */) = 0"#,
    );
    m.put(A, &0x0100u32.to_le_bytes());
    check(
        &m,
        61,
        &[u64::MAX, A, 0, 0],
        7,
        "wait4(-1, [{WIFEXITED(s) && WEXITSTATUS(s) == 1}], 0, NULL) = 7",
    );
    m.put(A, &0x8bu32.to_le_bytes());
    check(
        &m,
        61,
        &[u64::MAX, A, 1, 0],
        7,
        "wait4(-1, [{WIFSIGNALED(s) && WTERMSIG(s) == SIGSEGV && WCOREDUMP(s)}], WNOHANG, NULL) = 7",
    );
    check(&m, 231, &[0], 0, "exit_group(0) = ?");
    check(
        &m,
        56,
        &[0x1200011, 0, 0, 0, 0],
        9,
        "clone(SIGCHLD|CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID, NULL, NULL, NULL, NULL) = 9",
    );
    m.words(A, &[8192 * 1024, u64::MAX]);
    check(
        &m,
        302,
        &[0, 3, 0, A],
        0,
        "prlimit64(0, RLIMIT_STACK, NULL, {rlim_cur=8192*1024, rlim_max=RLIM64_INFINITY}) = 0",
    );
}

#[test]
fn signals() {
    let mut m = pages();
    m.words(A, &[0x4000, 0x1400_0000, 0x5000, 1 << 1 | 1 << 14]);
    check(
        &m,
        13,
        &[2, A, 0, 8],
        0,
        "rt_sigaction(SIGINT, {sa_handler=0x4000, sa_mask=[INT TERM], \
         sa_flags=SA_RESTORER|SA_RESTART, sa_restorer=0x5000}, NULL, 8) = 0",
    );
    m.words(B, &[!(1 << 1)]);
    check(
        &m,
        14,
        &[2, B, 0, 8],
        0,
        "rt_sigprocmask(SIG_SETMASK, ~[INT], NULL, 8) = 0",
    );
    check(&m, 234, &[5, 6, 34], 0, "tgkill(5, 6, SIGRT_2) = 0");
    check(
        &m,
        62,
        &[5, 0],
        -3,
        "kill(5, 0) = -1 ESRCH (No such process)",
    );
    m.words(A, &[17, 1, 5 | 1000 << 32, 3]);
    check(
        &m,
        247,
        &[0, 0, A, 4, 0],
        0,
        "waitid(P_ALL, 0, {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=5, si_uid=1000, \
         si_status=3}, WEXITED, NULL) = 0",
    );
}

#[test]
fn waiting() {
    let mut m = pages();
    m.words(A, &[3 | 1 << 32 | 1 << 48, 4 | 1 << 32]);
    check(
        &m,
        7,
        &[A, 2, u64::MAX],
        1,
        "poll([{fd=3, events=POLLIN}, {fd=4, events=POLLIN}], 2, -1) = 1 \
         ([{fd=3, revents=POLLIN}])",
    );
    check(&m, 7, &[0, 0, 10], 0, "poll(NULL, 0, 10) = 0 (Timeout)");
    m.words(B, &[0b1001]);
    check(
        &m,
        23,
        &[5, B, 0, 0, 0],
        1,
        "select(5, [0 3], NULL, NULL, NULL) = 1",
    );
    m.put(C, &1u32.to_le_bytes()).words(C + 4, &[7]);
    check(
        &m,
        233,
        &[4, 1, 3, C],
        0,
        "epoll_ctl(4, EPOLL_CTL_ADD, 3, {events=EPOLLIN, data={u32=7, u64=7}}) = 0",
    );
    check(
        &m,
        232,
        &[4, C, 8, u64::MAX],
        1,
        "epoll_wait(4, [{events=EPOLLIN, data={u32=7, u64=7}}], 8, -1) = 1",
    );
    m.words(D, &[1, 500]);
    check(
        &m,
        202,
        &[0x9000, 128, 2, D],
        -110,
        "futex(0x9000, FUTEX_WAIT_PRIVATE, 2, {tv_sec=1, tv_nsec=500}) = -1 ETIMEDOUT \
         (Connection timed out)",
    );
    check(
        &m,
        35,
        &[D, 0],
        0,
        "nanosleep({tv_sec=1, tv_nsec=500}, NULL) = 0",
    );
    check(
        &m,
        228,
        &[1, D],
        0,
        "clock_gettime(CLOCK_MONOTONIC, {tv_sec=1, tv_nsec=500}) = 0",
    );
}

#[test]
fn sockets() {
    let mut m = pages();
    check(
        &m,
        41,
        &[2, 0o2_000_001, 0],
        3,
        "socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, 0) = 3",
    );
    m.put(A, &[2, 0, 0x1f, 0x90, 127, 0, 0, 1]);
    check(
        &m,
        42,
        &[3, A, 16],
        0,
        r#"connect(3, {sa_family=AF_INET, sin_port=htons(8080), sin_addr=inet_addr("127.0.0.1")}, 16) = 0"#,
    );
    m.put(B, b"\x01\0/run/x\0");
    check(
        &m,
        49,
        &[3, B, 9],
        0,
        r#"bind(3, {sa_family=AF_UNIX, sun_path="/run/x"}, 9) = 0"#,
    );
    m.put(B, b"\x01\0\0abs");
    check(
        &m,
        49,
        &[3, B, 6],
        0,
        r#"bind(3, {sa_family=AF_UNIX, sun_path=@"abs"}, 6) = 0"#,
    );
    m.put(C, &1u32.to_le_bytes());
    check(
        &m,
        54,
        &[3, 1, 2, C, 4],
        0,
        "setsockopt(3, SOL_SOCKET, SO_REUSEADDR, [1], 4) = 0",
    );
    let mut m = pages();
    // Received: one byte and one descriptor.
    m.words(A, &[0, 0, B, 1, C, 24, 0]);
    m.words(B, &[D, 10]).put(D, b"xyz");
    m.words(C, &[20, 1 | 1 << 32, 7]);
    check(
        &m,
        47,
        &[3, A, 0],
        1,
        "recvmsg(3, {msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base=\"x\", iov_len=10}], \
         msg_iovlen=1, msg_control=[{cmsg_len=20, cmsg_level=SOL_SOCKET, cmsg_type=SCM_RIGHTS, \
         cmsg_data=[7]}], msg_controllen=24, msg_flags=0}, 0) = 1",
    );
    m.words(A, &[5 | 6 << 32]);
    check(
        &m,
        53,
        &[1, 1, 0, A],
        0,
        "socketpair(AF_UNIX, SOCK_STREAM, 0, [5, 6]) = 0",
    );
}

#[test]
fn terminals() {
    let mut m = pages();
    for (i, flag) in [0x4500u32, 5, 0xbf, 0x8a3b].iter().enumerate() {
        m.put(A + 4 * i as u64, &flag.to_le_bytes());
    }
    check(
        &m,
        16,
        &[0, 0x5401, A],
        0,
        "ioctl(0, TCGETS, {B38400 opost isig icanon echo ...}) = 0",
    );
    check(
        &m,
        16,
        &[1, 0x5401, A],
        -25,
        "ioctl(1, TCGETS, 0x10000) = -1 ENOTTY (Inappropriate ioctl for device)",
    );
    m.put(B, &[24, 0, 80, 0]);
    check(
        &m,
        16,
        &[0, 0x5413, B],
        0,
        "ioctl(0, TIOCGWINSZ, {ws_row=24, ws_col=80, ws_xpixel=0, ws_ypixel=0}) = 0",
    );
    check(&m, 157, &[15, C], 0, r#"prctl(PR_SET_NAME, "") = 0"#);
}

#[test]
fn names() {
    assert_eq!(errno_name(11), Some("EAGAIN"));
    assert_eq!(errno_text(95), Some("Operation not supported"));
    assert_eq!(signal_name(9), Some("SIGKILL"));
    assert_eq!(signal_name(32), Some("SIGRTMIN"));
    assert_eq!(signal_name(65), None);
    assert_eq!(signal_name(0), None);
    assert_eq!(scribe_syscalls::signal_by_name("SIGSYS"), Some(31));
    assert_eq!(scribe_syscalls::errno_by_name("ENOSYS"), Some(38));
    let call = Call {
        nr: 9999,
        args: [1, 2, 3, 4, 5, 6],
    };
    assert_eq!(
        format_unknown(&call),
        "syscall_9999(0x1, 0x2, 0x3, 0x4, 0x5, 0x6)"
    );
    assert!(scribe_syscalls::unknown_is_enosys(9999));
    assert!(scribe_syscalls::unknown_is_enosys(400));
    assert!(!scribe_syscalls::unknown_is_enosys(0));
}
