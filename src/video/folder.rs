//! Photos as frames, one file each.

use std::fs;
use std::path::{Path, PathBuf};

use super::rate::Rate;
use super::{Frame, Next, Room, Source};
use crate::error::{Error, Result};
use crate::image::decode;
use crate::image::photo_files::{has_picture, is_hidden, is_own_result};
use crate::pixels::Format;

/// Photos, decoded one after the other into 8-bit RGB, each of its own size. The stamps are those of a film of a fixed rate.
pub struct Folder {
    name: String,
    photos: Vec<PathBuf>,
    rate: Rate,
    max_pixels: u64,
    index: usize,
}

impl Folder {
    /// The photos of a folder in the order in which `lseg-fast run` takes them: by name; pictures by their ending or their content,
    /// without hidden ones and this program's results. Folders in it are passed over.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder cannot be listed, [`Error::Data`] where no photo is in it.
    pub fn open(path: &Path, rate: Rate, max_pixels: u64) -> Result<Folder> {
        let photos = photos(path)?;
        if photos.is_empty() {
            return Err(Error::Data(format!(
                "{}: no photo in this folder; expected {}",
                path.display(),
                decode::FORMATS
            )));
        }
        Ok(Folder { name: path.display().to_string(), photos, rate, max_pixels, index: 0 })
    }

    /// These photos in this order; for people they are called `name`.
    pub fn of(photos: Vec<PathBuf>, name: &str, rate: Rate, max_pixels: u64) -> Folder {
        Folder { name: name.to_owned(), photos, rate, max_pixels, index: 0 }
    }
}

impl Source for Folder {
    fn describe(&self) -> String {
        let s = if self.photos.len() == 1 { "" } else { "s" };
        format!("{}: {} photo{s} at {} frames a second", self.name, self.photos.len(), self.rate)
    }

    fn is_live(&self) -> bool {
        false
    }

    fn rate(&self) -> Option<Rate> {
        Some(self.rate)
    }

    /// A photo that cannot be decoded is [`Next::Corrupt`]; its place in time stays free.
    ///
    /// # Errors
    /// Those of `room` alone. The photo is there when it is asked for again.
    fn next(&mut self, room: &mut dyn Room) -> Result<Next> {
        let Some(path) = self.photos.get(self.index) else { return Ok(Next::End) };
        let photo = match decoded(path, self.max_pixels) {
            Ok(photo) => photo,
            Err(error) => {
                self.index += 1;
                return Ok(Next::Corrupt(error.to_string()));
            }
        };
        room.frame(Format::Rgb8, photo.width, photo.height)?.copy_from_slice(&photo.rgb);
        let stamp = self.rate.stamp(self.index as u64);
        self.index += 1;
        Ok(Next::Frame(Frame { stamp, missed: 0 }))
    }
}

fn decoded(path: &Path, max_pixels: u64) -> Result<decode::Photo> {
    // A pipe could make everybody wait for ever.
    if fs::metadata(path).is_ok_and(|data| !data.is_file()) {
        return Err(Error::photo(path, "has a photo's name, but is no file"));
    }
    decode::decode(path, max_pixels)
}

/// The files of a folder that are photos, by name.
fn photos(folder: &Path) -> Result<Vec<PathBuf>> {
    let unlistable = |error| Error::io("list", folder, error);
    let mut photos = Vec::new();
    for entry in fs::read_dir(folder).map_err(unlistable)? {
        let name = entry.map_err(unlistable)?.file_name();
        let path = folder.join(&name);
        if !is_hidden(&name) && !is_own_result(&name) && is_photo(&path) {
            photos.push(path);
        }
    }
    photos.sort();
    Ok(photos)
}

