//! A vDSO whose functions are system calls.
//!
//! The kernel's vDSO reads the clock without a system call, so nothing could record what a program
//! got from it. This image is written over it. Each function is `mov $nr,%eax; syscall; ret`: the
//! `mov` directly before the `syscall` is the place that is patched to the agent.
//!
//! The image is an ELF shared object as vdso(7) describes it, with all that the readers in use ask
//! for: glibc (elf/dl-lookup.c, elf/setup-vdso.h: `DT_GNU_HASH` or `DT_HASH`, versions), musl
//! (src/internal/vdso.c: `DT_HASH`), Go (runtime/vdso_linux.go: both, `STT_FUNC`), unwinders
//! (`PT_GNU_EH_FRAME`), debuggers (section headers). Its bytes depend on nothing.
//!
//! Formats: gABI chapters 4 and 5; LSB 5.0 chapter 10 (versions, .eh_frame); the GNU hash table as
//! glibc reads it.

use crate::le;

/// A function of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Function {
    /// Name as the kernel exports it; it has an alias without `__vdso_`.
    pub name: &'static str,
    /// The system call behind it.
    pub nr: u32,
}

impl Function {
    /// The weak alias.
    pub fn alias(&self) -> &'static str {
        self.name.strip_prefix("__vdso_").unwrap_or(self.name)
    }
}

const fn function(name: &'static str, nr: i64) -> Function {
    Function {
        name,
        nr: nr as u32,
    }
}

/// The functions, in the order of their stubs (vdso(7), x86-64).
pub const FUNCTIONS: [Function; 5] = [
    function("__vdso_clock_gettime", libc::SYS_clock_gettime),
    function("__vdso_gettimeofday", libc::SYS_gettimeofday),
    function("__vdso_time", libc::SYS_time),
    function("__vdso_getcpu", libc::SYS_getcpu),
    function("__vdso_clock_getres", libc::SYS_clock_getres),
];

/// `DT_SONAME`.
pub const SONAME: &str = "linux-vdso.so.1";
/// The version of all symbols.
pub const VERSION: &str = "LINUX_2.6";

/// Bytes of a stub that are code; the rest of its 16 is filled with `int3`.
const STUB_CODE: usize = 8;
const STUB_SIZE: usize = 16;

const EHDR_SIZE: usize = 64;
const PHDR_SIZE: usize = 56;
const SHDR_SIZE: usize = 64;
const SYM_SIZE: usize = 24;
const PHDRS: usize = 4;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
const PT_GNU_STACK: u32 = 0x6474_e551;
const PF_R: u32 = 4;
const PF_X: u32 = 1;
const PF_W: u32 = 2;

const SHT_PROGBITS: u32 = 1;
const SHT_STRTAB: u32 = 3;
const SHT_HASH: u32 = 5;
const SHT_DYNAMIC: u32 = 6;
const SHT_DYNSYM: u32 = 11;
const SHT_GNU_HASH: u32 = 0x6fff_fff6;
const SHT_GNU_VERDEF: u32 = 0x6fff_fffd;
const SHT_GNU_VERSYM: u32 = 0x6fff_ffff;
const SHF_ALLOC: u64 = 2;
const SHF_EXECINSTR: u64 = 4;

/// Section numbers, in the order of the file.
mod sec {
    pub const DYNSTR: u32 = 4;
    pub const DYNSYM: u32 = 3;
    pub const TEXT: u32 = 10;
    pub const SHSTRTAB: u32 = 11;
}

/// The hash of `DT_HASH` and of versions (gABI).
pub fn elf_hash(name: &str) -> u32 {
    name.bytes().fold(0u32, |h, b| {
        let h = (h << 4).wrapping_add(u32::from(b));
        let g = h & 0xf000_0000;
        (h ^ g >> 24) & !g
    })
}

/// The hash of `DT_GNU_HASH`.
pub fn gnu_hash(name: &str) -> u32 {
    name.bytes().fold(5381u32, |h, b| {
        h.wrapping_mul(33).wrapping_add(u32::from(b))
    })
}

