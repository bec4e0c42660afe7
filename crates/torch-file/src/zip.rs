//! PyTorch's zip format (since 1.6): `NAME/data.pkl` describes the objects, `NAME/data/KEY` are the storages,
//! uncompressed, so that a tensor is a place in the file. The `zip` crate reads the directory and finds where
//! each entry's bytes start; the bytes are read by position.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::rc::Rc;
use std::sync::Arc;

use ::zip::read::{ArchiveOffset, Config};
use ::zip::{CompressionMethod, ZipArchive};

use crate::crc::Summed;
use crate::file::Contents;
use crate::layout::Extent;
use crate::limits::{MAX_DIRECTORY, MAX_PICKLE};
use crate::pickle::{Fault, Pickle};
use crate::printable::shortened;
use crate::source::Source;
use crate::torch::{self, Entry};
use crate::{Options, Result, settings};

/// Bytes that a zip starts with.
pub(crate) const MAGIC: &[u8] = b"PK\x03\x04";

/// Bytes that may be read to find where one entry's own bytes start: its header, by the buffer.
const LOCAL_HEADER: u64 = 16 << 10;

pub(crate) fn open(source: &Source, options: &Options) -> Result<Contents> {
    let mut archive = Archive::open(source)?;
    let pickle_at = archive.pickle()?;
    if let Some(order) = archive.index("byteorder") {
        let order = archive.small(order)?;
        if order != b"little" {
            let order = shortened(&String::from_utf8_lossy(&order));
            return Err(source.damaged(format!(
                "was saved on a machine of byte order {order:?}; only \"little\" is read: save it again on one of those"
            )));
        }
    }
    let bytes = archive.checked(pickle_at)?;
    let pickle = Pickle::read(&bytes).map_err(|fault| {
        source.damaged(match fault {
            Fault::Truncated => "its data.pkl ends in the middle of an object".to_owned(),
            Fault::Malformed(reason) => format!("its data.pkl is damaged: {reason}"),
        })
    })?;

    let state_dict = torch::state_dict(&pickle, options).map_err(|error| error.of(&source.path))?;
    let mut contents = Contents { settings: settings::read(&pickle, state_dict.id), ..Contents::default() };
    let mut places = HashMap::new();
    for (name, entry) in state_dict.entries {
        let call = match entry {
            Entry::Other(class) => {
                contents.add_other(name.to_owned(), class);
                continue;
            }
            Entry::Tensor(call) => call,
        };
        let key = call.storage.key.clone();
        let (place, summed) = match places.get(&key) {
            Some(place) => place,
            None => &*places.entry(key.clone()).or_insert(archive.storage(&key, name)?),
        };
        // The directory may say less than the pickle: then the file was put together wrongly.
        if call.storage.bytes().is_none_or(|len| len > place.len) {
            return Err(source.damaged(format!(
                "storage {} has {} bytes, tensor {} needs {} elements; the file is damaged",
                shortened(&key),
                place.len,
                shortened(name),
                call.storage.count
            )));
        }
        let layout = call
            .layout(*place)
            .map_err(|reason| source.damaged(format!("tensor {}: {reason}; the file is damaged", shortened(name))))?;
        contents.add_tensor(name.to_owned(), layout.of(summed.clone()));
    }
    if overlap(places.values().map(|(place, _)| *place).collect()) {
        return Err(source.damaged("its storages lie on top of each other; the file is damaged"));
    }
    Ok(contents)
}

/// Whether some share a byte. (To compare their checksums would then read the file many times.)
fn overlap(mut places: Vec<Extent>) -> bool {
    places.retain(|place| place.len > 0);
    places.sort_unstable_by_key(|place| place.offset);
    places.windows(2).any(|pair| pair[0].offset + pair[0].len > pair[1].offset)
}

struct Archive<'a> {
    source: &'a Source,
    zip: ZipArchive<BufReader<Limited<'a>>>,
    /// Bytes that `zip` may still read.
    left: Rc<Cell<u64>>,
    /// The archive's one folder, with its slash.
    folder: String,
}

impl<'a> Archive<'a> {
    fn open(source: &'a Source) -> Result<Self> {
        let left = Rc::new(Cell::new(MAX_DIRECTORY));
        let reader = BufReader::new(Limited { source, at: 0, left: left.clone() });
        // Nothing stands before PyTorch's archives; a search for one that starts later would read the whole file.
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let zip = ZipArchive::with_config(config, reader).map_err(|e| {
            source.damaged(format!(
                "its zip directory cannot be read ({}); the file is damaged or cut short",
                shortened(&e.to_string())
            ))
        })?;
        if zip.has_duplicate_names() {
            return Err(source.damaged("is a zip with two entries of one name; save the model again with torch.save"));
        }
        Ok(Archive { source, zip, left, folder: String::new() })
    }