/// Through links. One that leads nowhere is a photo by its name, so that somebody is told.
fn is_photo(path: &Path) -> bool {
    match fs::metadata(path) {
        Ok(data) if data.is_dir() => false,
        Ok(data) if data.is_file() => decode::is_picture_name(path) || has_picture(path),
        Ok(_) | Err(_) => decode::is_picture_name(path),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Memory;
    use super::*;

    fn png(path: &Path, width: u32, height: u32, value: u8) {
        image::RgbImage::from_pixel(width, height, image::Rgb([value; 3]))
            .save_with_format(path, image::ImageFormat::Png)
            .unwrap();
    }

    #[test]
    fn photos_come_by_name_and_a_bad_one_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        png(&at("b.png"), 3, 2, 20);
        png(&at("a.png"), 2, 2, 10);
        png(&at("without an ending"), 1, 1, 40);
        png(&at(".hidden.png"), 1, 1, 1);
        png(&at("a.mask.png"), 1, 1, 1);
        fs::write(at("c.JPG"), "no photo").unwrap();
        fs::write(at("notes.txt"), "dog").unwrap();
        fs::create_dir(at("d.png")).unwrap();

        let mut source = Folder::open(folder.path(), Rate::new(10, 1).unwrap(), 1000).unwrap();
        assert!(source.describe().ends_with(": 4 photos at 10 frames a second"), "{}", source.describe());
        assert!(!source.is_live());
        let mut room = Memory::default();
        for (stamp, width, value) in [(0, 2, 10), (100_000_000, 3, 20)] {
            let Next::Frame(frame) = source.next(&mut room).unwrap() else { panic!("{stamp}") };
            assert_eq!(
                (frame, room.format, room.width, room.height),
                (Frame { stamp, missed: 0 }, Some(Format::Rgb8), width, 2)
            );
            assert_eq!(room.bytes, vec![value; width * 2 * 3]);
        }
        let Next::Corrupt(what) = source.next(&mut room).unwrap() else { panic!("it is no photo") };
        assert!(what.contains("c.JPG: ") && !what.contains('\n'), "{what}");
        assert!(matches!(source.next(&mut room).unwrap(), Next::Frame(Frame { stamp: 300_000_000, .. })));
        assert!(matches!(source.next(&mut room).unwrap(), Next::End));
    }

    #[test]
    fn a_photo_that_had_no_room_is_there_when_it_is_asked_for_again() {
        let folder = tempfile::tempdir().unwrap();
        png(&folder.path().join("a.png"), 2, 2, 10);
        let photos = vec![folder.path().join("a.png"), folder.path().join("gone.png")];
        let mut source = Folder::of(photos, "two", Rate::new(1, 1).unwrap(), 1000);
        let mut room = Memory { refuse: 1, ..Memory::default() };
        assert!(matches!(source.next(&mut room), Err(Error::Memory(_))));
        assert!(matches!(source.next(&mut room).unwrap(), Next::Frame(_)));
        assert!(matches!(source.next(&mut room).unwrap(), Next::Corrupt(_)));
        assert!(matches!(source.next(&mut room).unwrap(), Next::End));
    }

    #[test]
    fn folders_without_photos_and_photos_that_are_too_large_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let rate = Rate::new(1, 1).unwrap();
        let open = || Folder::open(folder.path(), rate, 3);
        assert!(open().err().unwrap().to_string().contains("no photo in this folder"));
        png(&folder.path().join("a.png"), 2, 2, 10);
        let Next::Corrupt(what) = open().unwrap().next(&mut Memory::default()).unwrap() else {
            panic!("it is too large")
        };
        assert!(what.contains("more than the 3 allowed"), "{what}");
        assert!(matches!(Folder::open(&folder.path().join("no"), rate, 3), Err(Error::Io { action: "list", .. })));
    }

    #[test]
    #[cfg(unix)]
    fn links_to_nothing_and_pipes_are_told_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/nowhere", folder.path().join("a.png")).unwrap();
        let pipe = folder.path().join("b.png");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let mut source = Folder::open(folder.path(), Rate::new(1, 1).unwrap(), 3).unwrap();
        let mut corrupt = || match source.next(&mut Memory::default()).unwrap() {
            Next::Corrupt(what) => what,
            other => panic!("{other:?}"),
        };
        assert!(corrupt().contains("cannot open"));
        assert!(corrupt().contains("is no file"));
    }
}
