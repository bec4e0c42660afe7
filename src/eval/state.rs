//! What was counted so far, as a file: the same call goes on from it, and shards of one call become the whole.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::confusion::Confusion;
use super::dataset::{Dataset, Purpose, bytes};
use super::metrics::Metrics;
use crate::atomic_file::{Durability, write_atomically};
use crate::printable::printable;
use crate::{Error, Result};

/// Bytes of the largest state that is read.
const MAX_STATE: u64 = 256 << 20;

/// Of the file's form.
const VERSION: u32 = 1;

/// What decides the numbers, by the names that a message shows: another value is another measurement.
pub type Setup = Vec<(String, String)>;

/// Counts of the photos that were measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    lseg_fast_eval: u32,
    /// What it is of.
    pub setup: Setup,
    /// Which of the photos.
    pub shard: Shard,
    /// How many photos its shard has.
    pub photos: usize,
    /// One a list of words.
    pub lists: Vec<Counted>,
    /// One a photo that was tried, in their order.
    pub rows: Vec<Row>,
}

/// Part `part` of `parts`, from 1: every `parts`-th photo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Which it is.
    pub part: usize,
    /// How many there are.
    pub parts: usize,
}

impl Shard {
    /// All photos.
    pub const WHOLE: Shard = Shard { part: 1, parts: 1 };

    /// Whether photo `index` is one of its own.
    pub fn has(self, index: usize) -> bool {
        index % self.parts == self.part - 1
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Shard, String> {
        let numbers = text.split_once('/').and_then(|(part, parts)| Some((part.parse().ok()?, parts.parse().ok()?)));
        let shard = numbers.map(|(part, parts)| Shard { part, parts });
        shard
            .filter(|shard| (1..=shard.parts).contains(&shard.part))
            .ok_or_else(|| "expected K/N, such as 1/4".to_owned())
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}", self.part, self.parts)
    }
}

/// The counts of a list of words.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Counted {
    /// The labels, then the words that are nowhere true.
    pub words: Vec<String>,
    /// What is measured with them.
    pub purpose: Purpose,
    /// Its pixels.
    pub confusion: Confusion,
}

/// What became of a photo.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its name in the list.
    pub photo: String,
    /// Its list of words.
    pub list: usize,
    /// What was counted of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// See [`Row`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Outcome {
    /// It is in the counts.
    Measured {
        /// Pixels with a label.
        labelled: u64,
        /// The right ones.
        right: u64,
        /// The mean over the labels that are true or predicted in it, to six digits: as tables have it, and so that a
        /// file gives it back as it was.
        mean_iou: Option<f64>,
    },
    /// It is in none, and why.
    Failed {
        /// In the words of the line on stderr.
        error: String,
    },
}

impl Outcome {
    /// Of a photo's own counts.
    pub fn of(confusion: &Confusion) -> Outcome {
        let metrics = Metrics::of(confusion);
        let mean_iou = metrics.mean_iou_present.map(|iou| (1e6 * iou).round() / 1e6);
        Outcome::Measured { labelled: metrics.labelled, right: confusion.sums().right.iter().sum(), mean_iou }
    }
}

impl State {
    /// Nothing measured yet.
    pub fn new(dataset: &Dataset, setup: Setup, shard: Shard) -> State {
        let counted = dataset.lists.iter().map(|list| {
            let confusion = Confusion::new(list.labels, list.words.len());
            Counted { words: list.words.clone(), purpose: list.purpose, confusion }
        });
        let photos = (0..dataset.items.len()).filter(|index| shard.has(*index)).count();
        State { lseg_fast_eval: VERSION, setup, shard, photos, lists: counted.collect(), rows: Vec::new() }
    }

    /// Adds a photo: what was counted of it, or why nothing was.
    pub fn add(&mut self, photo: String, list: usize, counted: Result<Confusion, String>) {
        let outcome = match counted {
            Ok(confusion) => {
                self.lists[list].confusion.merge(&confusion);
                Outcome::of(&confusion)
            }
            Err(error) => Outcome::Failed { error },
        };
        self.rows.push(Row { photo, list, outcome });
    }

    /// Whether every photo was tried.
    pub fn is_complete(&self) -> bool {
        self.rows.len() == self.photos
    }

    /// Writes the file whole or not at all.
    ///
    /// # Errors
    /// [`Error::Output`].
    pub fn write(&self, path: &Path) -> Result<()> {
        write_atomically(path, Durability::Synced, |out| Ok(serde_json::to_writer(out, self)?))
    }

