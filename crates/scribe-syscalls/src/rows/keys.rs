//! Key management (keyrings).

use crate::arg::{Field, Len, Out, Shape, Ty};
use crate::call::Sub;
use crate::dsl::*;
use crate::effect::Effect;
use crate::flags as f;

const fn kc(cmd: u32, name: &'static str) -> Sub {
    sub32(0, cmd, name)
}

const EFF: Effect = Effect::Creds;
const KEY: Ty = INT;
const TYPE: Ty = cstr(32);
const DESC: Ty = cstr(4096);
/// What does not fit is not written at all (security/keys/keyctl.c).
const FITS: Ty = output(Shape::Bytes, Len::Arg(3), Out::RetFits);
/// `struct keyctl_pkey_params`: key, length of the input, of the output or second input.
const PKEY: Ty = raw_in(40);
const PKEY_IN: Ty = input(Shape::Bytes, Len::With(|ctx| pkey_len(ctx, 4)));
const PKEY_IN2: Ty = input(Shape::Bytes, Len::With(|ctx| pkey_len(ctx, 8)));
const PKEY_OUT: Ty = output(Shape::Bytes, Len::With(|ctx| pkey_len(ctx, 8)), Out::Ret);

fn pkey_len(ctx: &crate::arg::Ctx, off: u64) -> u64 {
    ctx.mem
        .read_u32(ctx.call.args[1].wrapping_add(off))
        .unwrap_or(0)
        .into()
}

/// `struct keyctl_kdf_params`: name of the hash, other info with its length.
const KDF: &[Field] = &[
    field(0, pin(Shape::Str, Len::Str(128))),
    field(8, pin(Shape::Bytes, Len::Field(16, 4))),
];