/// A table of strings that grows.
#[derive(Default)]
struct Strings(Vec<u8>);

impl Strings {
    fn add(&mut self, s: &str) -> u32 {
        if self.0.is_empty() {
            self.0.push(0);
        }
        let at = self.0.len() as u32;
        self.0.extend(s.bytes());
        self.0.push(0);
        at
    }
}

/// One symbol: all are functions.
struct Symbol {
    name: &'static str,
    stub: usize,
    weak: bool,
}

const GNU_BUCKETS: u32 = 4;
const GNU_SHIFT: u32 = 6;
const ELF_BUCKETS: u32 = 5;

/// The symbols in the order of the symbol table: by bucket, as `DT_GNU_HASH` demands.
fn symbols() -> Vec<Symbol> {
    let mut out: Vec<_> = FUNCTIONS
        .iter()
        .enumerate()
        .flat_map(|(stub, f)| {
            [(f.name, false), (f.alias(), true)].map(|(name, weak)| Symbol { name, stub, weak })
        })
        .collect();
    out.sort_by_key(|s| gnu_hash(s.name) % GNU_BUCKETS);
    out
}

fn words(v: &[u32]) -> Vec<u8> {
    v.iter().flat_map(|w| w.to_le_bytes()).collect()
}

fn elf_hash_table(symbols: &[Symbol]) -> Vec<u8> {
    let (mut buckets, mut chains) = ([0; ELF_BUCKETS as usize], vec![0; symbols.len() + 1]);
    for (i, s) in symbols.iter().enumerate() {
        let bucket = &mut buckets[(elf_hash(s.name) % ELF_BUCKETS) as usize];
        chains[i + 1] = *bucket;
        *bucket = i as u32 + 1;
    }
    [
        words(&[ELF_BUCKETS, chains.len() as u32]),
        words(&buckets),
        words(&chains),
    ]
    .concat()
}

fn gnu_hash_table(symbols: &[Symbol]) -> Vec<u8> {
    let mut bloom = 0u64;
    let mut buckets = [0; GNU_BUCKETS as usize];
    let mut chain = vec![0; symbols.len()];
    for (i, s) in symbols.iter().enumerate() {
        let h = gnu_hash(s.name);
        bloom |= 1 << (h % 64) | 1 << ((h >> GNU_SHIFT) % 64);
        let bucket = &mut buckets[(h % GNU_BUCKETS) as usize];
        if *bucket == 0 {
            *bucket = i as u32 + 1;
        }
        let next = symbols.get(i + 1).map(|n| gnu_hash(n.name) % GNU_BUCKETS);
        chain[i] = h & !1 | u32::from(next != Some(h % GNU_BUCKETS));
    }
    let head = words(&[GNU_BUCKETS, 1, 1, GNU_SHIFT]);
    [
        head,
        bloom.to_le_bytes().to_vec(),
        words(&buckets),
        words(&chain),
    ]
    .concat()
}

/// `Elf64_Verdef` with one `Elf64_Verdaux`.
fn verdef(name: u32, hash: u32, flags: u16, index: u16, last: bool) -> Vec<u8> {
    const DEF: u32 = 20;
    const AUX: u32 = 8;
    let mut out = vec![0; (DEF + AUX) as usize];
    for (i, v) in [1, flags, index, 1].into_iter().enumerate() {
        le::put16(&mut out, i * 2, v);
    }
    le::put32(&mut out, 8, hash);
    le::put32(&mut out, 12, DEF);
    le::put32(&mut out, 16, if last { 0 } else { DEF + AUX });
    le::put32(&mut out, 20, name);
    out
}

const RET: u8 = 0xc3;

/// A function that is a plain system call: mov $nr, %eax; syscall; ret.
fn plain(nr: u32) -> [u8; STUB_CODE] {
    let mut code = [0xb8, 0, 0, 0, 0, 0x0f, 0x05, RET];
    code[1..5].copy_from_slice(&nr.to_le_bytes());
    code
}

