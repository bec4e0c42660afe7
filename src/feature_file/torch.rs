//! PyTorch's file of one tensor: a zip without compression that has the tensor's description as a pickle and its values beside it
//! (`torch.save`, caffe2/serialize/inline_container.h). `torch.load(…, weights_only=True)` opens it.
//!
//! By hand: the values come in any order and their checksum last, which the crate zip does not write.

use std::io::{self, ErrorKind, SeekFrom};

use flate2::Crc;

use crate::atomic_file::WriteSeek;
use crate::image::npy::Dtype;

/// Where values begin, as PyTorch aligns them for mapping.
const ALIGN: u64 = 64;
/// Of the format's plain form.
const LARGEST: u64 = u32::MAX as u64 - (1 << 20);

/// A file of the zip.
struct Entry {
    name: &'static str,
    header: u64,
    bytes: u32,
    crc: u32,
}

/// A zip in the making, whose values come next.
pub struct Archive {
    entries: Vec<Entry>,
}

impl Archive {
    /// Writes all before the values of a tensor.
    ///
    /// # Errors
    /// What writing yields; `InvalidInput` for a tensor of more than 4 GiB.
    pub fn begin(out: &mut dyn WriteSeek, dtype: Dtype, shape: &[usize]) -> io::Result<Archive> {
        let value = if dtype == Dtype::F16 { 2 } else { 4 };
        let bytes = shape.iter().map(|side| *side as u64).product::<u64>() * value;
        if bytes > LARGEST {
            let what = format!("{bytes} bytes in one .pt file, which holds 4 GiB: choose --format npy");
            return Err(io::Error::new(ErrorKind::InvalidInput, what));
        }
        let mut archive = Archive { entries: Vec::new() };
        archive.whole(out, "archive/data.pkl", &pickle(dtype, shape))?;
        let order: &[u8] = if cfg!(target_endian = "little") { b"little" } else { b"big" };
        archive.whole(out, "archive/byteorder", order)?;
        archive.header(out, "archive/data/0", bytes as u32, 0)?;
        Ok(archive)
    }

    /// Writes all behind the values, whose checksum is this.
    ///
    /// # Errors
    /// What writing yields.
    pub fn end(mut self, out: &mut dyn WriteSeek, crc: u32) -> io::Result<()> {
        const CRC_IN_HEADER: u64 = 14;
        if let Some(values) = self.entries.last_mut() {
            values.crc = crc;
            let here = out.stream_position()?;
            out.seek(SeekFrom::Start(values.header + CRC_IN_HEADER))?;
            out.write_all(&crc.to_le_bytes())?;
            out.seek(SeekFrom::Start(here))?;
        }
        self.whole(out, "archive/version", b"3\n")?;
        let begin = out.stream_position()?;
        for entry in &self.entries {
            let mut record = b"PK\x01\x02\x14\x00\x14\x00\x00\x00\x00\x00\x00\x00\x21\x00".to_vec();
            for number in [entry.crc, entry.bytes, entry.bytes, entry.name.len() as u32] {
                record.extend_from_slice(&number.to_le_bytes());
            }
            // The name's length is of two bytes; no extra field, comment, disk or attributes follow.
            record.truncate(30);
            record.extend_from_slice(&[0; 12]);
            record.extend_from_slice(&(entry.header as u32).to_le_bytes());
            record.extend_from_slice(entry.name.as_bytes());
            out.write_all(&record)?;
        }
        let bytes = out.stream_position()? - begin;
        let count = (self.entries.len() as u16).to_le_bytes();
        let mut end = b"PK\x05\x06\x00\x00\x00\x00".to_vec();
        end.extend_from_slice(&[count, count].concat());
        end.extend_from_slice(&(bytes as u32).to_le_bytes());
        end.extend_from_slice(&(begin as u32).to_le_bytes());
        end.extend_from_slice(&[0; 2]);
        out.write_all(&end)
    }

    /// A small file.
    fn whole(&mut self, out: &mut dyn WriteSeek, name: &'static str, content: &[u8]) -> io::Result<()> {
        let mut sum = Crc::new();
        sum.update(content);
        self.header(out, name, content.len() as u32, sum.sum())?;
        out.write_all(content)
    }

    /// What stands before a file's content, padded so that this is aligned.
    fn header(&mut self, out: &mut dyn WriteSeek, name: &'static str, bytes: u32, crc: u32) -> io::Result<()> {
        const FIXED: u64 = 30;
        const FIELD: u64 = 4;
        let header = out.stream_position()?;
        let content = (header + FIXED + name.len() as u64 + FIELD).next_multiple_of(ALIGN);
        let padding = (content - header - FIXED - name.len() as u64 - FIELD) as u16;
        let mut record = b"PK\x03\x04\x14\x00\x00\x00\x00\x00\x00\x00\x21\x00".to_vec();
        for number in [crc, bytes, bytes] {
            record.extend_from_slice(&number.to_le_bytes());
        }
        record.extend_from_slice(&(name.len() as u16).to_le_bytes());
        record.extend_from_slice(&(padding + FIELD as u16).to_le_bytes());
        record.extend_from_slice(name.as_bytes());
        // PyTorch's own field of padding.
        record.extend_from_slice(b"FB");
        record.extend_from_slice(&padding.to_le_bytes());
        record.resize(record.len() + usize::from(padding), b'Z');
        out.write_all(&record)?;
        self.entries.push(Entry { name, header, bytes, crc });
        Ok(())
    }
}

/// `torch._utils._rebuild_tensor_v2(storage 0, 0, shape, strides, False, OrderedDict())`, protocol 2.
fn pickle(dtype: Dtype, shape: &[usize]) -> Vec<u8> {
    let storage = if dtype == Dtype::F16 { "HalfStorage" } else { "FloatStorage" };
    let strides = (0..shape.len()).map(|i| shape[i + 1..].iter().product::<usize>());
    let mut out = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((".to_vec();
    text(&mut out, "storage");
    out.extend_from_slice(format!("ctorch\n{storage}\n").as_bytes());
    text(&mut out, "0");
    text(&mut out, "cpu");
    integer(&mut out, shape.iter().product());
    // The tuple's end, its storage, where in it the tensor begins.
    out.extend_from_slice(b"tQ");
    integer(&mut out, 0);
    for list in [shape.to_vec(), strides.collect()] {
        out.push(b'(');
        list.into_iter().for_each(|number| integer(&mut out, number));
        out.push(b't');
    }
    // False, an OrderedDict of nothing, the call.
    out.extend_from_slice(b"\x89ccollections\nOrderedDict\n)RtR.");
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// In as few bytes as signed ones of four hold, or eight.
fn integer(out: &mut Vec<u8>, number: usize) {
    match i32::try_from(number) {
        Ok(number) => {
            out.push(b'J');
            out.extend_from_slice(&number.to_le_bytes());
        }
        Err(_) => {
            out.extend_from_slice(&[0x8a, 8]);
            out.extend_from_slice(&(number as u64).to_le_bytes());
        }
    }
}
