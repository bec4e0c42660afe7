//! The checksum in the files that `convert` writes, and what `info --verify` answers.
//!
//! It is the CRC-32 of the whole file in which the checksum's own eight digits are zeros, as hexadecimal text in the
//! `__metadata__`. So a bit that flips anywhere else is seen: in a weight, a name, a shape, a type, the configuration.
//! It guards against accidents; who forges a file can forge its checksum.

use flate2::Crc;

use crate::checkpoint::Checkpoint;
use crate::model::config::Config;
use crate::model::required;
use crate::{Error, Result};

/// The key of the checksum in a converted file's `__metadata__`.
pub const METADATA_KEY: &str = "lseg-fast.checksum";

/// What stands in the checksum's place while it is computed.
pub(crate) const ZEROS: &str = "00000000";

/// The byte of the file where its digits begin: after the header's length and what the header begins with.
pub(crate) const PLACE: usize = 8 + r#"{"__metadata__":{"lseg-fast.checksum":""#.len();

/// What the checksums in a file say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// All that the model needs is as it was written.
    Verified,
    /// There is none, or none for some of the tensors: in older files of `convert`, in PyTorch's before 1.6, in other
    /// programs' safetensors.
    Missing,
}

/// A checksum's digits.
pub(crate) fn digits(sum: &Crc) -> String {
    format!("{:08x}", sum.sum())
}

/// The checksum of a file's bytes, whatever its format.
#[cfg(feature = "cli")]
pub(crate) fn of(checkpoint: &Checkpoint) -> Result<String> {
    Ok(digits(&sum(checkpoint)?))
}

/// Reads every byte of a converted file, or of a PyTorch zip those of the tensors that the model needs, and compares
/// their checksums; then looks at each value that the model needs.
///
/// # Errors
/// [`Error::Checkpoint`] where a checksum is another, or where the file is written to meanwhile; [`Error::Tensor`] for a
/// value that is no number; and what reading gives.
pub fn verify(checkpoint: &Checkpoint, config: &Config) -> Result<Checksum> {
    let stated = checkpoint.metadata().get(METADATA_KEY);
    if let Some(stated) = stated {
        let found = digits(&sum(checkpoint)?);
        if found != *stated {
            return Err(Error::checkpoint(
                checkpoint.path(),
                format!(
                    "its bytes have the checksum {found}, another was written into it; the file is damaged or was changed: \
                     copy it or convert the checkpoint again"
                ),
            ));
        }
    }
    let mut verified = true;
    let mut values = Vec::new();
    for spec in required(config) {
        checkpoint.check(&spec.name, &spec.shape)?;
        checkpoint.read_raw(&spec.name, &mut values)?;
        checkpoint.check_finite(&spec.name, 0, &values)?;
        verified &= stated.is_some() || checkpoint.is_summed(&spec.name);
    }
    checkpoint.unchanged()?;
    Ok(if verified { Checksum::Verified } else { Checksum::Missing })
}

/// The sum of a whole file.
fn sum(checkpoint: &Checkpoint) -> Result<Crc> {
    let mut sum = Crc::new();
    checkpoint.each_chunk(|at, chunk| {
        if at == 0
            && let Some(digits) = chunk.get_mut(PLACE..PLACE + ZEROS.len())
        {
            digits.copy_from_slice(ZEROS.as_bytes());
        }
        sum.update(chunk);
    })?;
    Ok(sum)
}
