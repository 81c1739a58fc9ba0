//! Descriptions of kernel objects in a log, and the contents that belong to them.

use scribe_log::{LogReader, META, Record};
use scribe_objects::Objects;
use scribe_objects::make::Contents;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;

/// Pieces of one content, by offset.
type Pieces = Vec<(u64, Vec<u8>)>;

/// The streams of a log that hold contents, read when they are wanted.
pub(super) struct Streams {
    log: LogReader,
    read: RefCell<HashMap<u32, Rc<HashMap<u32, Pieces>>>>,
}

impl Streams {
    pub(super) fn new(log: LogReader) -> Streams {
        Streams {
            log,
            read: RefCell::default(),
        }
    }

    fn stream(&self, number: u32) -> io::Result<Rc<HashMap<u32, Pieces>>> {
        if let Some(known) = self.read.borrow().get(&number) {
            return Ok(known.clone());
        }
        let mut found: HashMap<u32, Pieces> = HashMap::new();
        let mut reader = self.log.lane(number);
        while let Some(record) = reader.next().map_err(io::Error::other)? {
            if let Record::Blob {
                file,
                offset,
                bytes,
            } = record
            {
                found
                    .entry(file)
                    .or_default()
                    .push((offset, bytes.to_vec()));
            }
        }
        let found = Rc::new(found);
        self.read.borrow_mut().insert(number, found.clone());
        Ok(found)
    }

    /// The description that is in this stream.
    pub(super) fn objects(&self, stream: u32) -> Result<Objects, String> {
        let found = self.stream(stream).map_err(|error| error.to_string())?;
        let pieces = found.get(&0).ok_or("it is not there")?;
        let text: Vec<u8> = pieces.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        serde_json::from_slice(&text).map_err(|error| error.to_string())
    }
}

impl Contents for Streams {
    fn read(&self, content: (u32, u32), piece: &mut dyn FnMut(u64, &[u8])) -> io::Result<()> {
        let stream = self.stream(content.0)?;
        for (offset, bytes) in stream.get(&content.1).into_iter().flatten() {
            piece(*offset, bytes);
        }
        Ok(())
    }
}

/// Where the log describes kernel objects: bookmark, stream, and whether it is a name before it was changed; in
/// the order of the log.
pub(super) fn described(log: &LogReader) -> Vec<(u32, u32, bool)> {
    let mut found = Vec::new();
    let mut meta = log.lane(META);
    // What is damaged behind these does not matter here.
    while let Ok(Some(record)) = meta.next() {
        if let Record::Objects {
            bookmark,
            stream,
            before,
        } = record
        {
            found.push((bookmark, stream, before));
        }
    }
    found
}

/// Whether a replay could turn live at a bookmark behind this one.
pub(in crate::replay) fn lies_ahead(log: &LogReader, last: u32) -> bool {
    let all = described(log);
    all.iter()
        .any(|(bookmark, _, before)| !before && *bookmark > last)
}
