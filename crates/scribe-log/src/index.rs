//! The index: an optional last chunk with the place of every other one. A reader that has it need
//! not visit every chunk header of a long log; one that has not, does.

use crate::bytes::Cur;
use crate::chunk::{CHUNK_HEADER, CODEC_RAW, FILE_HEADER, Header};

pub(crate) use crate::chunk::KIND_INDEX as KIND;

/// The last bytes of a log with an index.
pub(crate) const TRAILER_MAGIC: [u8; 8] = *b"SCRIBEIX";
/// Length of the trailer: offset of the index chunk, then the magic.
pub(crate) const TRAILER: usize = 16;
/// Logs with fewer chunks have no index: reading their headers is as quick.
pub(crate) const MIN_CHUNKS: usize = 64;
/// Longer logs have none either: the index is to fit in one chunk, and in memory.
pub(crate) const MAX_CHUNKS: usize = 1 << 19;

const ENTRY: usize = 24;

/// Appends the entry for one chunk.
pub(crate) fn put_entry(out: &mut Vec<u8>, h: &Header) {
    out.extend_from_slice(&[h.kind, h.codec, 0, 0]);
    out.extend_from_slice(&h.raw_len.to_le_bytes());
    out.extend_from_slice(&h.stored_len.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&h.streams.to_le_bytes());
}

/// The index chunk for entries made by [`put_entry`]; `offset` is where it is going to begin.
pub(crate) fn seal(mut entries: Vec<u8>, offset: u64) -> Option<Vec<u8>> {
    let n = entries.len() / ENTRY;
    if !(MIN_CHUNKS..=MAX_CHUNKS).contains(&n) {
        return None;
    }
    entries.extend_from_slice(&offset.to_le_bytes());
    entries.extend_from_slice(&TRAILER_MAGIC);
    let len = entries.len() as u32;
    let h = Header {
        kind: KIND,
        codec: CODEC_RAW,
        seq: n as u32,
        raw_len: len,
        stored_len: len,
        streams: 0,
        checksum: 0,
    };
    let mut out = h.seal(&entries).to_vec();
    out.append(&mut entries);
    Some(out)
}

/// Where the trailer says that the index chunk begins.
pub(crate) fn trailer(b: &[u8]) -> Option<u64> {
    let mut c = Cur(b);
    let offset = c.u64()?;
    (c.array::<8>()? == TRAILER_MAGIC).then_some(offset)
}

/// The chunks that an index names, with their offsets. `None` if it does not fit the file. The
/// checksums are missing: they are in the chunk headers.
pub(crate) fn parse(payload: &[u8], at: u64) -> Option<Vec<(u64, Header)>> {
    let entries = payload.get(..payload.len().checked_sub(TRAILER)?)?;
    if entries.len() % ENTRY != 0 {
        return None;
    }
    let mut offset = FILE_HEADER as u64;
    let mut out = Vec::with_capacity(entries.len() / ENTRY);
    for (i, e) in entries.chunks_exact(ENTRY).enumerate() {
        let mut c = Cur(e);
        let (kind, codec) = (c.u8()?, c.u8()?);
        c.u16()?;
        let (raw_len, stored_len) = (c.u32()?, c.u32()?);
        c.u32()?;
        let streams = c.u64()?;
        let h = Header {
            kind,
            codec,
            seq: i as u32,
            raw_len,
            streams,
            stored_len,
            checksum: 0,
        };
        out.push((offset, h));
        offset = offset.checked_add(h.total())?;
    }
    (offset == at).then_some(out)
}

/// Where the index chunk that ends at `end` would have to begin at the earliest.
pub(crate) fn earliest(end: u64) -> u64 {
    end.saturating_sub((MAX_CHUNKS * ENTRY + TRAILER + CHUNK_HEADER) as u64)
}
