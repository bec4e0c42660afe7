//! What is measured: photos with their masks, and the words that each is asked for.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use walkdir::WalkDir;

use super::truth::Truth;
use crate::image::decode::is_picture_name;
use crate::printable::printable;
use crate::{Error, Result};

/// Bytes of the longest list of photos that is read.
const MAX_LIST: u64 = 16 << 20;

/// Names that a message shows.
const SHOWN: usize = 5;

/// Photos and words, in the order in which they are measured.
#[derive(Debug)]
pub struct Dataset {
    /// The lists of words; each photo is asked for one of them.
    pub lists: Vec<WordList>,
    /// The photos.
    pub items: Vec<Item>,
}

/// Words that are looked for together, and how masks say which is true.
#[derive(Clone, Debug)]
pub struct WordList {
    /// The labels, in the order of the mask's values, then words that are nowhere true.
    pub words: Vec<String>,
    /// How many of the words are labels.
    pub labels: usize,
    /// From ids to labels.
    pub truth: Truth,
    /// What is measured with it.
    pub purpose: Purpose,
}

/// What a list of words is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Purpose {
    /// Each label is.
    Labels,
    /// The last label is all that the others leave.
    Rest,
    /// An episode: the words are ["others", class].
    Episode(Class),
}

impl WordList {
    /// The words without repetitions, each with the index of its first: of equal words the first wins every pixel.
    pub fn distinct(&self) -> (Vec<String>, Vec<u16>) {
        let mut seen = HashSet::new();
        let first = self.words.iter().zip(0..).filter(|(word, _)| seen.insert(*word));
        first.map(|(word, index)| (word.clone(), index)).unzip()
    }

    /// Of labels, each of which is measured.
    pub fn of_labels(words: Vec<String>, truth: Truth) -> WordList {
        WordList { labels: words.len(), words, truth, purpose: Purpose::Labels }
    }
}

/// The class of an episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Class {
    /// The fold that tests it.
    pub fold: usize,
    /// Its number among all classes, from 0.
    pub class: usize,
}

/// A photo to be measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its name in lists.
    pub name: String,
    /// Where its mask's file lies below a folder of masks, without the ending.
    pub place: PathBuf,
    /// The photo's file.
    pub photo: PathBuf,
    /// The file of what is true.
    pub mask: PathBuf,
    /// The index of its list of words.
    pub list: usize,
}

impl Item {
    /// A photo of the first list of words.
    pub fn new(place: PathBuf, photo: PathBuf, mask: PathBuf) -> Item {
        Item { name: place.display().to_string(), place, photo, mask, list: 0 }
    }
}

/// A data set of one list of words.
pub fn of_labels(words: Vec<String>, truth: Truth, items: Vec<Item>) -> Dataset {
    Dataset { lists: vec![WordList::of_labels(words, truth)], items }
}

/// `dir`, or the folder in it that the data set's archive makes.
pub fn root(dir: &Path, archive: &str) -> PathBuf {
    let inner = dir.join(archive);
    if inner.is_dir() { inner } else { dir.to_owned() }
}

/// The words that were given in the place of a data set's own.
///
/// # Errors
/// [`Error::Labels`] if they are another number.
pub fn words_or(given: Option<Vec<String>>, own: &[&str]) -> Result<Vec<String>> {
    match given {
        None => Ok(own.iter().map(|word| (*word).to_owned()).collect()),
        Some(words) if words.len() == own.len() => Ok(words),
        Some(words) => Err(Error::Labels(format!(
            "{} labels for a data set of {}, the first of which is \"{}\"; give one for each, in its order",
            words.len(),
            own.len(),
            own[0]
        ))),
    }
}

/// A folder of photos or masks, and how the names of those in it end.
#[derive(Clone, Copy)]
pub struct Files<'a> {
    /// The folder; those in it are looked into too.
    pub folder: &'a Path,
    /// None for the endings of all pictures.
    pub ending: Option<&'a str>,
}

