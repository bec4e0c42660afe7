//! Which photos are measured, and against what.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;

use crate::cli::Failure;
use crate::eval::dataset::{Dataset, Purpose};
use crate::eval::episodes::{FOLDS, Split};
use crate::eval::truth::Label;
use crate::eval::{ade20k, cityscapes, coco, folders, fss, map, other_words, pascal, voc};
use crate::labels;

const KINDS: &str = "folders, ade20k:DIR, cityscapes:DIR, voc:DIR, pascal-5i:DIR, coco-20i:DIR or fss-1000:DIR";

/// Photos, masks and words.
#[derive(Args)]
pub struct DataArguments {
    /// The data set: ade20k:DIR, cityscapes:DIR, voc:DIR, or folders (with --images, --masks and --labels); of episodes
    /// pascal-5i:DIR, coco-20i:DIR, fss-1000:DIR
    #[arg(long, value_name = "KIND:DIR")]
    data: Option<Data>,

    /// With --data folders: the photos
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,

    /// With --data folders: a mask <name>.png for each photo, grey or indexed, whose values are the labels' indices
    #[arg(long, value_name = "DIR")]
    masks: Option<PathBuf>,

    /// The labels, as for run: words or @FILE [default: the data set's own; ade20k's of objectInfo150.txt in its
    /// folder]
    #[arg(long, value_name = "WORDS|@FILE")]
    labels: Option<String>,

    /// Leave pixels of this mask value out, or with the word rest those of all values without a label; may be repeated
    #[arg(long, value_name = "ID|rest")]
    ignore: Vec<Ignored>,

    /// Which mask value has which label: a file with a value and a label on each line, in the place of the data set's
    /// own values; several values may have one label
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,

    /// Of pascal-5i and coco-20i: the fold whose classes are tested, 0 to 3, or all
    #[arg(long, value_name = "0..3|all")]
    fold: Option<Fold>,

    /// Of episodes: the folder with pascal/val, coco/val and fss, the lists of photos [default: splits in the data
    /// set's]
    #[arg(long, value_name = "DIR")]
    splits: Option<PathBuf>,

    /// Words that are nowhere true, looked for beside the labels: how many pixels each of them gets is told
    #[arg(long, value_name = "WORDS|@FILE")]
    extra: Option<String>,

    /// Words for what no label names, such as a,me,an,other: each is measured alone as the last of the labels, and the
    /// pixels whose mask values have no label are the rest's
    #[arg(long, value_name = "WORDS|@FILE", conflicts_with_all = ["extra", "predictions", "save_masks"])]
    pub other_words: Option<String>,

    /// Measure the first N photos alone
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,

    /// Print the photos' names and measure nothing
    #[arg(long)]
    pub list: bool,
}

/// See [`DataArguments`].
#[derive(Clone, Debug)]
enum Data {
    Folders,
    Ade20k(PathBuf),
    Cityscapes(PathBuf),
    Voc(PathBuf),
    Pascal(PathBuf),
    Coco(PathBuf),
    Fss(PathBuf),
}

impl FromStr for Data {
    type Err = String;

    fn from_str(text: &str) -> Result<Data, String> {
        match text.split_once(':') {
            None if text == "folders" => Ok(Data::Folders),
            Some(("ade20k", dir)) => Ok(Data::Ade20k(dir.into())),
            Some(("cityscapes", dir)) => Ok(Data::Cityscapes(dir.into())),
            Some(("voc", dir)) => Ok(Data::Voc(dir.into())),
            Some(("pascal-5i", dir)) => Ok(Data::Pascal(dir.into())),
            Some(("coco-20i", dir)) => Ok(Data::Coco(dir.into())),
            Some(("fss-1000", dir)) => Ok(Data::Fss(dir.into())),
            _ => Err(format!("expected {KINDS}")),
        }
    }
}

/// See [`DataArguments`].
#[derive(Clone, Copy, Debug)]
enum Fold {
    One(usize),
    All,
}

impl FromStr for Fold {
    type Err = String;

    fn from_str(text: &str) -> Result<Fold, String> {
        let one = || text.parse().ok().filter(|fold| *fold < FOLDS).map(Fold::One);
        if text == "all" { Some(Fold::All) } else { one() }.ok_or_else(|| "expected 0, 1, 2, 3 or all".to_owned())
    }
}

/// See [`DataArguments`].
#[derive(Clone, Copy, Debug)]
enum Ignored {
    Id(u16),
    Rest,
}

impl FromStr for Ignored {
    type Err = String;

    fn from_str(text: &str) -> Result<Ignored, String> {
        match text {
            "rest" => Ok(Ignored::Rest),
            id => id.parse().map(Ignored::Id).map_err(|_| "expected a mask's value, 0 to 65535, or rest".to_owned()),
        }
    }
}

impl DataArguments {
    /// Finds the photos and their masks.
    pub fn read(&self) -> Result<Dataset, Failure> {
        let Some(data) = &self.data else {
            return Err(Failure::call(format!("--data is missing: {KINDS}")));
        };
        self.check_flags(data)?;
        let words = self.labels.as_deref().map(|typed| words(data, typed)).transpose()?;
        let mut dataset = match data {
            Data::Folders => self.folders(words)?,
            Data::Ade20k(dir) => ade20k::read(dir, words)?,
            Data::Cityscapes(dir) => self.own_or_mapped(words, |words| cityscapes::read(dir, words))?,
            Data::Voc(dir) => self.own_or_mapped(words, |words| voc::read(dir, words))?,
            Data::Pascal(dir) => pascal::read(dir, &self.split(dir)?, words)?,
            Data::Coco(dir) => coco::read(dir, &self.split(dir)?, words)?,
            Data::Fss(dir) => fss::read(dir, &self.split(dir)?, words)?,
        };
        if self.map.is_some() || !self.ignore.is_empty() {
            self.read_ids(&mut dataset)?;
        }
        if dataset.items.is_empty() {
            return Err(Failure::call("--data: no photo in this data set; expected at least one"));
        }
        dataset.items.truncate(self.limit.map_or(usize::MAX, |limit| limit as usize));
        self.add_words(dataset)
    }

