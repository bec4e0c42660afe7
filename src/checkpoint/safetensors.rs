//! safetensors: the length of a JSON header (8 bytes), the header, the tensors' bytes. The `safetensors` crate
//! checks the header (offsets without gaps or overlaps, sizes that match shapes); the bytes are read by position.

use safetensors::tensor::Metadata;

use super::layout::{Layout, MAX_DIMENSIONS};
use super::source::Source;
use super::{Contents, printable};
use crate::Result;

/// A header of a thousand tensors takes 100 KB.
const MAX_HEADER: u64 = 4 << 20;

/// What a file says beside its tensors is a handful of entries.
const MAX_METADATA: usize = 1000;

/// Whether the file's first bytes can be a safetensors file's: a length that fits, then a JSON object.
pub(super) fn looks_like(head: &[u8], file_len: u64) -> bool {
    let Some((length, rest)) = head.split_first_chunk::<8>() else { return false };
    rest.first() == Some(&b'{') && u64::from_le_bytes(*length) <= file_len
}

pub(super) fn open(source: &Source) -> Result<Contents> {
    let mut length = [0; 8];
    source.read_at(0, &mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER {
        return Err(source.damaged(format!(
            "its header has {} MiB, at most {} are read",
            length >> 20,
            MAX_HEADER >> 20
        )));
    }
    let header = source.bytes(8, length)?;
    let header: Metadata = serde_json::from_slice(&header)
        .map_err(|e| source.damaged(format!("its safetensors header is damaged: {}", printable(&e.to_string()))))?;
    let start = 8 + length;
    let expected = (header.data_len() as u64).checked_add(start);
    if expected != Some(source.len) {
        return Err(source.damaged(format!(
            "has {} bytes, its header describes {}; it is cut short or damaged",
            source.len,
            expected.map_or("far more".to_owned(), |n| n.to_string())
        )));
    }

    let mut contents = Contents::default();
    contents.metadata.extend(header.metadata().clone().unwrap_or_default());
    if contents.metadata.len() > MAX_METADATA {
        return Err(source.damaged(format!(
            "its header has {} entries of metadata, at most {MAX_METADATA} are read",
            contents.metadata.len()
        )));
    }
    for (name, info) in header.tensors() {
        if info.shape.len() > MAX_DIMENSIONS {
            return Err(source.damaged(format!(
                "tensor {} has {} dimensions; a tensor has at most {MAX_DIMENSIONS}",
                printable(&name),
                info.shape.len()
            )));
        }
        if info.dtype.bitsize() % 8 != 0 {
            contents.add_inert(name, format!("a tensor of type {}", info.dtype));
            continue;
        }
        let offset = start + info.data_offsets.0 as u64;
        contents.add_tensor(name, Layout::contiguous(info.dtype, info.shape.clone(), offset));
    }
    Ok(contents)
}