/// Each photo with the mask of the same name, by name.
///
/// # Errors
/// [`Error::Io`] for a folder that cannot be listed; [`Error::Data`] if there is no photo, one has no mask or a mask no
/// photo, or two photos have one name.
pub fn pairs(photos: Files, masks: Files) -> Result<Vec<Item>> {
    let (found, mut of_masks) = (files(photos)?, files(masks)?);
    let [photos, masks] = [photos.folder, masks.folder].map(|folder| folder.display());
    if found.is_empty() {
        return Err(Error::Data(format!("{photos}: no photo in this folder")));
    }
    let (mut items, mut alone) = (Vec::new(), Vec::new());
    for (place, photo) in found {
        match of_masks.remove(&place) {
            Some(mask) => items.push(Item::new(place, photo, mask)),
            None => alone.push(place),
        }
    }
    let unpaired = |places: Vec<PathBuf>, what: &str, other: &str| {
        Err(Error::Data(format!("{what}: {}; give each of them {other}, or move it away", first_names(&places))))
    };
    if !alone.is_empty() {
        return unpaired(alone, &format!("{photos}: photos without a mask in {masks}"), "a mask of its name");
    }
    if !of_masks.is_empty() {
        let places = of_masks.into_keys().collect();
        return unpaired(places, &format!("{masks}: masks without a photo in {photos}"), "a photo of its name");
    }
    Ok(items)
}

/// The first names, and how many there are.
fn first_names(places: &[PathBuf]) -> String {
    let names: Vec<String> = places.iter().take(SHOWN).map(|place| place.display().to_string()).collect();
    let more = places.len() - names.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", printable(&names.join(", ")))
}

/// Files by their path below the folder, without the ending.
fn files(Files { folder, ending }: Files) -> Result<BTreeMap<PathBuf, PathBuf>> {
    let mut found: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    for entry in WalkDir::new(folder).min_depth(1).follow_links(true) {
        let entry = entry.map_err(|e| {
            let path = e.path().unwrap_or(folder).to_owned();
            Error::io("list", &path, e.into())
        })?;
        let name = entry.file_name().to_string_lossy();
        let is_one = ending.map_or_else(|| is_picture_name(entry.path()), |ending| name.ends_with(ending));
        if !entry.file_type().is_file() || !is_one || name.starts_with('.') {
            continue;
        }
        let below = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        let place = match ending {
            Some(ending) => below.with_file_name(name.strip_suffix(ending).unwrap_or(&name)),
            None => below.with_extension(""),
        };
        if let Some(other) = found.insert(place, entry.path().to_owned()) {
            let (one, other) = (entry.path().display(), other.display());
            return Err(Error::Data(format!("{one} and {other} have one name, and so one mask; move one away")));
        }
    }
    Ok(found)
}

/// The lines of a list of photos, with their numbers from 1; empty ones are passed over.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::Data`] if it is too long, no text, or has no line.
pub fn lines(path: &Path) -> Result<Vec<(usize, String)>> {
    let bytes = bytes(path, MAX_LIST)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Error::Data(format!("{}: not UTF-8 text; expected one photo a line", path.display())))?;
    let lines = (1..).zip(text.lines()).map(|(number, line)| (number, line.trim().to_owned()));
    let lines: Vec<_> = lines.filter(|(_, line)| !line.is_empty()).collect();
    if lines.is_empty() {
        return Err(Error::Data(format!("{}: no line in it; expected one photo a line", path.display())));
    }
    Ok(lines)
}

/// All bytes of a file that has at most `most`.
///
/// # Errors
/// [`Error::Io`] if it cannot be read; [`Error::Data`] if it is longer.
pub fn bytes(path: &Path, most: u64) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(|e| Error::io("read", path, e))?;
    if bytes.len() as u64 > most {
        return Err(Error::Data(format!("{}: more than {} MiB, too long to be read", path.display(), most >> 20)));
    }
    Ok(bytes)
}

/// The photo and mask that `list` names, once it is sure that both are there.
///
/// # Errors
/// [`Error::Data`] if one is not, or the name leads out of the data set.
pub fn listed(list: &Path, name: &str, place: PathBuf, [photo, mask]: [PathBuf; 2]) -> Result<Item> {
    let named = || format!("{}: names {}", list.display(), printable(name));
    if !place.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(Error::Data(format!("{}, which leads out of the data set; remove it", named())));
    }
    if let Some(missing) = [&photo, &mask].into_iter().find(|path| !path.is_file()) {
        let missing = missing.display();
        return Err(Error::Data(format!("{}, but {missing} is not there; add it or remove the line", named())));
    }
    Ok(Item { name: name.to_owned(), place, photo, mask, list: 0 })
}