/// What we put in place of a function of the vDSO; `None`: nothing.
fn code_of(name: &str) -> Option<Vec<u8>> {
    let mut functions = FUNCTIONS.iter();
    if let Some(function) = functions.find(|f| f.name == name || f.alias() == name) {
        return Some(plain(function.nr).to_vec());
    }
    if name != "__vdso_getrandom" && name != "getrandom" {
        return None;
    }
    // Its last argument asks for parameters if it is all ones, which the call does not know (-ENOSYS): cmp $-1, %r8; je;
    // ...; mov $-38, %rax; ret
    let mut code = vec![0x49, 0x83, 0xf8, 0xff, 0x74, 0x08];
    code.extend(plain(libc::SYS_getrandom as u32));
    code.extend([0x48, 0xc7, 0xc0, 0xda, 0xff, 0xff, 0xff, RET]);
    Some(code)
}

fn text() -> Vec<u8> {
    let mut out = vec![];
    for f in FUNCTIONS {
        out.extend(plain(f.nr));
        out.resize(out.len().next_multiple_of(STUB_SIZE), 0xcc);
    }
    out
}

/// Bytes of the one FDE: length, CIE pointer, start, range, augmentation length and padding.
const FDE_SIZE: usize = 24;

/// `.eh_frame`: the stubs have no frame, the return address is at the top of the stack all the time.
fn eh_frame(at: usize, text: usize, text_size: usize) -> Vec<u8> {
    let cie = [
        0, 0, 0, 0, // id
        1, b'z', b'R', 0, 1, 0x78, 16, 1,
        0x1b, // version, augmentation, factors, RA, pcrel|sdata4
        0x0c, 7, 8, // CFA is rsp + 8
        0x90, 1, // RA at CFA - 8
        0, 0,
    ];
    let mut out = words(&[cie.len() as u32]);
    out.extend(cie);
    let fde = at + out.len();
    let start = text.wrapping_sub(fde + 8) as u32;
    let rest = FDE_SIZE as u32 - 4;
    out.extend(words(&[
        rest,
        out.len() as u32 + 4,
        start,
        text_size as u32,
        0,
        0,
    ]));
    out
}

fn eh_frame_hdr(at: usize, eh_frame: usize, fde: usize, text: usize) -> Vec<u8> {
    let rel = |to: usize, from: usize| to.wrapping_sub(from) as u32;
    let head = [1, 0x1b, 0x03, 0x3b]; // version; encodings: pcrel|sdata4, udata4, datarel|sdata4
    let table = [rel(eh_frame, at + 4), 1, rel(text, at), rel(fde, at)];
    [head.to_vec(), words(&table)].concat()
}

struct Section {
    name: u32,
    kind: u32,
    flags: u64,
    at: usize,
    size: usize,
    link: u32,
    info: u32,
    align: usize,
    entry: usize,
}

/// The file as it grows.
struct Builder {
    bytes: Vec<u8>,
    sections: Vec<Section>,
    names: Strings,
}

impl Builder {
    /// Appends a section; gives its address.
    fn add(&mut self, name: &str, kind: u32, align: usize, data: &[u8]) -> usize {
        let at = self.bytes.len().next_multiple_of(align);
        self.bytes.resize(at, 0);
        self.bytes.extend(data);
        let name = self.names.add(name);
        let (flags, size) = (SHF_ALLOC, data.len());
        let (link, info, entry) = (0, 0, 0);
        self.sections.push(Section {
            name,
            kind,
            flags,
            at,
            size,
            link,
            info,
            align,
            entry,
        });
        at
    }

    fn set(&mut self, link: u32, info: u32, entry: usize) {
        let s = self.sections.last_mut().expect("a section was added");
        (s.link, s.info, s.entry) = (link, info, entry);
    }
}

/// Where the stubs lie: each function with the offset of its `mov`. The `syscall` is 5 bytes behind.
pub fn stubs() -> impl Iterator<Item = (Function, usize)> {
    let base = build().1;
    FUNCTIONS
        .into_iter()
        .enumerate()
        .map(move |(i, f)| (f, base + i * STUB_SIZE))
}

