//! Extended state (x87, SSE, AVX, AVX-512, PKRU, AMX): the XSAVE area in standard format.
//!
//! Sources: Intel SDM volume 1 chapter 13 (layout, init values); arch/x86/kernel/fpu/xstate.c
//! (`copy_xstate_to_uabi_buf`: what `PTRACE_GETREGSET` `NT_X86_XSTATE` gives;
//! `copy_uabi_to_xstate`: what `PTRACE_SETREGSET` takes).
//!
//! A component in its init configuration may or may not have its bit in XSTATE_BV: that depends on
//! the CPU's init optimisation and on when the kernel last saved the registers. So bits are not
//! state. [`normalise`] computes them from the content.

use crate::le;

/// Bits of XCR0 and XSTATE_BV (`enum xfeature`, arch/x86/include/asm/fpu/types.h).
pub mod feature {
    /// x87.
    pub const FP: u64 = 1 << 0;
    /// xmm registers and MXCSR.
    pub const SSE: u64 = 1 << 1;
    /// Upper halves of ymm0..15.
    pub const YMM: u64 = 1 << 2;
    /// Protection key rights.
    pub const PKRU: u64 = 1 << 9;
    /// AMX tile data: the one feature that a process has to ask for.
    pub const XTILE_DATA: u64 = 1 << 18;
    /// x87 and SSE: the legacy area.
    pub const FPSSE: u64 = FP | SSE;
    /// What the kernel gives to user space (`XFEATURE_MASK_USER_SUPPORTED`): x87, SSE, AVX, MPX,
    /// AVX-512, PKRU, AMX, APX.
    pub const USER: u64 = 0xff | PKRU | 1 << 17 | XTILE_DATA | 1 << 19;
}

/// Size of the legacy (FXSAVE) area.
pub const LEGACY_SIZE: usize = 512;
/// Offset of the XSAVE header: XSTATE_BV, XCOMP_BV, reserved.
pub const HEADER: usize = 512;
/// End of the XSAVE header: the smallest standard XSAVE area.
pub const MIN_SIZE: usize = 576;
/// Offset of the 48 bytes left to software (`sw_reserved`, arch/x86/include/uapi/asm/sigcontext.h).
pub const SW_RESERVED: usize = 464;
/// Offset of MXCSR; MXCSR_MASK follows.
pub const MXCSR: usize = 24;
/// MXCSR after reset and at handler entry.
pub const MXCSR_INIT: u32 = 0x1f80;
/// x87 control word after FNINIT and at handler entry.
pub const FCW_INIT: u16 = 0x37f;
/// PKRU at exec and at handler entry: only key 0 (`init_pkru_value`, arch/x86/mm/pkeys.c).
pub const PKRU_DEFAULT: u32 = 0x5555_5554;

/// Where one state component lies in the standard format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Component {
    /// Offset from the start of the area.
    pub offset: u32,
    /// Number of bytes.
    pub size: u32,
}

impl Component {
    fn end(self) -> usize {
        (self.offset as usize).saturating_add(self.size as usize)
    }
}

/// The layout of XSAVE areas on a CPU: a value, so that a replay on another CPU can use the one of
/// the recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XstateLayout {
    /// Components of a ptrace image (XCR0 as far as the kernel shows it to user space).
    pub features: u64,
    /// Components that go into signal frames: `features` without AMX tile data, unless the process
    /// asked for it (`ARCH_REQ_XCOMP_PERM`).
    pub frame_features: u64,
    /// MXCSR_MASK of the CPU: the bits of MXCSR that exist.
    pub mxcsr_mask: u32,
    /// Offsets and sizes by component number; 0 and 1 lie in the legacy area and have none.
    pub components: [Component; 64],
}

