//! The file header, and chunks: what the file consists of.

use crate::bytes::Cur;
use crate::error::{LogError, Result};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Major version of the format: a reader refuses logs with another one.
pub const VERSION_MAJOR: u16 = 1;
/// Minor version of the format: a reader skips what it does not know.
pub const VERSION_MINOR: u16 = 1;
/// The largest uncompressed content of a chunk.
pub const MAX_CHUNK_RAW: usize = 16 << 20;

pub(crate) const FILE_MAGIC: [u8; 8] = *b"\x89SCRIBE\n";
pub(crate) const FILE_HEADER: usize = 16;
pub(crate) const CHUNK_MAGIC: u32 = u32::from_le_bytes(*b"SCHK");
pub(crate) const CHUNK_HEADER: usize = 40;

pub(crate) const KIND_DATA: u8 = 1;
pub(crate) const KIND_INDEX: u8 = 2;
pub(crate) const CODEC_RAW: u8 = 0;
pub(crate) const CODEC_ZSTD: u8 = 1;

/// The first bytes of every log.
pub(crate) fn file_header() -> [u8; FILE_HEADER] {
    let mut h = [0; FILE_HEADER];
    h[..8].copy_from_slice(&FILE_MAGIC);
    h[8..10].copy_from_slice(&VERSION_MAJOR.to_le_bytes());
    h[10..12].copy_from_slice(&VERSION_MINOR.to_le_bytes());
    h
}

pub(crate) fn check_file_header(h: &[u8]) -> Result<()> {
    let mut c = Cur(h);
    if c.array::<8>() != Some(FILE_MAGIC) {
        return Err(LogError::NotALog);
    }
    let (Some(major), Some(minor), Some(needs)) = (c.u16(), c.u16(), c.u32()) else {
        return Err(LogError::NotALog);
    };
    // `needs` are features without which the log cannot be understood; none exists yet.
    if major != VERSION_MAJOR || needs != 0 {
        return Err(LogError::Version { major, minor });
    }
    Ok(())
}

/// The bit by which a chunk header says that a stream may be in the chunk. Stream 0 has its own.
pub(crate) fn stream_bit(stream: u32) -> u64 {
    if stream == 0 {
        1
    } else {
        2 << ((stream - 1) % 63)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub kind: u8,
    pub codec: u8,
    pub seq: u32,
    pub raw_len: u32,
    pub streams: u64,
    pub stored_len: u32,
    pub checksum: u64,
}

impl Header {
    fn fields(&self) -> [u8; 28] {
        let mut b = [0; 28];
        b[..4].copy_from_slice(&CHUNK_MAGIC.to_le_bytes());
        b[4] = self.kind;
        b[5] = self.codec;
        b[8..12].copy_from_slice(&self.seq.to_le_bytes());
        b[12..16].copy_from_slice(&self.raw_len.to_le_bytes());
        b[16..24].copy_from_slice(&self.streams.to_le_bytes());
        b[24..28].copy_from_slice(&self.stored_len.to_le_bytes());
        b
    }

    /// The stored form; computes the checksum over `payload`.
    pub fn seal(mut self, payload: &[u8]) -> [u8; CHUNK_HEADER] {
        let fields = self.fields();
        let h = xxh3_64(&fields);
        self.checksum = xxh3_64_with_seed(payload, h);
        let mut b = [0; CHUNK_HEADER];
        b[..28].copy_from_slice(&fields);
        b[28..32].copy_from_slice(&(h as u32).to_le_bytes());
        b[32..].copy_from_slice(&self.checksum.to_le_bytes());
        b
    }

    /// Reads a header. The error is what is wrong with it. `verify` is false for the fuzzer, which
    /// cannot guess checksums.
    pub fn parse(b: &[u8], verify: bool) -> std::result::Result<Header, &'static str> {
        let mut c = Cur(b);
        Self::parse_fields(&mut c)
            .ok_or("chunk header cut off")
            .and_then(|(magic, flags, check, h)| {
                if magic != CHUNK_MAGIC {
                    return Err("no chunk begins here");
                }
                if verify && check != xxh3_64(b.get(..28).unwrap_or_default()) as u32 {
                    return Err("chunk header does not match its checksum");
                }
                if flags != 0 {
                    return Err("chunk with unknown flags");
                }
                if h.codec > CODEC_ZSTD {
                    return Err("chunk compressed in an unknown way");
                }
                if h.raw_len as usize > MAX_CHUNK_RAW || h.stored_len > h.raw_len {
                    return Err("chunk with impossible lengths");
                }
                if h.codec == CODEC_RAW && h.stored_len != h.raw_len {
                    return Err("chunk with impossible lengths");
                }
                Ok(h)
            })
    }

    fn parse_fields(c: &mut Cur<'_>) -> Option<(u32, u16, u32, Header)> {
        let magic = c.u32()?;
        let kind = c.u8()?;
        let codec = c.u8()?;
        let flags = c.u16()?;
        let seq = c.u32()?;
        let raw_len = c.u32()?;
        let streams = c.u64()?;
        let stored_len = c.u32()?;
        let check = c.u32()?;
        let checksum = c.u64()?;
        let h = Header {
            kind,
            codec,
            seq,
            raw_len,
            streams,
            stored_len,
            checksum,
        };
        Some((magic, flags, check, h))
    }

    /// Length of the chunk in the file.
    pub fn total(&self) -> u64 {
        CHUNK_HEADER as u64 + u64::from(self.stored_len)
    }

    /// Checks and decompresses the payload.
    pub fn open(&self, payload: Vec<u8>, verify: bool) -> std::result::Result<Vec<u8>, String> {
        if verify {
            let sum = xxh3_64_with_seed(&payload, xxh3_64(&self.fields()));
            if sum != self.checksum {
                return Err("chunk does not match its checksum".into());
            }
        }
        if self.codec == CODEC_RAW {
            return Ok(payload);
        }
        let raw_len = self.raw_len as usize;
        let raw = zstd::bulk::decompress(&payload, raw_len)
            .map_err(|e| format!("chunk cannot be decompressed: {e}"))?;
        if raw.len() != raw_len {
            return Err("chunk has not the length that its header says".into());
        }
        Ok(raw)
    }
}

/// The decompressed content of a data chunk.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub raw: Vec<u8>,
    /// Stream, begin and end in `raw`; ascending.
    pub segments: Vec<(u32, u32, u32)>,
}

impl Chunk {
    pub fn parse(raw: Vec<u8>) -> std::result::Result<Chunk, &'static str> {
        let mut c = Cur(&raw);
        let mut segments: Vec<(u32, u32, u32)> = Vec::new();
        while !c.0.is_empty() {
            let (Some(stream), Some(len)) = (c.u32(), c.u32()) else {
                return Err("segment header cut off");
            };
            if segments.last().is_some_and(|s| s.0 >= stream) {
                return Err("segments out of order");
            }
            let start = (raw.len() - c.0.len()) as u32;
            c.take(len as usize).ok_or("segment cut off")?;
            segments.push((stream, start, start + len));
        }
        Ok(Chunk { raw, segments })
    }

    pub fn mask(&self) -> u64 {
        self.segments.iter().fold(0, |m, s| m | stream_bit(s.0))
    }

    /// Begin and end of a stream's segment in `raw`.
    pub fn segment(&self, stream: u32) -> Option<(u32, u32)> {
        let i = self.segments.binary_search_by_key(&stream, |s| s.0).ok()?;
        self.segments.get(i).map(|s| (s.1, s.2))
    }
}
