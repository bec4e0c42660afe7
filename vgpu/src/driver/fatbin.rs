//! Fat binaries: containers of cubins and PTX for several architectures. Only the PTX is of use here.
//!
//! A header (magic 0xba55ed50, version, its own length, length of what follows), then entries, each with a header: kind
//! (1 PTX, 2 cubin), own length, payload's length, length when compressed, PTX version, architecture, flags, length when
//! decompressed. Layout and flags as nvcc 10 to 13 write them.

use std::io::Read;

use super::boundary::Host;
use super::error::{Code, Outcome, fail};

pub const MAGIC: u32 = 0xba55_ed50;
/// nvcc's `__fatBinC_Wrapper_t`: magic, version, pointer to the container.
pub const WRAPPER_MAGIC: u32 = 0x4662_43b1;

const HEADER: usize = 16;
const ENTRY: usize = 64;
const KIND_PTX: u16 = 1;
const FLAG_LZ4: u64 = 0x2000;
const FLAG_ZSTD: u64 = 0x8000;
/// `compute_90a`: of this architecture alone; `compute_100f`: of its generation.
const FLAG_ARCHITECTURE_SPECIFIC: u64 = 0x10_0000;
const FLAG_FAMILY_SPECIFIC: u64 = 0x20_0000;
const SPECIFIC: u64 = FLAG_ARCHITECTURE_SPECIFIC | FLAG_FAMILY_SPECIFIC;
/// More than any module's text: what a damaged header can make this library allocate.
const MOST: usize = 1 << 30;

struct Entry<'a> {
    kind: u16,
    architecture: u32,
    flags: u64,
    /// As it stands in the file; compressed ones without their padding.
    payload: &'a [u8],
    decompressed: usize,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

/// The whole container behind a pointer: its header tells the length.
pub fn read(image: Host) -> Outcome<Vec<u8>> {
    let header = image.read(HEADER)?;
    let own = u16_at(&header, 6).map_or(0, usize::from);
    let rest = u64_at(&header, 8).and_then(|n| usize::try_from(n).ok()).filter(|&n| n < MOST);
    match rest {
        Some(rest) if own >= HEADER => image.read(own + rest),
        _ => fail(Code::INVALID_IMAGE, "the fat binary's header is damaged"),
    }
}

/// The text of its newest PTX that a device of compute capability `capability` (80 for 8.0) takes; of two for one architecture
/// the one that is for nothing else.
pub fn ptx(container: &[u8], capability: u32) -> Outcome<String> {
    let Some(entries) = entries(container) else {
        return fail(Code::INVALID_IMAGE, "an entry of the fat binary reaches beyond its end");
    };
    let (texts, cubins): (Vec<_>, Vec<_>) = entries.into_iter().partition(|e| e.kind == KIND_PTX);
    let Some(best) =
        texts.iter().filter(|e| e.runs_on(capability)).max_by_key(|e| (e.architecture, e.flags & SPECIFIC))
    else {
        let found: Vec<String> = texts.iter().map(Entry::target).collect();
        let what = format!(
            "the fat binary holds {} cubins and PTX for [{}]; the virtual GPU needs PTX for compute_{capability} or less",
            cubins.len(),
            found.join(", ")
        );
        return fail(Code::NO_BINARY_FOR_GPU, what);
    };
    let text = best.text()?;
    match String::from_utf8(text) {
        Ok(text) => Ok(text.trim_end_matches('\0').to_string()),
        Err(_) => fail(Code::INVALID_IMAGE, "the PTX in the fat binary is not text"),
    }
}

fn entries(container: &[u8]) -> Option<Vec<Entry<'_>>> {
    let mut rest = container.get(usize::from(u16_at(container, 6)?)..)?;
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let own = u32_at(rest, 4)? as usize;
        let size = usize::try_from(u64_at(rest, 8)?).ok()?;
        let compressed = u32_at(rest, 16)? as usize;
        let flags = u64_at(rest, 40)?;
        let end = own.checked_add(size)?;
        let whole = rest.get(own..end).filter(|_| own >= ENTRY)?;
        let payload = if flags & (FLAG_LZ4 | FLAG_ZSTD) != 0 { whole.get(..compressed)? } else { whole };
        entries.push(Entry {
            kind: u16_at(rest, 0)?,
            architecture: u32_at(rest, 28)?,
            flags,
            payload,
            decompressed: usize::try_from(u64_at(rest, 56)?).ok()?,
        });
        rest = &rest[end..];
    }
    Some(entries)
}