impl XstateLayout {
    /// The layout from CPUID; the argument is called with leaf and subleaf and gives
    /// `[eax, ebx, ecx, edx]`. A kernel may have fewer features enabled than the CPU has: see
    /// [`XstateLayout::restrict`].
    pub fn from_cpuid(mut cpuid: impl FnMut(u32, u32) -> [u32; 4]) -> Self {
        let [eax, _, _, edx] = cpuid(0xd, 0);
        let features = (u64::from(eax) | u64::from(edx) << 32) & feature::USER | feature::FPSSE;
        let mut components = [Component::default(); 64];
        for (i, c) in components.iter_mut().enumerate().skip(2) {
            if features >> i & 1 != 0 {
                let [size, offset, ..] = cpuid(0xd, i as u32);
                *c = Component { offset, size };
            }
        }
        // Misaligned SSE (AMD; reserved and 0 on Intel) brings MXCSR.MM, bit 17.
        let misalign = cpuid(0x8000_0001, 0)[2] & 1 << 7 != 0;
        Self {
            features,
            frame_features: features & !feature::XTILE_DATA,
            mxcsr_mask: if misalign { 0x2_ffff } else { 0xffff },
            components,
        }
    }

    /// The same without the components that are not in `enabled`: XCR0, or
    /// [`features_of_image`] of any ptrace image.
    pub fn restrict(mut self, enabled: u64) -> Self {
        self.features &= enabled | feature::FPSSE;
        self.frame_features &= self.features;
        self
    }

    /// The numbers of the components beyond the legacy area that `mask` names.
    fn extended(&self, mask: u64) -> impl Iterator<Item = (usize, Component)> + '_ {
        let mask = mask & self.features;
        (2..64)
            .filter(move |i| mask >> i & 1 != 0)
            .map(|i| (i, self.components[i]))
    }

    /// The size of a standard-format area with these components
    /// (`xstate_calculate_size(features, false)`, arch/x86/kernel/fpu/xstate.c).
    pub fn size_of(&self, features: u64) -> usize {
        self.extended(features)
            .map(|(_, c)| c.end())
            .fold(MIN_SIZE, usize::max)
    }

    /// Whether all components lie where a CPU could have them. To be asked of a layout that comes
    /// from a file; the other functions allocate what the layout says.
    pub fn is_sane(&self) -> bool {
        self.features & feature::FPSSE == feature::FPSSE
            && self.features & !feature::USER == 0
            && self.frame_features & !self.features == 0
            && self
                .extended(self.features)
                .all(|(_, c)| c.offset as usize >= MIN_SIZE && c.size != 0 && c.end() <= 1 << 16)
    }

    /// The length of a ptrace image.
    pub fn image_size(&self) -> usize {
        self.size_of(self.features)
    }

    /// `xstate_size` of a signal frame, without the second magic word.
    pub fn frame_size(&self) -> usize {
        self.size_of(self.frame_features)
    }

    /// The bytes of one component in an area, if the area is long enough.
    pub fn slice<'a>(&self, area: &'a [u8], component: usize) -> Option<&'a [u8]> {
        let c = self.components.get(component)?;
        (c.size != 0)
            .then(|| area.get(c.offset as usize..c.end()))
            .flatten()
    }
}

/// The features that the kernel shows in the software bytes of a ptrace image
/// (`xstate_fx_sw_bytes`, arch/x86/kernel/fpu/xstate.c); 0 if this is not one.
pub fn features_of_image(image: &[u8]) -> u64 {
    if image.len() < LEGACY_SIZE {
        0
    } else {
        le::u64(image, SW_RESERVED)
    }
}

/// XSTATE_BV of an area.
pub fn xstate_bv(area: &[u8]) -> u64 {
    if area.len() < MIN_SIZE {
        0
    } else {
        le::u64(area, HEADER)
    }
}

/// The image of the init state, PKRU 0 included: what XRSTOR makes of clear bits.
pub fn init_image(layout: &XstateLayout) -> Vec<u8> {
    let mut out = vec![0; layout.image_size()];
    le::put16(&mut out, 0, FCW_INIT);
    le::put32(&mut out, MXCSR, MXCSR_INIT);
    out
}

