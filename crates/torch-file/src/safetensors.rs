//! safetensors: the length of a JSON header (8 bytes), the header, the tensors' bytes. The `safetensors` crate
//! checks the header (offsets without gaps or overlaps, sizes that match shapes); the bytes are read by position.

use std::collections::BTreeMap;
use std::fmt;

use safetensors::tensor::{Metadata, TensorInfo};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use crate::Result;
use crate::file::Contents;
use crate::layout::Layout;
use crate::limits::{MAX_DIMENSIONS, MAX_HEADER, MAX_METADATA};
use crate::printable::shortened;
use crate::source::Source;

/// Whether the file's first bytes can be a safetensors file's: a length that fits, then a JSON object.
pub(crate) fn looks_like(head: &[u8], file_len: u64) -> bool {
    let Some((length, rest)) = head.split_first_chunk::<8>() else { return false };
    rest.first() == Some(&b'{') && u64::from_le_bytes(*length) <= file_len
}

pub(crate) fn open(source: &Source) -> Result<Contents> {
    let mut length = [0; 8];
    source.read_at(0, &mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER {
        return Err(source.damaged(format!(
            "its header has {} bytes, at most {} MiB are read",
            length,
            MAX_HEADER >> 20
        )));
    }
    let header = source.bytes(8, length)?;
    let damaged = |reason: String| source.damaged(format!("its safetensors header is damaged: {}", shortened(&reason)));
    let Header { metadata, mut tensors } = serde_json::from_slice(&header).map_err(|e| damaged(e.to_string()))?;
    let count = tensors.len();
    // Files of other programs have them in any order.
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let header = Metadata::new(None, tensors).map_err(|e| damaged(e.to_string()))?;
    let start = 8 + length;
    let expected = (header.data_len() as u64).checked_add(start);
    if expected != Some(source.len) {
        return Err(source.damaged(format!(
            "has {} bytes, its header describes {}; it is cut short or damaged",
            source.len,
            expected.map_or("far more".to_owned(), |n| n.to_string())
        )));
    }

    let mut contents = Contents { metadata, ..Contents::default() };
    let tensors = header.tensors();
    if tensors.len() < count {
        return Err(damaged("it names a tensor twice".to_owned()));
    }
    for (name, info) in tensors {
        if info.dtype.bitsize() % 8 != 0 {
            contents.add_other(name, format!("a tensor of type {}", info.dtype).into());
            continue;
        }
        let offset = start + info.data_offsets.0 as u64;
        contents.add_tensor(name, Layout::contiguous(info.dtype, info.shape.clone(), offset));
    }
    Ok(contents)
}

/// A header as JSON, read in one pass that stops at what no file has: the crate's own reading keeps all of it several
/// times over before the first look.
#[derive(Default)]
struct Header {
    metadata: BTreeMap<String, String>,
    tensors: Vec<(String, TensorInfo)>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Header, M::Error> {
        let mut header = Header::default();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                header.metadata = map.next_value::<Option<Entries>>()?.unwrap_or_default().0;
                continue;
            }
            let info: TensorInfo = map.next_value()?;
            let dimensions = info.shape.len();
            if dimensions > MAX_DIMENSIONS {
                return Err(M::Error::custom(format!(
                    "{dimensions} dimensions, a tensor has at most {MAX_DIMENSIONS}"
                )));
            }
            header.tensors.push((name, info));
        }
        Ok(header)
    }
}

/// A file's metadata.
#[derive(Default)]
struct Entries(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Entries, M::Error> {
        let mut entries = BTreeMap::new();
        while let Some((key, value)) = map.next_entry()? {
            entries.insert(key, value);
            if entries.len() > MAX_METADATA {
                return Err(M::Error::custom(format!("more than {MAX_METADATA} entries of metadata")));
            }
        }
        Ok(Entries(entries))
    }
}
