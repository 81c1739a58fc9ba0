//! Credentials, capabilities, seccomp, landlock and security modules.

use crate::arg::{Ctx, Field, Len, Out, Shape, Ty};
use crate::call::Special;
use crate::dsl::*;
use crate::effect::Effect;
use crate::flags as f;

/// `cap_user_data_t`: one element in version 1, two in versions 2 and 3 (kernel/capability.c). An
/// unknown version is only told the right one.
fn cap_data_len(ctx: &Ctx) -> u64 {
    match ctx.mem.read_u32(ctx.call.args[0]) {
        Some(0x1998_0330) => 12,
        Some(0x2007_1026 | 0x2008_0522) => 24,
        _ => 0,
    }
}

/// `struct landlock_path_beneath_attr` (packed) or `landlock_net_port_attr`.
fn landlock_rule_len(ctx: &Ctx) -> u64 {
    match ctx.call.args[1] as u32 {
        1 => 12,
        2 => 16,
        _ => 0,
    }
}

/// `struct sock_fprog`: a count of eight-byte instructions and a pointer to them.
pub(crate) const FPROG: &[Field] = &[field(8, pin(Shape::Opaque, Len::FieldElems(0, 2, 8)))];
/// A BPF program of the classic kind.
pub(crate) const SOCK_FPROG: Ty = Ty::Ptr(nest(pin(Shape::Opaque, Len::Fixed(16)), 0, FPROG));
const CAP_HEADER: Ty = inout(Shape::CapHeader, Len::Fixed(8), Out::Always);
const CRED: Effect = Effect::Creds;
/// Size of the context of a security module: written back with E2BIG too.
const LSM_SIZE: Ty = inout(Shape::U32, Len::Fixed(4), Out::Always);
const ID_OUT: Ty = sout(Shape::U32, 4);

/// Modules in the list, by its size after the call.
const LSM_CTX: Ty = inout(Shape::Opaque, Len::AtPtr(2), Out::AtPtr(2));

rows! { ROWS:
    102 getuid() -> Id;
    104 getgid() -> Id;
    107 geteuid() -> Id;
    108 getegid() -> Id;
    105 setuid(uid: ID) .eff(CRED);
    106 setgid(gid: ID) .eff(CRED);
    113 setreuid(ruid: ID, euid: ID) .eff(CRED);
    114 setregid(rgid: ID, egid: ID) .eff(CRED);
    117 setresuid(ruid: ID, euid: ID, suid: ID) .eff(CRED);
    118 getresuid(ruid: ID_OUT, euid: ID_OUT, suid: ID_OUT);
    119 setresgid(rgid: ID, egid: ID, sgid: ID) .eff(CRED);
    120 getresgid(rgid: ID_OUT, egid: ID_OUT, sgid: ID_OUT);
    122 setfsuid(uid: ID) -> Id .eff(CRED);
    123 setfsgid(gid: ID) -> Id .eff(CRED);
    115 getgroups(size: INT, list: output(Shape::U32s, Len::Elems32(0, 4), Out::RetTimes(4)));
    116 setgroups(size: INT, list: input(Shape::U32s, Len::Elems32(0, 4))) .eff(CRED);
    125 capget(hdrp: CAP_HEADER, datap: output(Shape::CapData, Len::With(cap_data_len), Out::Full))
        .eff(CRED);
    126 capset(hdrp: CAP_HEADER, datap: input(Shape::CapData, Len::With(cap_data_len))) .eff(CRED);

    317 seccomp[sub32(0, 0, "SECCOMP_SET_MODE_STRICT")](operation: UINT, flags: HEX, args: UNUSED)
        .special(Special::Seccomp) .eff(CRED);
    317 seccomp[sub32(0, 1, "SECCOMP_SET_MODE_FILTER")](operation: UINT, flags: flags(&f::SECCOMP),
        args: SOCK_FPROG) .special(Special::Seccomp) .eff(CRED);
    317 seccomp[sub32(0, 2, "SECCOMP_GET_ACTION_AVAIL")](operation: UINT, flags: HEX,
        args: raw_in(4));
    317 seccomp[sub32(0, 3, "SECCOMP_GET_NOTIF_SIZES")](operation: UINT, flags: HEX,
        args: raw_out(6));
    317 seccomp(operation: UINT, flags: HEX, args: ADDR) .refuse(f::EINVAL);

    444 landlock_create_ruleset(attr: input(Shape::Opaque, Len::Small(1)), size: SIZE,
        flags: HEX) -> Fd
        .eff(Effect::OpensFd);
    445 landlock_add_rule(ruleset_fd: FD, rule_type: INT,
        rule_attr: input(Shape::Opaque, Len::With(landlock_rule_len)), flags: HEX)
        .eff(Effect::SetsFile(0));
    446 landlock_restrict_self(ruleset_fd: FD, flags: HEX) .eff(CRED);
    459 lsm_get_self_attr(attr: UINT, ctx: LSM_CTX, size: LSM_SIZE, flags: HEX) .eff(CRED);
    460 lsm_set_self_attr(attr: UINT, ctx: input(Shape::Opaque, Len::Arg32(2)), size: UINT,
        flags: HEX)
        .eff(CRED);
    461 lsm_list_modules(ids: output(Shape::U64s, Len::AtPtr(1), Out::RetTimes(8)), size: LSM_SIZE,
        flags: HEX);
}