/// The image of a task after exec, at the entry of a signal handler, and after a signal return
/// without a floating-point area (`fpu__clear_user_states`, arch/x86/kernel/fpu/core.c): init
/// state, but PKRU at the kernel's default.
pub fn fresh_image(layout: &XstateLayout) -> Vec<u8> {
    let mut out = init_image(layout);
    if layout.features & feature::PKRU != 0 {
        le::put32(&mut out, layout.components[9].offset as usize, PKRU_DEFAULT);
        le::put64(&mut out, HEADER, feature::PKRU);
    }
    out
}

/// Marks the legacy components (x87, SSE) as in use in an image that a task is to be given, whatever
/// they hold.
///
/// Whether they are (XINUSE, which XSAVEC copies to memory, as the dynamic loader does at each lazy
/// binding) is not the program's doing alone: where they are not, any interruption of the task may
/// turn that on, seen on Intel CPUs under KVM; once on it stays on. Of the other components nothing
/// like that was seen.
pub fn claim_legacy(image: &mut [u8]) {
    if image.len() < MIN_SIZE {
        return;
    }
    let bv = xstate_bv(image);
    if bv & feature::FP == 0 {
        image[..24].fill(0);
        le::put16(image, 0, FCW_INIT);
        image[32..160].fill(0);
    }
    if bv & feature::SSE == 0 {
        image[160..416].fill(0);
        if bv & feature::YMM == 0 {
            le::put32(image, MXCSR, MXCSR_INIT);
        }
    }
    le::put64(image, HEADER, bv | feature::FPSSE);
}

fn all_zero(b: &[u8]) -> bool {
    b.iter().all(|&x| x == 0)
}

/// XSTATE_BV computed from the content of an area: a bit is set iff the component is not in its
/// init configuration.
pub fn bv_from_content(layout: &XstateLayout, area: &[u8]) -> u64 {
    let mut bv = 0;
    if area.len() < MIN_SIZE {
        return bv;
    }
    let x87_init = le::u32(area, 0) == u32::from(FCW_INIT)
        && all_zero(&area[4..24])
        && all_zero(&area[32..160]);
    if !x87_init {
        bv |= feature::FP;
    }
    if le::u32(area, MXCSR) != MXCSR_INIT || !all_zero(&area[160..416]) {
        bv |= feature::SSE;
    }
    for (i, _) in layout.extended(layout.features) {
        if layout.slice(area, i).is_some_and(|b| !all_zero(b)) {
            bv |= 1 << i;
        }
    }
    bv
}

/// Brings an image whose content is complete (as `PTRACE_GETREGSET` gives it: components with a
/// clear bit hold their init values) into the one form that depends on the registers only:
/// XSTATE_BV from the content, everything that is not state zeroed (MXCSR_MASK, reserved and
/// software bytes, the rest of the header, gaps between components). The result may be given to
/// `PTRACE_SETREGSET`.
pub fn normalise(layout: &XstateLayout, image: &mut [u8]) {
    if image.len() < MIN_SIZE {
        return;
    }
    image[MXCSR + 4..MXCSR + 8].fill(0);
    image[416..HEADER].fill(0);
    let bv = bv_from_content(layout, image);
    image[HEADER..MIN_SIZE].fill(0);
    le::put64(image, HEADER, bv);

    let mut parts: Vec<_> = layout.extended(layout.features).map(|(_, c)| c).collect();
    parts.sort_by_key(|c| c.offset);
    let mut at = MIN_SIZE;
    for c in parts {
        let start = (c.offset as usize).clamp(at, image.len());
        image[at..start].fill(0);
        at = start.max(c.end()).min(image.len());
    }
    image[at..].fill(0);
}