/// The image, filled with zeros to the length of the mapping that it replaces (a multiple of the
/// page size, 4096 at least); `None` if it does not fit.
pub fn image(len: usize) -> Option<Vec<u8>> {
    let mut bytes = build().0;
    (bytes.len() <= len).then(|| {
        bytes.resize(len, 0);
        bytes
    })
}

/// What a task still has to do in a function of ours in which it stands, behind the first instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inside {
    /// All but a beginning that may be done again, which is so long.
    Rest(u8),
    /// The `ret`.
    Return,
}

/// Where in a function of ours a place of an image lies, which is [`image`] or [`replaced`]. `None`: in none, or at its first
/// instruction. The image may have changed where its functions are.
pub fn inside(image: &[u8], place: usize) -> Option<Inside> {
    let (name, at) = functions_of(image)?
        .into_iter()
        .filter_map(|(name, start, size)| Some((name, place.checked_sub(start)?, size)))
        .find_map(|(name, at, size)| (at < size).then_some((name, at)))?;
    match (at, *code_of(&name)?.get(at)?) {
        (0, _) => None,
        // In none of them is a byte in the middle of an instruction like this one.
        (_, RET) => Some(Inside::Return),
        _ => Some(Inside::Rest(at as u8)),
    }
}

/// Where the functions of an image begin.
pub fn starts(image: &[u8]) -> Vec<usize> {
    let functions = functions_of(image).unwrap_or_default().into_iter();
    functions.map(|(_, start, _)| start).collect()
}

/// The kernel's own image with each function replaced by its plain system call, where it stands: for a
/// program that runs already and has looked up their addresses. `None`: this is no image of a vDSO.
pub fn replaced(image: &[u8]) -> Option<Vec<u8>> {
    let mut out = image.to_vec();
    let mut replaced = 0;
    for (name, value, size) in functions_of(image)? {
        let Some(code) = code_of(&name) else {
            continue;
        };
        if size < code.len() {
            return None;
        }
        out.get_mut(value..value + code.len())?
            .copy_from_slice(&code);
        replaced += 1;
    }
    (replaced > 0).then_some(out)
}

/// Name, offset and size of each function that an ELF file of this machine exports (elf(5)); its
/// addresses begin at 0.
fn functions_of(image: &[u8]) -> Option<Vec<(String, usize, usize)>> {
    fn word(image: &[u8], at: usize) -> Option<usize> {
        let bytes = image.get(at..at.checked_add(8)?)?;
        usize::try_from(u64::from_le_bytes(bytes.try_into().ok()?)).ok()
    }
    fn half(image: &[u8], at: usize) -> Option<usize> {
        let bytes = image.get(at..at.checked_add(4)?)?;
        usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
    }
    if image.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (sections, count) = (word(image, 0x28)?, half(image, 0x3c)? & 0xffff);
    let header = |index: usize| sections.checked_add(index.checked_mul(SHDR_SIZE)?);
    let mut found = Vec::new();
    for index in 0..count {
        let at = header(index)?;
        if half(image, at + 4)? != SHT_DYNSYM as usize {
            continue;
        }
        let (start, len) = (word(image, at + 0x18)?, word(image, at + 0x20)?);
        let strings = word(image, header(half(image, at + 0x28)?)? + 0x18)?;
        for symbol in (start..start.checked_add(len)?).step_by(SYM_SIZE) {
            const STT_FUNC: u8 = 2;
            if image.get(symbol + 4)? & 0xf != STT_FUNC {
                continue;
            }
            let name = image.get(strings.checked_add(half(image, symbol)?)?..)?;
            let name = name.split(|byte| *byte == 0).next()?;
            let name = String::from_utf8_lossy(name).into_owned();
            found.push((name, word(image, symbol + 8)?, word(image, symbol + 16)?));
        }
    }
    Some(found)
}

