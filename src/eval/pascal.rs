//! PASCAL-5i: fold i tests classes 5i to 5i + 4 of PASCAL VOC's 20, in 1,000 episodes which go round its list of
//! photos.

use std::path::Path;

use super::dataset::{self, Dataset, Item, lines, words_or};
use super::episodes::{EPISODES, Split, refused, word_list};
use super::truth::Truth;
use super::voc;
use crate::Result;

/// Classes of a fold.
const CLASSES: usize = 5;

/// `JPEGImages` and `SegmentationClassAug` in `dir`, the lists `pascal/val/fold<i>.txt`, whose lines are as
/// `2007_000033__01`: the photo, and its class from 1.
///
/// # Errors
/// As [`lines`], [`voc::item`] and [`words_or`]; [`Error::Data`](crate::Error::Data) for another line.
pub fn read(dir: &Path, Split { folder, folds }: &Split, words: Option<Vec<String>>) -> Result<Dataset> {
    let words = words_or(words, &voc::WORDS[1..])?;
    let root = dataset::root(dir, "VOC2012");
    let masks = voc::masks(&root, ["SegmentationClassAug", "SegmentationClass"])?;
    let mut dataset = Dataset { lists: Vec::new(), items: Vec::new() };
    for &fold in folds {
        let list = folder.join("pascal/val").join(format!("fold{fold}.txt"));
        let before = dataset.lists.len();
        let entries = lines(&list)?.into_iter().map(|(_, line)| {
            let class = line.split_once("__").and_then(|(_, class)| class.parse().ok());
            let Some(class) = class.filter(|class| (CLASSES * fold + 1..=CLASSES * (fold + 1)).contains(class)) else {
                return refused(
                    &list,
                    &line,
                    &format!("is no photo and class of fold {fold}, such as {}", example(fold)),
                );
            };
            let photo = line.split("__").next().unwrap_or_default();
            let item = voc::item(&root, &masks, &list, &line, photo)?;
            Ok(Item { list: before + class - 1 - CLASSES * fold, ..item })
        });
        let entries = entries.collect::<Result<Vec<Item>>>()?;
        dataset.items.extend(entries.iter().cycle().take(EPISODES).cloned());
        dataset.lists.extend((CLASSES * fold..CLASSES * (fold + 1)).map(|class| {
            let truth = Truth::Class { id: class as u16 + 1, ignored: Some(voc::IGNORED) };
            word_list(fold, class, &words[class], truth)
        }));
    }
    Ok(dataset)
}

fn example(fold: usize) -> String {
    format!("2007_000033__{:02}", CLASSES * fold + 1)
}
