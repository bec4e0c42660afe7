//! The photos that were asked for, and the names of what becomes of them.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::image::decode::is_picture_name;
use crate::image::photo_files::{has_picture, is_hidden, is_own_result};
use walkdir::{DirEntry, WalkDir};

use super::Failure;

/// In place of a photo: standard input. In place of the results' folder: standard output.
pub const STANDARD: &str = "-";

/// A photo that was asked for.
#[derive(Debug)]
pub struct Photo {
    pub path: PathBuf,
    /// Where its results go below the results' folder: its own folder below the one that was given, and its stem.
    place: PathBuf,
    /// Why nothing can be made of it.
    pub fault: Option<Error>,
}

impl Photo {
    fn new(path: PathBuf, place: PathBuf) -> Photo {
        Photo { path, place, fault: None }
    }

    /// A photo or folder given by its own path.
    fn given(path: &Path) -> Photo {
        let place = if path == Path::new(STANDARD) { "stdin".into() } else { PathBuf::from(stem(path)) };
        Photo::new(path.to_owned(), place)
    }

    /// Whether it comes from standard input.
    pub fn is_stdin(&self) -> bool {
        self.path == Path::new(STANDARD)
    }

    /// `<out>/<place>.<ending>`, without the point where the ending begins with a `_`
    pub fn result(&self, out: &Path, ending: &str) -> PathBuf {
        let mut name = out.join(&self.place).into_os_string();
        if !ending.starts_with('_') {
            name.push(".");
        }
        name.push(ending);
        name.into()
    }
}

/// What was found for a call's photos and folders.
#[derive(Debug, Default)]
pub struct Found {
    pub photos: Vec<Photo>,
    /// What was passed over, for people.
    pub notes: Vec<String>,
}

/// The photos in the order given; in place of a folder, the photos in it, sorted by name: all files that are pictures by
/// their ending or their content, but no hidden ones and no results of this program. With `recursive` those of its folders
/// too.
///
/// A photo that cannot be opened, and one whose results would have the names of another's, has a fault.
///
/// # Errors
/// A folder that cannot be listed or holds no photo.
pub fn collect(given: &[PathBuf], recursive: bool) -> Result<Found, Failure> {
    let mut found = Found::default();
    for path in given {
        if path.is_dir() {
            in_folder(path, recursive, &mut found)?;
        } else {
            found.photos.push(Photo::given(path));
        }
    }
    settle_equal_places(&mut found.photos);
    Ok(found)
}

/// An error if one of the results, with these `endings`, is one of the photos.
pub fn refuse_overwriting(photos: &[Photo], out: &Path, endings: &[String]) -> Result<(), Failure> {
    // Photos that are named as results are: hardly ever is there one.
    let of_results: HashSet<&str> = endings.iter().map(String::as_str).collect();
    let is_named = |name: &str| name.match_indices('.').any(|(dot, _)| of_results.contains(&name[dot + 1..]));
    let named =
        photos.iter().filter(|photo| photo.path.file_name().is_some_and(|name| is_named(&name.to_string_lossy())));
    let named: HashSet<PathBuf> = named.filter_map(|photo| fs::canonicalize(&photo.path).ok()).collect();
    if named.is_empty() {
        return Ok(());
    }
    for result in photos.iter().flat_map(|photo| endings.iter().map(|ending| photo.result(out, ending))) {
        if fs::canonicalize(&result).is_ok_and(|result| named.contains(&result)) {
            let result = result.display();
            return Err(Failure::call(format!("the result {result} would overwrite a photo; choose another --out")));
        }
    }
    Ok(())
}

fn in_folder(folder: &Path, recursive: bool, found: &mut Found) -> Result<(), Failure> {
    let before = found.photos.len();
    let (mut folders, mut results) = (0, 0);
    let walk = WalkDir::new(folder).min_depth(1).max_depth(if recursive { usize::MAX } else { 1 });
    let entries = walk.follow_links(true).sort_by_file_name().into_iter();
    for entry in entries.filter_entry(|entry| entry.depth() == 0 || !is_hidden(entry.file_name())) {
        match entry {
            Ok(entry) if entry.file_type().is_dir() => folders += usize::from(!recursive),
            Ok(entry) if is_own_result(entry.file_name()) => results += 1,
            Ok(entry) => found.photos.extend(photo(folder, entry)),
            Err(error) => match unreadable(folder, error)? {
                Some(Unreadable::Photo(photo)) => found.photos.push(photo),
                Some(Unreadable::Loop(note)) => found.notes.push(note),
                None => {}
            },
        }
    }
    let folder = folder.display();
    let hint = if folders > 0 {
        format!("; --recursive looks into its {}", counted(folders, "folder"))
    } else {
        String::new()
    };
    if found.photos.len() == before {
        return Err(Failure::call(format!("{folder}: no photo in this folder{hint}")));
    }
    if folders > 0 {
        found
            .notes
            .push(format!("{folder}: {} in it passed over; --recursive looks into them", counted(folders, "folder")));
    }
    if results > 0 {
        let results = counted(results, "file");
        found.notes.push(format!("{folder}: {results} passed over, results of earlier runs by their names"));
    }
    Ok(())
}