/// The file, and the offset of the text.
fn build() -> (Vec<u8>, usize) {
    let symbols = symbols();
    let mut strings = Strings::default();
    let soname = strings.add(SONAME);
    let version = strings.add(VERSION);
    let names: Vec<_> = symbols.iter().map(|s| strings.add(s.name)).collect();

    let headers = EHDR_SIZE + PHDRS * PHDR_SIZE;
    let mut b = Builder {
        bytes: vec![0; headers],
        sections: vec![],
        names: Strings::default(),
    };
    let hash = b.add(".hash", SHT_HASH, 8, &elf_hash_table(&symbols));
    b.set(sec::DYNSYM, 0, 4);
    let gnu = b.add(".gnu.hash", SHT_GNU_HASH, 8, &gnu_hash_table(&symbols));
    b.set(sec::DYNSYM, 0, 0);
    // Filled in below, when the address of the text is known.
    let symtab = b.add(
        ".dynsym",
        SHT_DYNSYM,
        8,
        &vec![0; (symbols.len() + 1) * SYM_SIZE],
    );
    b.set(sec::DYNSTR, 1, SYM_SIZE);
    let strtab = b.add(".dynstr", SHT_STRTAB, 1, &strings.0);
    let versyms: Vec<_> = (0..=symbols.len())
        .flat_map(|i| (if i == 0 { 0u16 } else { 2 }).to_le_bytes())
        .collect();
    let versym = b.add(".gnu.version", SHT_GNU_VERSYM, 2, &versyms);
    b.set(sec::DYNSYM, 0, 2);
    const VER_FLG_BASE: u16 = 1;
    let defs = [
        verdef(soname, elf_hash(SONAME), VER_FLG_BASE, 1, false),
        verdef(version, elf_hash(VERSION), 0, 2, true),
    ];
    let verdefs = b.add(".gnu.version_d", SHT_GNU_VERDEF, 8, &defs.concat());
    b.set(sec::DYNSTR, 2, 0);

    let entries: [(u64, usize); 11] = [
        (14, soname as usize),     // DT_SONAME
        (4, hash),                 // DT_HASH
        (0x6fff_fef5, gnu),        // DT_GNU_HASH
        (5, strtab),               // DT_STRTAB
        (6, symtab),               // DT_SYMTAB
        (10, strings.0.len()),     // DT_STRSZ
        (11, SYM_SIZE),            // DT_SYMENT
        (0x6fff_fffc, verdefs),    // DT_VERDEF
        (0x6fff_fffd, defs.len()), // DT_VERDEFNUM
        (0x6fff_fff0, versym),     // DT_VERSYM
        (0, 0),                    // DT_NULL
    ];
    let dynamic: Vec<_> = entries
        .iter()
        .flat_map(|&(tag, v)| [tag, v as u64])
        .flat_map(u64::to_le_bytes)
        .collect();
    let dynamic_at = b.add(".dynamic", SHT_DYNAMIC, 8, &dynamic);
    b.set(sec::DYNSTR, 0, 16);

    // The three last parts name each other; their sizes do not depend on where they lie.
    let code = text();
    let hdr_at = b.bytes.len().next_multiple_of(4);
    let eh_at = (hdr_at + eh_frame_hdr(0, 0, 0, 0).len()).next_multiple_of(8);
    let eh_size = eh_frame(0, 0, 0).len();
    let text_at = (eh_at + eh_size).next_multiple_of(STUB_SIZE);
    let fde_at = eh_at + eh_size - FDE_SIZE;
    let hdr = eh_frame_hdr(hdr_at, eh_at, fde_at, text_at);
    b.add(".eh_frame_hdr", SHT_PROGBITS, 4, &hdr);
    b.add(
        ".eh_frame",
        SHT_PROGBITS,
        8,
        &eh_frame(eh_at, text_at, code.len()),
    );
    b.add(".text", SHT_PROGBITS, STUB_SIZE, &code);
    b.sections.last_mut().expect("text").flags |= SHF_EXECINSTR;
    let loaded = b.bytes.len();

    for (i, (s, name)) in symbols.iter().zip(names).enumerate() {
        const STT_FUNC: u8 = 2;
        let sym = &mut b.bytes[symtab + (i + 1) * SYM_SIZE..][..SYM_SIZE];
        le::put32(sym, 0, name);
        sym[4] = (if s.weak { 2 } else { 1 }) << 4 | STT_FUNC;
        le::put16(sym, 6, sec::TEXT as u16);
        le::put64(sym, 8, (text_at + s.stub * STUB_SIZE) as u64);
        le::put64(sym, 16, STUB_CODE as u64);
    }

    let segments = [
        (PT_LOAD, PF_R | PF_X, 0, loaded, 0x1000),
        (PT_DYNAMIC, PF_R, dynamic_at, dynamic.len(), 8),
        (PT_GNU_EH_FRAME, PF_R, hdr_at, hdr.len(), 4),
        (PT_GNU_STACK, PF_R | PF_W, 0, 0, 16),
    ];
    for (i, (kind, flags, at, size, align)) in segments.into_iter().enumerate() {
        let ph = &mut b.bytes[EHDR_SIZE + i * PHDR_SIZE..][..PHDR_SIZE];
        le::put32(ph, 0, kind);
        le::put32(ph, 4, flags);
        for (field, v) in [at, at, at, size, size, align].into_iter().enumerate() {
            le::put64(ph, 8 + field * 8, v as u64);
        }
    }
    let section_headers = finish_sections(&mut b);
    put_ehdr(&mut b.bytes, text_at, section_headers);
    (b.bytes, text_at)
}

