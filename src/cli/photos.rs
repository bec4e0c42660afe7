//! The photos that were asked for, and the names of what becomes of them.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use lseg_fast::Error;

use super::Failure;

/// Files with these endings are photos when a whole folder is given. (A file given by its own name may have any.)
const ENDINGS: [&str; 13] =
    ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "pbm", "pgm", "ppm", "pnm", "pam"];

/// What this program itself writes beside or among photos.
const OWN_RESULTS: [&str; 2] = [".mask.png", ".overlay.png"];

/// The photos in the order given; in place of a folder, the photos directly in it, sorted by name.
///
/// # Errors
/// A folder that cannot be listed or holds no photo; two photos whose results would have the same names.
pub fn collect(given: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut photos = Vec::new();
    for path in given {
        if path.is_dir() {
            photos.extend(in_folder(path)?);
        } else {
            photos.push(path.clone());
        }
    }
    refuse_equal_stems(&photos)?;
    Ok(photos)
}

/// `<out>/<stem of photo>.<ending>`
pub fn result(out: &Path, photo: &Path, ending: &str) -> PathBuf {
    let mut name = stem(photo);
    name.push(".");
    name.push(ending);
    out.join(name)
}

/// An error if one of the `results` is one of the `photos`.
pub fn refuse_overwriting(photos: &[PathBuf], results: impl Iterator<Item = PathBuf>) -> Result<(), Failure> {
    let photos: HashSet<PathBuf> = photos.iter().filter_map(|photo| fs::canonicalize(photo).ok()).collect();
    for result in results {
        if fs::canonicalize(&result).is_ok_and(|result| photos.contains(&result)) {
            let result = result.display();
            return Err(Failure::call(format!("the result {result} would overwrite a photo; choose another --out")));
        }
    }
    Ok(())
}

fn in_folder(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |e| Failure::call(Error::io("list", folder, e));
    let mut photos = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.file_name().is_some_and(is_photo_name) && path.is_file() {
            photos.push(path);
        }
    }
    if photos.is_empty() {
        let endings = ENDINGS.join(", ");
        return Err(Failure::call(format!("{}: no photo in this folder ({endings})", folder.display())));
    }
    photos.sort();
    Ok(photos)
}

fn is_photo_name(name: &OsStr) -> bool {
    let ending = Path::new(name).extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase();
    let name = name.to_string_lossy();
    ENDINGS.contains(&ending.as_str()) && !name.starts_with('.') && !OWN_RESULTS.iter().any(|own| name.ends_with(own))
}

fn stem(photo: &Path) -> OsString {
    photo.file_stem().unwrap_or(photo.as_os_str()).to_owned()
}

fn refuse_equal_stems(photos: &[PathBuf]) -> Result<(), Failure> {
    let mut seen: HashMap<OsString, &Path> = HashMap::new();
    for photo in photos {
        let stem = stem(photo);
        if let Some(other) = seen.insert(stem.clone(), photo) {
            return Err(Failure::call(format!(
                "{} and {} would both be written as {}.*; rename one or run them with different --out",
                other.display(),
                photo.display(),
                stem.display()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_give_their_photos_sorted() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.JPG", "a.png", "notes.txt", ".hidden.png", "a.mask.png", "a.overlay.png", "c"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        fs::create_dir(folder.path().join("d.png")).unwrap();
        let photos = collect(&[folder.path().to_owned(), PathBuf::from("x.bin")]).unwrap();
        assert_eq!(photos, [folder.path().join("a.png"), folder.path().join("b.JPG"), "x.bin".into()]);
    }

    #[test]
    fn results_carry_the_stem() {
        assert_eq!(result(Path::new("out"), Path::new("a/b.c.jpg"), "mask.png"), Path::new("out/b.c.mask.png"));
        assert_eq!(result(Path::new("out"), Path::new(".jpg"), "mask.png"), Path::new("out/.jpg.mask.png"));
    }

    #[test]
    fn a_result_is_never_written_over_a_photo() {
        let folder = tempfile::tempdir().unwrap();
        let photo = folder.path().join("a.mask.png");
        fs::write(&photo, "").unwrap();
        let other = folder.path().join(".").join("a.mask.png");
        assert!(refuse_overwriting(std::slice::from_ref(&photo), [other].into_iter()).is_err());
        assert!(refuse_overwriting(&[photo], [folder.path().join("b.mask.png")].into_iter()).is_ok());
    }
}