/// Copies the named components from one area to another, without MXCSR. Both areas hold at least the legacy area.
pub(crate) fn copy_components(layout: &XstateLayout, mask: u64, from: &[u8], to: &mut [u8]) {
    if mask & feature::FP != 0 {
        to[..24].copy_from_slice(&from[..24]);
        to[32..160].copy_from_slice(&from[32..160]);
    }
    if mask & feature::SSE != 0 {
        to[160..416].copy_from_slice(&from[160..416]);
    }
    for (_, c) in layout.extended(mask) {
        let (start, end) = (c.offset as usize, c.end());
        if end <= from.len() && end <= to.len() {
            to[start..end].copy_from_slice(&from[start..end]);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Offsets of an Ice Lake server CPU.
    pub(crate) fn layout() -> XstateLayout {
        XstateLayout::from_cpuid(|leaf, sub| match (leaf, sub) {
            (0xd, 0) => [0x2e7, 0xa88, 0xa88, 0],
            (0xd, 2) => [256, 576, 0, 0],
            (0xd, 5) => [64, 1088, 0, 0],
            (0xd, 6) => [512, 1152, 0, 0],
            (0xd, 7) => [1024, 1664, 0, 0],
            (0xd, 9) => [8, 2688, 0, 0],
            _ => [0; 4],
        })
    }

    #[test]
    fn sizes() {
        let l = layout();
        assert_eq!(l.image_size(), 2696);
        assert_eq!(l.frame_size(), 2696);
        assert_eq!(l.mxcsr_mask, 0xffff);
        let avx = l.clone().restrict(7);
        assert_eq!(avx.image_size(), 832);
        assert_eq!(l.restrict(0).image_size(), MIN_SIZE);
    }

    #[test]
    fn amx_data_is_not_in_frames() {
        let l = XstateLayout::from_cpuid(|leaf, sub| match (leaf, sub) {
            (0xd, 0) => [0x602e7, 0, 0, 0],
            (0xd, 17) => [64, 2752, 0, 0],
            (0xd, 18) => [8192, 2816, 0, 0],
            (0xd, s) => [8, 576 + s * 64, 0, 0],
            _ => [0; 4],
        });
        assert_eq!(l.image_size(), 11008);
        assert_eq!(l.frame_size(), 2816);
    }

    #[test]
    fn bits_follow_content() {
        let l = layout();
        let mut a = init_image(&l);
        assert_eq!(bv_from_content(&l, &a), 0);
        // Bits that claim what the content does not have, and bytes that are no state.
        let clean = a.clone();
        le::put64(&mut a, HEADER, 0x2e7);
        le::put32(&mut a, MXCSR + 4, 0xffff);
        le::put64(&mut a, SW_RESERVED, 0x2e7);
        a[840] = 1;
        normalise(&l, &mut a);
        assert_eq!(a, clean);

        a[MXCSR] = 0x81;
        a[1088] = 1;
        a[40] = 9;
        normalise(&l, &mut a);
        assert_eq!(xstate_bv(&a), feature::FPSSE | 1 << 5);
        let b = a.clone();
        normalise(&l, &mut a);
        assert_eq!(a, b);
    }

    #[test]
    fn legacy_state_is_claimed_with_its_content() {
        let l = layout();
        let mut a = init_image(&l);
        a[200] = 7;
        a[33] = 7;
        le::put32(&mut a, MXCSR, 0x1fa0);
        claim_legacy(&mut a);
        let mut claimed = init_image(&l);
        le::put64(&mut claimed, HEADER, feature::FPSSE);
        assert_eq!(a, claimed);
        a[200] = 7;
        a[0] = 0x7f;
        let b = a.clone();
        claim_legacy(&mut a);
        assert_eq!(a, b);
        claim_legacy(&mut []);
    }

    #[test]
    fn fresh_has_the_default_keys() {
        let l = layout();
        let mut a = fresh_image(&l);
        assert_eq!(le::u32(&a, 2688), PKRU_DEFAULT);
        let b = a.clone();
        normalise(&l, &mut a);
        assert_eq!(a, b);
    }
}