/// What an entry that is no folder gives.
fn photo(root: &Path, entry: DirEntry) -> Option<Photo> {
    let is_file = entry.file_type().is_file();
    let is_photo = is_picture_name(Path::new(entry.file_name())) || is_file && has_picture(entry.path());
    if !is_photo {
        return None;
    }
    let mut photo = Photo::new(entry.path().to_owned(), place(root, entry.path()));
    if !is_file {
        // Reading it could wait for ever.
        photo.fault = Some(Error::photo(&photo.path, "has a photo's name, but is a device or pipe, not a file"));
    }
    Some(photo)
}

enum Unreadable {
    Photo(Photo),
    /// A link into a folder that it lies in.
    Loop(String),
}

/// What there is to say about an entry that cannot be looked at: all of it for a folder or a photo, else nothing.
fn unreadable(root: &Path, error: walkdir::Error) -> Result<Option<Unreadable>, Failure> {
    let path = error.path().unwrap_or(root).to_owned();
    if error.loop_ancestor().is_some() {
        return Ok(Some(Unreadable::Loop(format!(
            "{} leads back into its own folder and is passed over",
            path.display()
        ))));
    }
    let source = error.into_io_error().unwrap_or_else(|| io::Error::other("it cannot be looked at"));
    if path == root {
        return Err(Error::io("list", root, source).into());
    }
    let name = path.file_name().unwrap_or_default();
    let is_folder = fs::symlink_metadata(&path).is_ok_and(|data| data.is_dir());
    if is_hidden(name) || is_own_result(name) || !(is_folder || is_picture_name(Path::new(name))) {
        return Ok(None);
    }
    let mut photo = Photo::new(path.clone(), place(root, &path));
    photo.fault = Some(Error::io(if is_folder { "list" } else { "open" }, &path, source));
    Ok(Some(Unreadable::Photo(photo)))
}

/// The path below `root`, without its ending.
fn place(root: &Path, path: &Path) -> PathBuf {
    path.strip_prefix(root).unwrap_or(path).with_file_name(stem(path))
}

fn stem(photo: &Path) -> OsString {
    photo.file_stem().unwrap_or(photo.as_os_str()).to_owned()
}

