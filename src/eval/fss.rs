//! FSS-1000: 240 test classes, each photo of which is an episode.

use std::fs;
use std::path::Path;

use super::dataset::{self, Dataset, Item, lines, listed, words_or};
use super::episodes::{Split, refused, word_list};
use super::truth::Truth;
use crate::{Error, Result};

/// The number of the first test class.
const FIRST: usize = 760;

/// A folder for each class in `dir`, in it `<n>.jpg` with a mask `<n>.png` which is bright where the class is; the
/// classes are those of `fss/test.txt`, sorted. A class's word is its folder's name.
///
/// # Errors
/// As [`lines`], [`listed`] and [`words_or`]; [`Error::Io`] for a folder that cannot be listed.
pub fn read(dir: &Path, Split { folder, .. }: &Split, words: Option<Vec<String>>) -> Result<Dataset> {
    let root = dataset::root(dir, "FSS-1000");
    let list = folder.join("fss/test.txt");
    let mut classes: Vec<String> = lines(&list)?.into_iter().map(|(_, line)| line).collect();
    classes.sort();
    let words = words_or(words, &classes.iter().map(String::as_str).collect::<Vec<_>>())?;
    let mut dataset = Dataset { lists: Vec::new(), items: Vec::new() };
    for (index, (class, word)) in classes.iter().zip(&words).enumerate() {
        for stem in photos(&root, &list, class)? {
            let name = format!("{class}/{stem}");
            let files = ["jpg", "png"].map(|ending| root.join(format!("{name}.{ending}")));
            let item = listed(&list, &name, (&name).into(), files)?;
            dataset.items.push(Item { name: format!("{}\t{name}.jpg", FIRST + index), list: index, ..item });
        }
        dataset.lists.push(word_list(0, FIRST + index, word, Truth::Bright));
    }
    Ok(dataset)
}

/// The photos of a class, without their endings, sorted as Python sorts their paths.
fn photos(root: &Path, list: &Path, class: &str) -> Result<Vec<String>> {
    let folder = root.join(class);
    if !folder.is_dir() {
        return refused(list, class, &format!("is no folder in {}", root.display()));
    }
    let entries = fs::read_dir(&folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let entries = entries.map_err(|e| Error::io("list", &folder, e))?;
    let names = entries.iter().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".jpg")).collect();
    names.sort();
    Ok(names.iter().filter_map(|name| name.strip_suffix(".jpg")).map(str::to_owned).collect())
}
