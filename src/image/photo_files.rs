//! Which files of a folder are its photos.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::decode::{HEAD, is_picture};

/// Whether a file's first bytes are a picture's.
pub(crate) fn has_picture(path: &Path) -> bool {
    let mut head = Vec::new();
    File::open(path).and_then(|file| file.take(HEAD as u64).read_to_end(&mut head)).is_ok() && is_picture(&head)
}

/// Whether it is passed over unless it is named itself.
pub(crate) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// Whether this program gives such a name to a picture: `a.mask.png`, `a.overlay.png`, `a.mask.03.dog.png`, `a.heat.03.dog.png`.
pub(crate) fn is_own_result(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let of_one_label = |kind| {
        let (_, after) = name.strip_suffix(".png")?.rsplit_once(kind)?;
        let (index, label) = after.split_once('.')?;
        Some(!label.is_empty() && index.parse::<u16>().is_ok())
    };
    let is_of_one_label = [".mask.", ".heat."].into_iter().filter_map(of_one_label).any(|is| is);
    name.ends_with(".mask.png") || name.ends_with(".overlay.png") || is_of_one_label
}