    /// An error for flags of another kind of data set.
    fn check_flags(&self, data: &Data) -> Result<(), Failure> {
        let of_folders = self.images.is_some() || self.masks.is_some();
        let of_episodes = self.fold.is_some() || self.splits.is_some();
        let is_episodes = matches!(data, Data::Pascal(_) | Data::Coco(_) | Data::Fss(_));
        if of_folders && !matches!(data, Data::Folders) {
            let what = "--images and --masks are for --data folders; the others have folders of their own";
            return Err(Failure::call(what));
        }
        if of_episodes && !is_episodes {
            return Err(Failure::call("--fold and --splits are for episodes: pascal-5i, coco-20i, fss-1000"));
        }
        Ok(())
    }

    fn folders(&self, words: Option<Vec<String>>) -> Result<Dataset, Failure> {
        let missing =
            |flag: &str| Failure::call(format!("{flag} is missing: --data folders needs --images, --masks, --labels"));
        let images = self.images.as_deref().ok_or_else(|| missing("--images"))?;
        let masks = self.masks.as_deref().ok_or_else(|| missing("--masks"))?;
        Ok(folders::read(images, masks, words.ok_or_else(|| missing("--labels"))?)?)
    }

    /// A data set with words of its own: with a map, those given take their place, as many as they are.
    fn own_or_mapped(
        &self,
        words: Option<Vec<String>>,
        read: impl Fn(Option<Vec<String>>) -> crate::Result<Dataset>,
    ) -> Result<Dataset, Failure> {
        match (words, &self.map) {
            (Some(words), Some(_)) => {
                let mut dataset = read(None)?;
                dataset.lists[0].labels = words.len();
                dataset.lists[0].words = words;
                Ok(dataset)
            }
            (words, _) => Ok(read(words)?),
        }
    }

    /// Which episodes are asked for.
    fn split(&self, dir: &Path) -> Result<Split, Failure> {
        let folds = match (&self.data, self.fold) {
            (Some(Data::Fss(_)), None) => Vec::new(),
            (Some(Data::Fss(_)), Some(_)) => {
                return Err(Failure::call("--fold is not for fss-1000, which has no folds"));
            }
            (_, Some(Fold::One(fold))) => vec![fold],
            (_, Some(Fold::All)) => (0..FOLDS).collect(),
            (_, None) => return Err(Failure::call("--fold is missing: 0, 1, 2, 3 or all")),
        };
        Ok(Split { folder: self.splits.clone().unwrap_or_else(|| dir.join("splits")), folds })
    }

    /// What --map and --ignore say of the masks' values.
    fn read_ids(&self, dataset: &mut Dataset) -> Result<(), Failure> {
        if dataset.lists[0].purpose != Purpose::Labels {
            return Err(Failure::call(
                "--map and --ignore are for lists of labels, and episodes have none; leave them out",
            ));
        }
        let list = &mut dataset.lists[0];
        let mut truth = list.truth.clone();
        if let Some(path) = &self.map {
            truth = truth.without_labels().with(map::read(path, &list.words)?);
        }
        for ignored in &self.ignore {
            truth = match ignored {
                Ignored::Id(id) => truth.with([(*id, Label::Ignored)]),
                Ignored::Rest => truth.ignoring_the_rest(),
            };
        }
        list.truth = truth;
        Ok(())
    }

    /// What --extra and --other-words put behind the labels.
    fn add_words(&self, mut dataset: Dataset) -> Result<Dataset, Failure> {
        let (Some(typed), purpose) = (self.extra.as_ref().or(self.other_words.as_ref()), dataset.lists[0].purpose)
        else {
            return Ok(dataset);
        };
        if purpose != Purpose::Labels {
            let what = "--extra and --other-words are for lists of labels; an episode's words are others and its class";
            return Err(Failure::call(what));
        }
        let more: Vec<String> = labels::parse(typed)?.texts().map(str::to_owned).collect();
        labels::checked(&[dataset.lists[0].distinct().0, more.clone()].concat())?;
        if self.other_words.is_some() {
            return Ok(other_words::lists(&dataset, &more));
        }
        dataset.lists[0].words.extend(more);
        Ok(dataset)
    }

    /// Its name, as a state tells it.
    pub fn kind(&self) -> &'static str {
        match &self.data {
            Some(Data::Folders) | None => "folders",
            Some(Data::Ade20k(_)) => "ade20k",
            Some(Data::Cityscapes(_)) => "cityscapes",
            Some(Data::Voc(_)) => "voc",
            Some(Data::Pascal(_)) => "pascal-5i",
            Some(Data::Coco(_)) => "coco-20i",
            Some(Data::Fss(_)) => "fss-1000",
        }
    }
}

/// The labels as they were typed; of ADE20K's own table also one that is there twice.
fn words(data: &Data, typed: &str) -> Result<Vec<String>, Failure> {
    if let (Data::Ade20k(_), Some(file)) = (data, typed.strip_prefix('@'))
        && let Some(words) = ade20k::table(file.as_ref())?
    {
        return Ok(words);
    }
    Ok(labels::parse(typed)?.texts().map(str::to_owned).collect())
}
