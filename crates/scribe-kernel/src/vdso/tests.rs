use super::*;
use object::read::elf::{Dyn, ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, LittleEndian, Object, ObjectSymbol, elf};
use std::collections::BTreeMap;

fn the_image() -> Vec<u8> {
    image(4096).expect("fits a page")
}

/// The addresses in `.dynamic`, found as a loader does.
fn dynamic(b: &[u8]) -> BTreeMap<u64, usize> {
    let h = elf::FileHeader64::<LittleEndian>::parse(b).unwrap();
    let e = LittleEndian;
    let d = h
        .program_headers(e, b)
        .unwrap()
        .iter()
        .find_map(|p| p.dynamic(e, b).unwrap())
        .unwrap();
    d.iter()
        .map(|d| (d.d_tag(e), d.d_val(e) as usize))
        .collect()
}

const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_GNU_HASH: u64 = 0x6fff_fef5;
const DT_VERSYM: u64 = 0x6fff_fff0;
const DT_VERDEF: u64 = 0x6fff_fffc;

fn str_at(b: &[u8], at: usize) -> &str {
    let s = &b[at..];
    std::str::from_utf8(&s[..s.iter().position(|&c| c == 0).unwrap()]).unwrap()
}

fn name_of(b: &[u8], sym: usize) -> &str {
    let d = dynamic(b);
    str_at(
        b,
        d[&DT_STRTAB] + le::u32(b, d[&DT_SYMTAB] + sym * SYM_SIZE) as usize,
    )
}

/// As glibc's `do_lookup_x` with `DT_GNU_HASH`.
fn gnu_lookup(b: &[u8], name: &str) -> Option<usize> {
    let at = dynamic(b)[&DT_GNU_HASH];
    let w = |i: usize| le::u32(b, at + i * 4);
    let (nbuckets, bias, bloom_words, shift) = (w(0), w(1), w(2), w(3));
    assert!(bloom_words.is_power_of_two());
    let h = gnu_hash(name);
    let bloom = le::u64(b, at + 16 + ((h / 64) & (bloom_words - 1)) as usize * 8);
    if bloom >> (h & 63) & bloom >> (h >> shift & 63) & 1 == 0 {
        return None;
    }
    let buckets = 4 + bloom_words as usize * 2;
    let mut sym = w(buckets + (h % nbuckets) as usize);
    if sym == 0 {
        return None;
    }
    loop {
        let c = w(buckets + (nbuckets + sym - bias) as usize);
        if (c ^ h) >> 1 == 0 && name_of(b, sym as usize) == name {
            return Some(sym as usize);
        }
        if c & 1 != 0 {
            return None;
        }
        sym += 1;
    }
}

/// As Go's `vdsoParseSymbols` with `DT_HASH`.
fn sysv_lookup(b: &[u8], name: &str) -> Option<usize> {
    let at = dynamic(b)[&DT_HASH];
    let w = |i: usize| le::u32(b, at + i * 4) as usize;
    let mut sym = w(2 + elf_hash(name) as usize % w(0));
    while sym != 0 && name_of(b, sym) != name {
        sym = w(2 + w(0) + sym);
    }
    (sym != 0).then_some(sym)
}

/// As musl's `checkver`: the name of a symbol's version.
fn version_of(b: &[u8], sym: usize) -> (&str, u32) {
    let d = dynamic(b);
    let u16_at = |at: usize| u16::from_le_bytes([b[at], b[at + 1]]);
    let want = u16_at(d[&DT_VERSYM] + sym * 2) & 0x7fff;
    let mut def = d[&DT_VERDEF];
    loop {
        let base = u16_at(def + 2) & 1 != 0;
        if !base && u16_at(def + 4) & 0x7fff == want {
            break;
        }
        let next = le::u32(b, def + 16) as usize;
        assert_ne!(next, 0);
        def += next;
    }
    let aux = def + le::u32(b, def + 12) as usize;
    (
        str_at(b, d[&DT_STRTAB] + le::u32(b, aux) as usize),
        le::u32(b, def + 8),
    )
}

#[test]
fn known_hashes() {
    // From Go's runtime/vdso_linux_amd64.go and vdso_linux.go.
    assert_eq!(gnu_hash("__vdso_gettimeofday"), 0xb01b_ca00);
    assert_eq!(elf_hash("__vdso_gettimeofday"), 0x0315_ca59);
    assert_eq!(gnu_hash("__vdso_clock_gettime"), 0x6e43_a318);
    assert_eq!(elf_hash("__vdso_clock_gettime"), 0xd35_ec75);
    assert_eq!(elf_hash("LINUX_2.6"), 0x3ae_75f6);
}