impl Entry<'_> {
    fn runs_on(&self, capability: u32) -> bool {
        match self.flags & SPECIFIC {
            0 => self.architecture <= capability,
            FLAG_FAMILY_SPECIFIC => self.architecture <= capability && self.architecture / 10 == capability / 10,
            _ => self.architecture == capability,
        }
    }

    /// As nvcc names it.
    fn target(&self) -> String {
        let letter = match self.flags & SPECIFIC {
            0 => "",
            FLAG_FAMILY_SPECIFIC => "f",
            _ => "a",
        };
        format!("compute_{}{letter}", self.architecture)
    }

    fn text(&self) -> Outcome<Vec<u8>> {
        if self.flags & (FLAG_LZ4 | FLAG_ZSTD) == 0 {
            return Ok(self.payload.to_vec());
        }
        if self.decompressed > MOST {
            return fail(Code::INVALID_IMAGE, format!("compressed PTX of {} bytes", self.decompressed));
        }
        let text = if self.flags & FLAG_ZSTD != 0 { self.zstd() } else { self.lz4() };
        match text {
            Ok(text) if text.len() == self.decompressed => Ok(text),
            Ok(text) => {
                let what = format!("compressed PTX: {} of {} bytes found", text.len(), self.decompressed);
                fail(Code::INVALID_IMAGE, what)
            }
            Err(error) => fail(Code::INVALID_IMAGE, format!("compressed PTX: {error}")),
        }
    }

    fn lz4(&self) -> Result<Vec<u8>, String> {
        lz4_flex::block::decompress(self.payload, self.decompressed).map_err(|e| e.to_string())
    }

    fn zstd(&self) -> Result<Vec<u8>, String> {
        let decoder = ruzstd::decoding::StreamingDecoder::new(self.payload).map_err(|e| e.to_string())?;
        let mut text = Vec::new();
        decoder.take(self.decompressed as u64 + 1).read_to_end(&mut text).map_err(|e| e.to_string())?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: u16, architecture: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; ENTRY];
        bytes[0..2].copy_from_slice(&kind.to_le_bytes());
        bytes[4..8].copy_from_slice(&(ENTRY as u32).to_le_bytes());
        bytes[8..16].copy_from_slice(&(payload.len() as u64).to_le_bytes());
        bytes[28..32].copy_from_slice(&architecture.to_le_bytes());
        [&bytes, payload].concat()
    }

    fn container(entries: &[Vec<u8>]) -> Vec<u8> {
        let body = entries.concat();
        let mut bytes = MAGIC.to_le_bytes().to_vec();
        bytes.extend([1, 0, HEADER as u8, 0]);
        bytes.extend((body.len() as u64).to_le_bytes());
        [bytes, body].concat()
    }

    #[test]
    fn the_newest_ptx_that_fits_is_taken() {
        let bytes = container(&[
            entry(1, 75, b"old\0\0"),
            entry(2, 80, b"\x7fELF"),
            entry(1, 80, b"mine\0\0\0"),
            entry(1, 90, b"newer"),
        ]);
        assert_eq!(ptx(&bytes, 89), Ok("mine".to_string()));
        assert_eq!(ptx(&bytes, 90), Ok("newer".to_string()));
        assert_eq!(ptx(&bytes, 70).map_err(|f| f.code), Err(Code::NO_BINARY_FOR_GPU));
    }

    #[test]
    fn ptx_of_one_architecture_alone_is_taken_there_and_nowhere_else() {
        let specific = |mut entry: Vec<u8>, flag: u64| {
            entry[40..48].copy_from_slice(&flag.to_le_bytes());
            entry
        };
        let hopper = specific(entry(1, 90, b"90a"), FLAG_ARCHITECTURE_SPECIFIC);
        let blackwell = specific(entry(1, 100, b"100f"), FLAG_FAMILY_SPECIFIC);
        let bytes = container(&[hopper.clone(), entry(1, 80, b"80"), entry(1, 90, b"90"), blackwell]);
        let text = |capability| ptx(&bytes, capability);
        assert_eq!(text(89), Ok("80".to_string()));
        assert_eq!(text(90), Ok("90a".to_string()));
        assert_eq!(text(100), Ok("100f".to_string()));
        assert_eq!(text(103), Ok("100f".to_string()));
        assert_eq!(text(120), Ok("90".to_string()));
        let refused = ptx(&container(&[hopper]), 120).expect_err("of sm_90 alone");
        assert!(refused.message.is_some_and(|m| m.contains("[compute_90a]")));
    }

    #[test]
    fn damage_is_an_error_wherever_it_is() {
        let whole = container(&[entry(1, 75, b"text"), entry(1, 80, b"text")]);
        for length in 0..whole.len() {
            let _ = ptx(&whole[..length], 80);
            for value in [0, 0x7f, 0xff] {
                let mut broken = whole.clone();
                broken[length] = value;
                let _ = ptx(&broken, 80);
            }
        }
        assert_eq!(ptx(&whole[..whole.len() - 1], 80).map_err(|f| f.code), Err(Code::INVALID_IMAGE));
    }
}