pub fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Of a photo that was asked for twice, the first stays; other photos whose results would have the same names get a fault.
fn settle_equal_places(photos: &mut Vec<Photo>) {
    let at_places = |photos: &[Photo]| {
        let mut at_place: HashMap<PathBuf, Vec<usize>> = HashMap::new();
        for (i, photo) in photos.iter().enumerate() {
            at_place.entry(photo.place.clone()).or_default().push(i);
        }
        at_place.retain(|_, equal| equal.len() > 1);
        at_place
    };
    // Where a path leads is asked of those alone that meet.
    let meeting = at_places(photos);
    let mut seen = HashSet::new();
    photos.retain(|photo| {
        let leads_to = || fs::canonicalize(&photo.path).unwrap_or_else(|_| photo.path.clone());
        !meeting.contains_key(&photo.place) || seen.insert((photo.place.clone(), leads_to()))
    });
    for (place, equal) in at_places(photos) {
        for (n, &i) in equal.iter().enumerate() {
            let other = photos[equal[usize::from(n == 0)]].path.clone();
            let reason = format!(
                "its results and those of {} would both be {}.*; rename one of them or give it another --out",
                other.display(),
                place.display()
            );
            let photo = &mut photos[i];
            photo.fault.get_or_insert_with(|| Error::photo(&photo.path, reason));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        folder
    }

    /// The photos' results in `out`, and what is wrong with a photo.
    fn places(found: &Found) -> Vec<(String, bool)> {
        let place = |photo: &Photo| photo.result(Path::new("out"), "x").display().to_string();
        found.photos.iter().map(|photo| (place(photo), photo.fault.is_some())).collect()
    }

    fn good(places: &[&str]) -> Vec<(String, bool)> {
        places.iter().map(|place| (format!("out/{place}.x"), false)).collect()
    }

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";

    #[test]
    fn a_folder_gives_what_is_a_picture_by_ending_or_content() {
        let folder = folder(&[
            ("b.JPG", b""),
            ("a.png", b""),
            ("c.jfif", b""),
            ("e.heic", b""),
            ("d", PNG),
            ("notes.txt", b"dog"),
            ("empty", b""),
            (".hidden.png", PNG),
            ("a.mask.png", PNG),
            ("a.overlay.png", PNG),
            ("a.mask.03.dog.png", PNG),
            ("a.heat.03.dog.png", PNG),
            ("f.mask.dog.png", PNG),
            ("g.png/below.png", PNG),
        ]);
        let found = collect(&[folder.path().to_owned(), "x.bin".into()], false).unwrap();
        assert_eq!(places(&found), good(&["a", "b", "c", "d", "e", "f.mask.dog", "x"]));
        assert!(found.notes[0].contains("1 folder") && found.notes[0].contains("--recursive"), "{:?}", found.notes);
        assert!(found.notes[1].contains("4 files passed over"), "{:?}", found.notes);
    }

    #[test]
    fn recursion_keeps_the_tree() {
        let folder = folder(&[("a.png", b""), ("day1/a.png", b""), ("day1/x/b.c.png", b""), (".git/a.png", b"")]);
        let found = collect(&[folder.path().to_owned()], true).unwrap();
        assert_eq!(places(&found), good(&["a", "day1/a", "day1/x/b.c"]));
        assert_eq!(found.notes, Vec::<String>::new());
    }

    #[test]
    fn equal_places_stop_themselves_only() {
        let folder = folder(&[("a.png", b""), ("a.jpg", b""), ("b.png", b""), ("x/b.png", b"")]);
        let below = |name| folder.path().join(name);
        let found = collect(&[folder.path().to_owned(), below("b.png"), below("x/../b.png")], false).unwrap();
        let expected = [("out/a.x".to_owned(), true), ("out/a.x".to_owned(), true), ("out/b.x".to_owned(), false)];
        assert_eq!(places(&found), expected);
        let reasons: Vec<String> = found.photos.iter().filter_map(|p| Some(p.fault.as_ref()?.to_string())).collect();
        assert!(
            reasons[0].contains("a.jpg: its results and those of") && reasons[0].contains("a.png would"),
            "{reasons:?}"
        );
        assert!(
            reasons[1].contains("a.png: its results and those of") && reasons[1].contains("a.jpg would"),
            "{reasons:?}"
        );
        let found = collect(&[below("b.png"), below("x")], false).unwrap();
        assert!(found.photos.iter().all(|photo| photo.fault.is_some()));
    }

    #[test]
    #[cfg(unix)]
    fn links_that_lead_nowhere_or_back_are_told() {
        use std::os::unix::fs::symlink;
        let folder = folder(&[("a.png", b"")]);
        symlink("/nowhere/b.png", folder.path().join("b.png")).unwrap();
        symlink("/nowhere/words", folder.path().join("words")).unwrap();
        symlink("a.png", folder.path().join("c.png")).unwrap();
        symlink(folder.path(), folder.path().join("loop")).unwrap();
        let found = collect(&[folder.path().to_owned()], true).unwrap();
        let faults: Vec<bool> = found.photos.iter().map(|photo| photo.fault.is_some()).collect();
        assert_eq!(faults, [false, true, false]);
        assert!(found.photos[1].fault.as_ref().unwrap().to_string().contains("cannot open"));
        assert!(found.notes[0].contains("leads back"), "{:?}", found.notes);
    }

    #[test]
    fn results_carry_the_stem() {
        let result = |photo: &str, ending| Photo::given(Path::new(photo)).result(Path::new("out"), ending);
        assert_eq!(result("a/b.c.jpg", "mask.png"), Path::new("out/b.c.mask.png"));
        assert_eq!(result(".jpg", "mask.png"), Path::new("out/.jpg.mask.png"));
        assert_eq!(result("-", "mask.png"), Path::new("out/stdin.mask.png"));
    }

    #[test]
    fn a_result_is_never_written_over_a_photo() {
        let folder = folder(&[("a.png", b""), ("a.mask.png", b"")]);
        let photos = [Photo::given(&folder.path().join("a.png")), Photo::given(&folder.path().join("a.mask.png"))];
        let refused = |ending: &str| refuse_overwriting(&photos, &folder.path().join("."), &[ending.to_owned()]);
        assert!(refused("mask.png").is_err());
        assert!(refused("overlay.png").is_ok());
    }
}