    /// Finds `FOLDER/data.pkl`, and so the folder of all other entries.
    fn pickle(&mut self) -> Result<usize> {
        let mut found = self.zip.file_names_raw().filter_map(|name| {
            let name = std::str::from_utf8(name).ok()?;
            let folder = name.strip_suffix("data.pkl")?;
            (folder.is_empty() || folder.find('/') == Some(folder.len() - 1)).then(|| folder.to_owned())
        });
        let folder = found.next();
        if found.next().is_some() {
            return Err(self.source.damaged("is a zip with several data.pkl; one model a file is expected"));
        }
        drop(found);
        let folder = folder.ok_or_else(|| {
            self.source
                .damaged("is a zip, but not one of PyTorch's: data.pkl is missing; save the model with torch.save")
        })?;
        self.folder = folder;
        if self.index("constants.pkl").is_some() {
            return Err(self.source.damaged(
                "is a TorchScript archive (a program); save the model's state_dict() with torch.save instead",
            ));
        }
        self.index("data.pkl").ok_or_else(|| self.source.damaged("its data.pkl cannot be found"))
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.zip.index_for_name_raw(format!("{}{name}", self.folder).as_bytes())
    }

    /// The bytes of a storage, and their checksum where there is one. The tensor `name` lies in it.
    fn storage(&mut self, key: &str, name: &str) -> Result<(Extent, Option<Arc<Summed>>)> {
        let index = self.index(&format!("data/{key}")).ok_or_else(|| {
            self.source.damaged(format!("its storage data/{} is missing; the file is damaged", shortened(key)))
        })?;
        let (place, crc32) = self.place(index)?;
        Ok((place, crc32.map(|crc32| Arc::new(Summed::new(place, crc32, name)))))
    }

    /// Where an uncompressed entry's bytes lie, and their CRC-32 where there is one: PyTorch can be told to write zeros
    /// for them (`set_crc32_options(False)`).
    fn place(&mut self, index: usize) -> Result<(Extent, Option<u32>)> {
        let source = self.source;
        let damaged = |reason: &str| source.damaged(format!("its zip entry {index} {reason}"));
        // The directory is read; what one entry takes is no other's.
        self.left.set(LOCAL_HEADER);
        let entry = self
            .zip
            .by_index_raw(index)
            .map_err(|e| damaged(&format!("cannot be found ({}); the file is damaged", shortened(&e.to_string()))))?;
        if entry.encrypted() {
            return Err(damaged("is encrypted; save the model again with torch.save"));
        }
        if entry.compression() != CompressionMethod::Stored {
            return Err(damaged("is compressed, which torch.save never does; save the model again with torch.save"));
        }
        let (Some(offset), len) = (entry.data_start(), entry.size()) else {
            return Err(damaged("has no data; the file is damaged"));
        };
        let inside = offset.checked_add(len).is_some_and(|end| end <= source.len);
        if !inside || entry.compressed_size() != len {
            return Err(damaged(&format!(
                "of {len} bytes at byte {offset} does not fit the file of {} bytes; it is damaged or cut short",
                source.len
            )));
        }
        Ok((Extent { offset, len }, Some(entry.crc32()).filter(|&crc32| crc32 != 0)))
    }

    /// An entry of a few bytes.
    fn small(&mut self, index: usize) -> Result<Vec<u8>> {
        let (place, _) = self.place(index)?;
        self.source.bytes(place.offset, place.len.min(64))
    }

    /// The pickle, against its CRC-32.
    fn checked(&mut self, index: usize) -> Result<Vec<u8>> {
        let (place, expected) = self.place(index)?;
        if place.len > MAX_PICKLE {
            return Err(self.source.damaged(format!(
                "its data.pkl has {} MiB, at most {} are read; save only the state_dict",
                place.len >> 20,
                MAX_PICKLE >> 20
            )));
        }
        let bytes = self.source.bytes(place.offset, place.len)?;
        if expected.is_some_and(|expected| crc32fast::hash(&bytes) != expected) {
            return Err(self.source.damaged("its data.pkl does not match its checksum; the file is damaged"));
        }
        Ok(bytes)
    }
}

/// The file as a stream that ends after so many bytes read, wherever they were.
struct Limited<'a> {
    source: &'a Source,
    at: u64,
    left: Rc<Cell<u64>>,
}

impl Read for Limited<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.source.len.saturating_sub(self.at).min(buffer.len() as u64);
        let Some(left) = self.left.get().checked_sub(available) else {
            return Err(io::Error::other("the directory is larger than that of any model"));
        };
        let len = available as usize;
        self.source.read_at(self.at, &mut buffer[..len]).map_err(io::Error::other)?;
        self.at += available;
        self.left.set(left);
        Ok(len)
    }
}

impl Seek for Limited<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.source.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at =
            at.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a position before the file's start"))?;
        Ok(self.at)
    }
}
