//! How many pixels of each label were given each word: whole numbers, so that sums are exact in any order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Pixels by (true label, predicted word). Words are the labels and, behind them, those that are nowhere true.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// Rows: what may be true.
    labels: usize,
    /// Columns: what may be predicted.
    words: usize,
    /// Those above 0: of thousands of labels, few meet.
    #[serde(with = "triples")]
    counts: BTreeMap<(u16, u16), u64>,
}

/// What the metrics are made of: pixels by label, and by word.
pub struct Sums {
    /// Where each label is true.
    pub truth: Vec<u64>,
    /// Where each word was predicted.
    pub predicted: Vec<u64>,
    /// Where each label is true and was predicted.
    pub right: Vec<u64>,
}

impl Confusion {
    /// Nothing counted yet.
    pub fn new(labels: usize, words: usize) -> Confusion {
        Confusion { labels, words, counts: BTreeMap::new() }
    }

    /// How many labels may be true.
    pub fn labels(&self) -> usize {
        self.labels
    }

    /// How many words may be predicted.
    pub fn words(&self) -> usize {
        self.words
    }

    /// Counts pixels of label `truth` that were given the word `predicted`.
    pub fn add(&mut self, truth: u16, predicted: u16, pixels: u64) {
        *self.counts.entry((truth, predicted)).or_default() += pixels;
    }

    /// Counts all of `other`, which has the same labels and words.
    pub fn merge(&mut self, other: &Confusion) {
        other.counts.iter().for_each(|(&(truth, predicted), &pixels)| self.add(truth, predicted, pixels));
    }

    /// The counts above 0.
    pub fn counts(&self) -> impl Iterator<Item = (usize, usize, u64)> {
        self.counts.iter().map(|(&(truth, predicted), &pixels)| (truth.into(), predicted.into(), pixels))
    }

    /// All counts [labels, words].
    pub fn dense(&self) -> Vec<u64> {
        let mut dense = vec![0; self.labels * self.words];
        self.counts().for_each(|(truth, predicted, pixels)| dense[truth * self.words + predicted] = pixels);
        dense
    }

    /// Pixels that were counted.
    pub fn pixels(&self) -> u64 {
        self.counts.values().sum()
    }

    /// By label and by word.
    pub fn sums(&self) -> Sums {
        let mut sums =
            Sums { truth: vec![0; self.labels], predicted: vec![0; self.words], right: vec![0; self.labels] };
        for (truth, predicted, pixels) in self.counts() {
            sums.truth[truth] += pixels;
            sums.predicted[predicted] += pixels;
            if truth == predicted {
                sums.right[truth] += pixels;
            }
        }
        sums
    }

    /// Whether a file's counts are of its labels and words.
    pub(super) fn is_sound(&self) -> bool {
        let sizes = (1..=self.words).contains(&self.labels) && self.words <= usize::from(u16::MAX);
        sizes && self.counts().all(|(truth, predicted, _)| truth < self.labels && predicted < self.words)
    }
}

/// As JSON, whose objects have texts for keys: [[truth, predicted, pixels], …].
mod triples {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    type Counts = BTreeMap<(u16, u16), u64>;

    pub fn serialize<S: Serializer>(counts: &Counts, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(counts.iter().map(|((truth, predicted), pixels)| (truth, predicted, pixels)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Counts, D::Error> {
        let triples = Vec::<(u16, u16, u64)>::deserialize(from)?;
        Ok(triples.into_iter().map(|(truth, predicted, pixels)| ((truth, predicted), pixels)).collect())
    }
}
