//! From places in mapped files to names of functions and source lines.

use addr2line::Loader;
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, Object};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The files looked at so far.
#[derive(Default)]
pub struct Symbols {
    modules: HashMap<String, Option<Module>>,
}

struct Module {
    /// Offset in the file, length, address that it is linked for.
    segments: Vec<(u64, u64, u64)>,
    loader: Loader,
    /// Debug information in a file of its own.
    debug: Option<Loader>,
}

/// Larger files are not loaded only to name a function.
const LIMIT: u64 = 4 << 30;

impl Symbols {
    /// What is at an offset of a file: function, file, source line, as far as known. `after`: the
    /// place is behind a call, as return addresses are.
    pub fn describe(&mut self, place: Option<(&str, u64)>, after: bool) -> String {
        let Some((name, offset)) = place else {
            return "?".into();
        };
        let module = self
            .modules
            .entry(name.to_owned())
            .or_insert_with(|| Module::load(Path::new(name)));
        let found = module
            .as_ref()
            .and_then(|module| module.describe(offset, after));
        match found {
            Some((function, line)) => {
                let line = line.map_or(String::new(), |line| format!(" at {line}"));
                format!("{function}{line} in {name}")
            }
            None => format!("{name}+{offset:#x}"),
        }
    }
}

impl Module {
    fn load(path: &Path) -> Option<Module> {
        let meta = path.metadata().ok()?;
        if !meta.is_file() || meta.len() > LIMIT {
            return None;
        }
        let bytes = std::fs::read(path).ok()?;
        let debug = debug_file(path, &bytes).and_then(|path| Loader::new(path).ok());
        Some(Module {
            segments: segments(&bytes)?,
            loader: Loader::new(path).ok()?,
            debug,
        })
    }

    /// Name and offset of the function, and its source line.
    fn describe(&self, offset: u64, after: bool) -> Option<(String, Option<String>)> {
        let (from, _, address) = *self
            .segments
            .iter()
            .find(|(from, len, _)| (*from..from + len).contains(&offset))?;
        let address = address + (offset - from);
        let probe = if after {
            address.saturating_sub(1)
        } else {
            address
        };
        let loaders = || {
            [self.debug.as_ref(), Some(&self.loader)]
                .into_iter()
                .flatten()
        };
        let symbol = loaders().find_map(|loader| loader.find_symbol_info(probe));
        let line = loaders().find_map(|loader| {
            let place = loader.find_location(probe).ok()??;
            Some(format!("{}:{}", place.file?, place.line?))
        });
        let name = match symbol {
            Some(symbol) => {
                // Without the version that some symbols have.
                let name = symbol.name().split('@').next().unwrap_or_default();
                let name = addr2line::demangle_auto(name.into(), None);
                format!("{name}+{:#x}", address.saturating_sub(symbol.address()))
            }
            None if line.is_some() => format!("{address:#x}"),
            None => return None,
        };
        Some((name, line))
    }
}

fn segments(bytes: &[u8]) -> Option<Vec<(u64, u64, u64)>> {
    let header = object::elf::FileHeader64::<Endianness>::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let headers = header.program_headers(endian, bytes).ok()?;
    let loads = headers
        .iter()
        .filter(|h| h.p_type(endian) == object::elf::PT_LOAD);
    Some(
        loads
            .map(|h| (h.p_offset(endian), h.p_filesz(endian), h.p_vaddr(endian)))
            .collect(),
    )
}

/// The file with the debug information that was split off from this one.
fn debug_file(path: &Path, bytes: &[u8]) -> Option<PathBuf> {
    let file = object::File::parse(bytes).ok()?;
    let id = file.build_id().ok().flatten();
    let mut candidates = Vec::new();
    if let Some([first, rest @ ..]) = id {
        let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
        candidates.push(PathBuf::from(format!(
            "/usr/lib/debug/.build-id/{first:02x}/{rest}.debug"
        )));
    }
    let link = file.gnu_debuglink().ok().flatten();
    if let Some((name, _)) = link {
        let name = Path::new(std::ffi::OsStr::from_bytes(name));
        let dir = path.parent()?;
        candidates.push(dir.join(name));
        candidates.push(dir.join(".debug").join(name));
        candidates.push(
            Path::new("/usr/lib/debug")
                .join(dir.strip_prefix("/").unwrap_or(dir))
                .join(name),
        );
    }
    let crc = link.map(|(_, crc)| crc);
    candidates
        .into_iter()
        .find(|candidate| candidate != path && belongs(candidate, id, crc))
}

/// Whether a file is the one that was split off: by build id, or else by its checksum.
fn belongs(path: &Path, id: Option<&[u8]>, crc: Option<u32>) -> bool {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LIMIT).read_to_end(&mut bytes));
    if read.is_err() {
        return false;
    }
    let Ok(file) = object::File::parse(&*bytes) else {
        return false;
    };
    match (id, file.build_id().ok().flatten()) {
        (Some(ours), Some(theirs)) => ours == theirs,
        _ => crc == Some(crc32(&bytes)),
    }
}

/// The checksum of .gnu_debuglink: CRC-32 as zlib has it.
fn crc32(bytes: &[u8]) -> u32 {
    let mut table = [0u32; 256];
    for (i, entry) in table.iter_mut().enumerate() {
        *entry = (0..8).fold(i as u32, |c, _| {
            if c & 1 != 0 {
                c >> 1 ^ 0xedb8_8320
            } else {
                c >> 1
            }
        });
    }
    !bytes.iter().fold(!0u32, |crc, byte| {
        crc >> 8 ^ table[((crc ^ u32::from(*byte)) & 0xff) as usize]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[inline(never)]
    fn landmark() -> usize {
        landmark as fn() -> usize as usize
    }

    #[test]
    fn own_functions_have_names_and_lines() {
        let at = landmark();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let (name, offset) = maps
            .lines()
            .find_map(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let hex = |text| usize::from_str_radix(text, 16).unwrap();
                let (start, end) = fields[0].split_once('-')?;
                let inside = (hex(start)..hex(end)).contains(&at);
                inside.then(|| {
                    (
                        fields[5].to_owned(),
                        (at - hex(start) + hex(fields[2])) as u64,
                    )
                })
            })
            .unwrap();
        let text = Symbols::default().describe(Some((&name, offset)), false);
        assert!(text.contains("landmark+0x0"), "{text}");
        assert!(text.contains("symbols.rs:"), "{text}");
    }

    #[test]
    fn what_cannot_be_named_is_a_place() {
        let mut symbols = Symbols::default();
        assert_eq!(symbols.describe(None, false), "?");
        assert_eq!(
            symbols.describe(Some(("/no/such", 16)), false),
            "/no/such+0x10"
        );
        assert_eq!(
            symbols.describe(Some(("/etc/passwd", 1)), true),
            "/etc/passwd+0x1"
        );
    }
}