#[test]
fn every_reader_finds_every_function() {
    let b = the_image();
    for (f, at) in stubs() {
        for name in [f.name, f.alias()] {
            let sym = gnu_lookup(&b, name).expect(name);
            assert_eq!(sysv_lookup(&b, name), Some(sym), "{name}");
            assert_eq!(version_of(&b, sym), ("LINUX_2.6", 0x3ae_75f6));
            let s = &b[dynamic(&b)[&DT_SYMTAB] + sym * SYM_SIZE..];
            assert_eq!(le::u64(s, 8), at as u64);
            assert_eq!(s[4], if name == f.name { 0x12 } else { 0x22 });
        }
        let mut code = vec![0xb8];
        code.extend(f.nr.to_le_bytes());
        code.extend([0x0f, 0x05, 0xc3]);
        assert_eq!(b[at..at + STUB_CODE], code);
    }
    for absent in ["__vdso_getrandom", "", "printf"] {
        assert_eq!(
            (gnu_lookup(&b, absent), sysv_lookup(&b, absent)),
            (None, None)
        );
    }
    let numbers: Vec<_> = FUNCTIONS.iter().map(|f| f.nr).collect();
    assert_eq!(numbers, [228, 96, 201, 309, 229]);
}

#[test]
fn an_elf_parser_agrees() {
    let b = the_image();
    let f = ElfFile64::<Endianness>::parse(&*b).unwrap();
    let mut names: Vec<_> = f
        .dynamic_symbols()
        .map(|s| {
            assert!(s.is_definition());
            s.name().unwrap().to_owned()
        })
        .collect();
    names.sort();
    let mut want: Vec<_> = FUNCTIONS.iter().flat_map(|f| [f.name, f.alias()]).collect();
    want.sort();
    assert_eq!(names, want);

    let h = f.elf_header();
    let e = Endianness::Little;
    let sections = h.sections(e, &*b).unwrap();
    assert_eq!(sections.len(), sec::SHSTRTAB as usize + 1);
    let versions = sections.versions(e, &*b).unwrap().unwrap();
    let symbols = sections.symbols(e, &*b, elf::SHT_DYNSYM).unwrap();
    for (i, _) in symbols.enumerate().skip(1) {
        let v = versions
            .version(versions.version_index(e, i))
            .unwrap()
            .unwrap();
        assert_eq!(v.name(), VERSION.as_bytes());
    }
    let (text, _) = sections.section_by_name(e, b".text").unwrap();
    assert_eq!(text, object::SectionIndex(sec::TEXT as usize));
    let load = &h.program_headers(e, &*b).unwrap()[0];
    assert_eq!(
        (load.p_vaddr(e), load.p_offset(e), load.p_flags(e)),
        (0, 0, 5)
    );
}

#[test]
fn unwind_table_points_at_the_text() {
    let b = the_image();
    let text = stubs().next().unwrap().1;
    let h = elf::FileHeader64::<LittleEndian>::parse(&*b).unwrap();
    let e = LittleEndian;
    let p = h.program_headers(e, &*b).unwrap();
    let hdr = p
        .iter()
        .find(|p| p.p_type(e) == PT_GNU_EH_FRAME)
        .unwrap()
        .p_vaddr(e) as usize;
    let s = |at: usize| le::u32(&b, at) as i32 as isize;
    let eh = (hdr + 4).wrapping_add_signed(s(hdr + 4));
    assert_eq!(le::u32(&b, hdr + 8), 1);
    assert_eq!(hdr.wrapping_add_signed(s(hdr + 12)), text);
    let fde = hdr.wrapping_add_signed(s(hdr + 16));
    // The FDE follows the CIE and points back at it.
    assert_eq!(fde, eh + 4 + le::u32(&b, eh) as usize);
    assert_eq!(fde + 4 - le::u32(&b, fde + 4) as usize, eh);
    assert_eq!((fde + 8).wrapping_add_signed(s(fde + 8)), text);
    assert_eq!(le::u32(&b, fde + 12) as usize, FUNCTIONS.len() * STUB_SIZE);
    // Nothing but the text behind it: the FDE is the last entry.
    assert!(fde + 4 + le::u32(&b, fde) as usize <= text);
}

#[test]
fn functions_are_replaced_where_they_stand() {
    let old = the_image();
    let new = replaced(&old).unwrap();
    for (function, at) in stubs() {
        let code = &new[at..at + STUB_CODE];
        assert_eq!(code[0], 0xb8);
        assert_eq!(le::u32(&new, at + 1), function.nr);
        assert_eq!(code[5..], [0x0f, 0x05, 0xc3]);
    }
    assert_eq!(replaced(b"no ELF file"), None);
    for len in 0..old.len() {
        let _ = replaced(&old[..len]);
    }
}

#[test]
fn length() {
    assert_eq!(image(8192).unwrap().len(), 8192);
    assert_eq!(image(8192).unwrap()[..4096], the_image());
    assert_eq!(image(100), None);
}

#[test]
fn what_is_left_of_a_function() {
    let image = the_image();
    for (_, at) in stubs() {
        assert_eq!(inside(&image, at), None);
        assert_eq!(inside(&image, at + 5), Some(Inside::Rest(5)));
        assert_eq!(inside(&image, at + 7), Some(Inside::Return));
        assert_eq!(inside(&image, at + STUB_CODE), None);
    }
    for (at, byte) in code_of("getrandom").unwrap().iter().enumerate() {
        // Between instructions.
        assert_eq!(*byte == RET, [13, 21].contains(&at), "{at}");
    }
    assert_eq!(inside(b"no ELF file", 3), None);
}
