//! COCO-20i: fold f tests classes f, f + 4, f + 8, … of COCO's 80, in 1,000 episodes which NumPy's generator draws.

use std::path::{Path, PathBuf};

use super::dataset::{self, Dataset, Item, bytes, listed, words_or};
use super::episodes::{EPISODES, FOLDS, Split, refused, word_list};
use super::mt19937::Mt19937;
use super::truth::Truth;
use crate::{Error, Result};

/// Classes of a fold.
const CLASSES: usize = 20;

/// Bytes of the longest list of photos that is read.
const MAX_LIST: u64 = 64 << 20;

/// The words, as LSeg's list has them.
const WORDS: [&str; 80] = [
    "person",
    "bicycle",
    "car",
    "motorbike",
    "aeroplane",
    "bus",
    "train",
    "truck",
    "boat",
    "trafficlight",
    "firehydrant",
    "stopsign",
    "parkingmeter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sportsball",
    "kite",
    "baseballbat",
    "baseballglove",
    "skateboard",
    "surfboard",
    "tennisracket",
    "bottle",
    "wineglass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hotdog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "sofa",
    "pottedplant",
    "bed",
    "diningtable",
    "toilet",
    "tvmonitor",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cellphone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddybear",
    "hairdrier",
    "toothbrush",
];

/// `val2014` and `annotations/val2014` in `dir`, whose mask values are class + 1, and the lists `coco/val/fold<f>.pkl`:
/// a pickled dict from class to photos, which is read as data and never executed.
///
/// # Errors
/// As [`torch_file::lists::read`], [`listed`] and [`words_or`]; [`Error::Data`] where a class has no photo.
pub fn read(dir: &Path, Split { folder, folds }: &Split, words: Option<Vec<String>>) -> Result<Dataset> {
    let words = words_or(words, &WORDS)?;
    let root = dataset::root(dir, "COCO2014");
    let mut dataset = Dataset { lists: Vec::new(), items: Vec::new() };
    for &fold in folds {
        let list = folder.join("coco/val").join(format!("fold{fold}.pkl"));
        let photos = torch_file::lists::read(&bytes(&list, MAX_LIST)?)
            .map_err(|reason| Error::Data(format!("{}: {reason}", list.display())))?;
        let mut random = Mt19937::new(0);
        for _ in 0..EPISODES {
            let index = random.choice(CLASSES as u32);
            let class = fold + FOLDS * index;
            let names = photos.get(&(class as i64)).filter(|names| !names.is_empty());
            let Some(names) = names else { return refused(&list, &format!("class {class}"), "has no photo in it") };
            let name = &names[random.choice(names.len() as u32)];
            let item = item(&root, &list, name, class)?;
            dataset.items.push(Item { list: dataset.lists.len() + index, ..item });
        }
        dataset.lists.extend((0..CLASSES).map(|index| {
            let class = fold + FOLDS * index;
            word_list(fold, class, &words[class], Truth::Class { id: class as u16 + 1, ignored: None })
        }));
    }
    Ok(dataset)
}

/// An episode of a photo such as `val2014/COCO_val2014_000000507081.jpg`.
fn item(root: &Path, list: &Path, name: &str, class: usize) -> Result<Item> {
    let Some(stem) = name.strip_suffix(".jpg") else { return refused(list, name, "is no photo: expected NAME.jpg") };
    let files = [root.join(name), root.join("annotations").join(format!("{stem}.png"))];
    let item = listed(list, name, PathBuf::from(format!("{stem}__{class}")), files)?;
    Ok(Item { name: format!("{class}\t{name}"), ..item })
}