rows! { ROWS:
    248 add_key(kind: TYPE, description: DESC, payload: bytes_in(3), plen: SIZE, keyring: KEY)
        .eff(EFF);
    249 request_key(kind: TYPE, description: DESC, callout_info: DESC, keyring: KEY) .may()
        .eff(EFF);
    250 keyctl[kc(0, "KEYCTL_GET_KEYRING_ID")](cmd: INT, id: KEY, create: INT) .eff(EFF);
    250 keyctl[kc(1, "KEYCTL_JOIN_SESSION_KEYRING")](cmd: INT, name: DESC) .eff(EFF);
    250 keyctl[kc(2, "KEYCTL_UPDATE")](cmd: INT, id: KEY, payload: bytes_in(3), plen: SIZE)
        .eff(EFF);
    250 keyctl[kc(3, "KEYCTL_REVOKE")](cmd: INT, id: KEY) .eff(EFF);
    250 keyctl[kc(4, "KEYCTL_CHOWN")](cmd: INT, id: KEY, uid: ID, gid: ID) .eff(EFF);
    250 keyctl[kc(5, "KEYCTL_SETPERM")](cmd: INT, id: KEY, perm: HEX) .eff(EFF);
    250 keyctl[kc(6, "KEYCTL_DESCRIBE")](cmd: INT, id: KEY, buf: FITS, len: SIZE) .eff(EFF);
    250 keyctl[kc(7, "KEYCTL_CLEAR")](cmd: INT, id: KEY) .eff(EFF);
    250 keyctl[kc(8, "KEYCTL_LINK")](cmd: INT, id: KEY, keyring: KEY) .eff(EFF);
    250 keyctl[kc(9, "KEYCTL_UNLINK")](cmd: INT, id: KEY, keyring: KEY) .eff(EFF);
    250 keyctl[kc(10, "KEYCTL_SEARCH")](cmd: INT, keyring: KEY, kind: TYPE, description: DESC,
        dest: KEY)
        .eff(EFF);
    250 keyctl[kc(11, "KEYCTL_READ")](cmd: INT, id: KEY, buf: FITS, len: SIZE) .eff(EFF);
    250 keyctl[kc(12, "KEYCTL_INSTANTIATE")](cmd: INT, id: KEY, payload: bytes_in(3), plen: SIZE,
        keyring: KEY) .eff(EFF);
    250 keyctl[kc(13, "KEYCTL_NEGATE")](cmd: INT, id: KEY, timeout: UINT, keyring: KEY) .eff(EFF);
    250 keyctl[kc(14, "KEYCTL_SET_REQKEY_KEYRING")](cmd: INT, reqkey: INT) .eff(EFF);
    250 keyctl[kc(15, "KEYCTL_SET_TIMEOUT")](cmd: INT, id: KEY, timeout: UINT) .eff(EFF);
    250 keyctl[kc(16, "KEYCTL_ASSUME_AUTHORITY")](cmd: INT, id: KEY) .eff(EFF);
    250 keyctl[kc(17, "KEYCTL_GET_SECURITY")](cmd: INT, id: KEY, buf: bytes_out(3), len: SIZE)
        .eff(EFF);
    250 keyctl[kc(18, "KEYCTL_SESSION_TO_PARENT")](cmd: INT) .eff(EFF);
    250 keyctl[kc(19, "KEYCTL_REJECT")](cmd: INT, id: KEY, timeout: UINT, error: UINT, keyring: KEY)
        .eff(EFF);
    250 keyctl[kc(20, "KEYCTL_INSTANTIATE_IOV")](cmd: INT, id: KEY, iov: iovec(3, IOV_IN),
        ioc: ULONG,
        keyring: KEY) .eff(EFF);
    250 keyctl[kc(21, "KEYCTL_INVALIDATE")](cmd: INT, id: KEY) .eff(EFF);
    250 keyctl[kc(22, "KEYCTL_GET_PERSISTENT")](cmd: INT, uid: ID, keyring: KEY) .eff(EFF);
    250 keyctl[kc(23, "KEYCTL_DH_COMPUTE")](cmd: INT, params: raw_in(12), buf: bytes_out(3),
        len: SIZE,
        kdf: Ty::Ptr(nest(pin(Shape::Opaque, Len::Fixed(56)), 0, KDF))) .eff(EFF);
    250 keyctl[kc(24, "KEYCTL_PKEY_QUERY")](cmd: INT, id: KEY, reserved: UNUSED, info: DESC,
        result: raw_out(56)) .eff(EFF);
    250 keyctl[kc(25, "KEYCTL_PKEY_ENCRYPT")](cmd: INT, params: PKEY, info: DESC, data: PKEY_IN,
        out: PKEY_OUT) .eff(EFF);
    250 keyctl[kc(26, "KEYCTL_PKEY_DECRYPT")](cmd: INT, params: PKEY, info: DESC, data: PKEY_IN,
        out: PKEY_OUT) .eff(EFF);
    250 keyctl[kc(27, "KEYCTL_PKEY_SIGN")](cmd: INT, params: PKEY, info: DESC, data: PKEY_IN,
        out: PKEY_OUT) .eff(EFF);
    250 keyctl[kc(28, "KEYCTL_PKEY_VERIFY")](cmd: INT, params: PKEY, info: DESC, data: PKEY_IN,
        signature: PKEY_IN2) .eff(EFF);
    250 keyctl[kc(29, "KEYCTL_RESTRICT_KEYRING")](cmd: INT, id: KEY, kind: TYPE, restriction: DESC)
        .eff(EFF);
    250 keyctl[kc(30, "KEYCTL_MOVE")](cmd: INT, id: KEY, from: KEY, to: KEY, flags: HEX) .eff(EFF);
    250 keyctl[kc(31, "KEYCTL_CAPABILITIES")](cmd: INT, buf: output(Shape::Bytes, Len::Arg(2),
        Out::Full),
        len: SIZE) .eff(EFF);
    250 keyctl[kc(32, "KEYCTL_WATCH_KEY")](cmd: INT, id: KEY, fd: FD, watch: INT) .eff(EFF);
    250 keyctl(cmd: INT, arg2: HEX, arg3: HEX, arg4: HEX, arg5: HEX) .refuse(f::EOPNOTSUPP)
        .eff(EFF);
}