/// Appends the names of the sections and their headers; gives the offset of the headers.
fn finish_sections(b: &mut Builder) -> usize {
    let own = b.names.add(".shstrtab");
    let names = std::mem::take(&mut b.names).0;
    let at = b.bytes.len();
    b.bytes.extend(&names);
    let (kind, size) = (SHT_STRTAB, names.len());
    let name = own;
    let (flags, link, info, align, entry) = (0, 0, 0, 1, 0);
    b.sections.push(Section {
        name,
        kind,
        flags,
        at,
        size,
        link,
        info,
        align,
        entry,
    });

    let headers = b.bytes.len().next_multiple_of(8);
    b.bytes
        .resize(headers + (b.sections.len() + 1) * SHDR_SIZE, 0);
    for (i, s) in b.sections.iter().enumerate() {
        let sh = &mut b.bytes[headers + (i + 1) * SHDR_SIZE..][..SHDR_SIZE];
        le::put32(sh, 0, s.name);
        le::put32(sh, 4, s.kind);
        le::put64(sh, 8, s.flags);
        le::put64(
            sh,
            16,
            if s.flags & SHF_ALLOC != 0 {
                s.at as u64
            } else {
                0
            },
        );
        le::put64(sh, 24, s.at as u64);
        le::put64(sh, 32, s.size as u64);
        le::put32(sh, 40, s.link);
        le::put32(sh, 44, s.info);
        le::put64(sh, 48, s.align as u64);
        le::put64(sh, 56, s.entry as u64);
    }
    headers
}

fn put_ehdr(out: &mut [u8], entry: usize, section_headers: usize) {
    const ET_DYN: u16 = 3;
    const EM_X86_64: u16 = 62;
    out[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    le::put16(out, 16, ET_DYN);
    le::put16(out, 18, EM_X86_64);
    le::put32(out, 20, 1);
    le::put64(out, 24, entry as u64);
    le::put64(out, 32, EHDR_SIZE as u64);
    le::put64(out, 40, section_headers as u64);
    let sizes = [
        EHDR_SIZE,
        PHDR_SIZE,
        PHDRS,
        SHDR_SIZE,
        sec::SHSTRTAB as usize + 1,
    ];
    for (i, v) in sizes.into_iter().enumerate() {
        le::put16(out, 52 + i * 2, v as u16);
    }
    le::put16(out, 62, sec::SHSTRTAB as u16);
}

#[cfg(test)]
mod tests;