    /// Reads what [`State::write`] wrote.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read; [`Error::Data`] if it is no state or contradicts itself.
    pub fn read(path: &Path) -> Result<State> {
        let refused = |what: &str| Error::Data(format!("{}: no state of lseg-fast eval ({what})", path.display()));
        let state: State =
            serde_json::from_slice(&bytes(path, MAX_STATE)?).map_err(|e| refused(&printable(&e.to_string())))?;
        if state.lseg_fast_eval != VERSION {
            return Err(refused("of another version of this program"));
        }
        if !state.is_sound() {
            return Err(refused("its numbers contradict each other: it is damaged"));
        }
        Ok(state)
    }

    /// All that were counted, where that is a number.
    fn pixels(&self) -> Option<u64> {
        let mut counts = self.lists.iter().flat_map(|list| list.confusion.counts());
        counts.try_fold(0_u64, |sum, (_, _, pixels)| sum.checked_add(pixels))
    }

    /// Whether what a file says can be counted further: all of its pixels are a number, and every index leads
    /// somewhere.
    fn is_sound(&self) -> bool {
        let is_episode = |list: &Counted| matches!(list.purpose, Purpose::Episode(_));
        let lists = self.lists.iter().all(|list| {
            let sizes = (list.confusion.labels(), list.confusion.words());
            list.confusion.is_sound() && sizes.1 == list.words.len() && (!is_episode(list) || sizes == (2, 2))
        });
        let sum = self.pixels();
        let rows = self.rows.len() <= self.photos && self.rows.iter().all(|row| row.list < self.lists.len());
        !self.lists.is_empty() && lists && sum.is_some() && rows && (1..=self.shard.parts).contains(&self.shard.part)
    }

    /// An error where the file `path` has the state of another measurement than `begun`, or of another shard.
    ///
    /// # Errors
    /// [`Error::Data`], which names what differs.
    pub fn check_same(&self, path: &Path, begun: &State, shard: Shard) -> Result<()> {
        let path = path.display();
        let differs = |name: &str, theirs: &str, ours: &str| {
            let [theirs, ours] = [theirs, ours].map(printable);
            Err(Error::Data(format!(
                "{path}: measured with {name} {theirs}, and here it is {ours}; give another --state, or remove the file"
            )))
        };
        for ((name, theirs), (_, ours)) in self.setup.iter().zip(&begun.setup) {
            if theirs != ours {
                return differs(name, theirs, ours);
            }
        }
        if self.shard != shard {
            return differs("--shard", &self.shard.to_string(), &shard.to_string());
        }
        let is_same = |(ours, theirs): (&Counted, &Counted)| {
            (&ours.words, ours.purpose, ours.confusion.labels())
                == (&theirs.words, theirs.purpose, theirs.confusion.labels())
        };
        if self.lists.len() != begun.lists.len() || !self.lists.iter().zip(&begun.lists).all(is_same) {
            return Err(Error::Data(format!("{path}: its counts are not of the labels that it names; it is damaged")));
        }
        Ok(())
    }
}

/// One state of all shards: the counts are those of a call without shards.
///
/// # Errors
/// [`Error::Data`] if a shard is of another measurement, not complete, missing, or there twice.
pub fn merge(mut shards: Vec<(&Path, State)>) -> Result<State> {
    shards.sort_by_key(|(_, state)| state.shard.part);
    let mut merged = State { shard: Shard::WHOLE, photos: 0, rows: Vec::new(), ..shards[0].1.clone() };
    merged.lists.iter_mut().for_each(|list| list.confusion = Confusion::new(list.confusion.labels(), list.words.len()));
    let parts = shards[0].1.shard.parts;
    let pixels = shards.iter().try_fold(0_u64, |sum, (_, state)| sum.checked_add(state.pixels()?));
    if pixels.is_none() {
        return Err(Error::Data(format!("{}: more pixels than can be counted; it is damaged", shards[0].0.display())));
    }
    for (part, (path, state)) in (1..).zip(&shards) {
        state.check_same(path, &merged, Shard { part, parts })?;
        if !state.is_complete() {
            let (done, all, path) = (state.rows.len(), state.photos, path.display());
            return Err(Error::Data(format!("{path}: {done} of {all} photos were done; let its call go on first")));
        }
        merged.lists.iter_mut().zip(&state.lists).for_each(|(sum, list)| sum.confusion.merge(&list.confusion));
        merged.photos += state.photos;
    }
    if shards.len() != parts {
        return Err(Error::Data(format!("{} of {parts} shards are given; merge takes all of them", shards.len())));
    }
    // Photo i is row i / parts of shard i % parts.
    let row = |i: usize| shards[i % parts].1.rows.get(i / parts).cloned();
    merged.rows = (0..merged.photos).map_while(row).collect();
    Ok(merged)
}
