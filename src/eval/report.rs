//! The metrics of a state, as they are printed.

use std::collections::BTreeMap;

use serde::Serialize;

use super::confusion::Confusion;
use super::dataset::Purpose;
use super::metrics::{Metrics, mean};
use super::state::{Counted, Outcome, State};

/// What `eval` says.
#[derive(Serialize)]
pub struct Report {
    /// Photos (or episodes) that were measured.
    pub photos: usize,
    /// Pixels with a label.
    pub labelled: u64,
    /// Of labels, or of episodes.
    #[serde(flatten)]
    pub scores: Scores,
    /// Photos that were not measured.
    pub failed: Vec<Failed>,
}

/// See [`Report`].
#[derive(Serialize)]
#[serde(untagged)]
pub enum Scores {
    /// Of one list of words.
    Labels(LabelScores),
    /// Of a list a word for the rest.
    Rest(RestScores),
    /// Of a list a class.
    Episodes(EpisodeScores),
}

/// The metrics of [`Metrics`].
#[derive(Serialize)]
pub struct LabelScores {
    pub pixel_accuracy: Option<f64>,
    pub mean_iou: f64,
    pub mean_iou_present: Option<f64>,
    pub frequency_weighted_iou: Option<f64>,
    pub labels: Vec<LabelScore>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra: Vec<ExtraWord>,
}

/// A label's.
#[derive(Serialize)]
pub struct LabelScore {
    pub index: usize,
    pub label: String,
    pub iou: Option<f64>,
    /// Pixels where it is true.
    pub pixels: u64,
    /// Pixels where it was predicted.
    pub predicted: u64,
}

/// A word that is nowhere true.
#[derive(Serialize)]
pub struct ExtraWord {
    pub word: String,
    /// Pixels where it was predicted.
    pub predicted: u64,
    /// Its part of the pixels with a label.
    pub share: Option<f64>,
}

/// What each word for the rest does.
#[derive(Serialize)]
pub struct RestScores {
    pub other_words: Vec<OtherWord>,
}

/// One list of words, whose last stands for all that the others leave.
#[derive(Serialize)]
pub struct OtherWord {
    pub word: String,
    /// The mean over the labels without the rest; 0 for one that is neither true nor predicted.
    pub mean_iou: f64,
    /// The rest's.
    pub rest_iou: Option<f64>,
    /// Right pixels of the rest's own.
    pub rest_recall: Option<f64>,
}

/// The metrics of few-shot segmentation: intersections and unions are summed over a class's episodes.
#[derive(Serialize)]
pub struct EpisodeScores {
    /// The mean of the folds'.
    pub mean_iou: f64,
    /// The mean of the folds'.
    pub fb_iou: f64,
    pub folds: Vec<FoldScore>,
    pub classes: Vec<ClassScore>,
}

/// A fold's.
#[derive(Serialize)]
pub struct FoldScore {
    pub fold: usize,
    pub episodes: usize,
    /// The mean over the fold's classes of their foregrounds' IoU; 0 for a class without a pixel.
    pub mean_iou: f64,
    /// The mean of the foregrounds' IoU and the backgrounds', each summed over the fold's classes.
    pub fb_iou: f64,
}

/// A class's.
#[derive(Serialize)]
pub struct ClassScore {
    pub fold: usize,
    pub class: usize,
    pub label: String,
    pub episodes: usize,
    /// Its foreground's.
    pub iou: f64,
}

/// A photo that was not measured.
#[derive(Serialize)]
pub struct Failed {
    pub photo: String,
    pub error: String,
}

impl Report {
    /// Of what was counted.
    pub fn of(state: &State) -> Report {
        let failed = state.rows.iter().filter_map(|row| match &row.outcome {
            Outcome::Failed { error } => Some(Failed { photo: row.photo.clone(), error: error.clone() }),
            Outcome::Measured { .. } => None,
        });
        let failed: Vec<Failed> = failed.collect();
        let scores = match &state.lists[..] {
            [list, ..] if list.purpose == Purpose::Labels => Scores::Labels(label_scores(list)),
            [list, ..] if list.purpose == Purpose::Rest => Scores::Rest(rest_scores(state)),
            _ => Scores::Episodes(episode_scores(state)),
        };
        Report {
            photos: state.rows.len() - failed.len(),
            labelled: state.lists.iter().map(|list| list.confusion.pixels()).sum(),
            scores,
            failed,
        }
    }
}

fn label_scores(Counted { words, confusion, .. }: &Counted) -> LabelScores {
    let (metrics, sums) = (Metrics::of(confusion), confusion.sums());
    let label = |(index, iou): (usize, &Option<f64>)| LabelScore {
        index,
        label: words[index].clone(),
        iou: *iou,
        pixels: sums.truth[index],
        predicted: sums.predicted[index],
    };
    let extra = (confusion.labels()..confusion.words()).map(|index| ExtraWord {
        word: words[index].clone(),
        predicted: sums.predicted[index],
        share: (metrics.labelled > 0).then(|| sums.predicted[index] as f64 / metrics.labelled as f64),
    });
    LabelScores {
        pixel_accuracy: metrics.pixel_accuracy,
        mean_iou: metrics.mean_iou,
        mean_iou_present: metrics.mean_iou_present,
        frequency_weighted_iou: metrics.frequency_weighted_iou,
        labels: metrics.iou.iter().enumerate().map(label).collect(),
        extra: extra.collect(),
    }
}

fn rest_scores(state: &State) -> RestScores {
    let score = |Counted { words, confusion, .. }: &Counted| {
        let (metrics, sums, rest) = (Metrics::of(confusion), confusion.sums(), confusion.labels() - 1);
        OtherWord {
            word: words[rest].clone(),
            mean_iou: mean_of(metrics.iou[..rest].iter().map(|iou| iou.unwrap_or_default())),
            rest_iou: metrics.iou[rest],
            rest_recall: (sums.truth[rest] > 0).then(|| sums.right[rest] as f64 / sums.truth[rest] as f64),
        }
    };
    RestScores { other_words: state.lists.iter().map(score).collect() }
}

fn episode_scores(state: &State) -> EpisodeScores {
    let mut episodes = vec![0; state.lists.len()];
    let measured = state.rows.iter().filter(|row| matches!(row.outcome, Outcome::Measured { .. }));
    measured.for_each(|row| episodes[row.list] += 1);
    let mut folds: BTreeMap<usize, (Vec<ClassScore>, Confusion)> = BTreeMap::new();
    for (list, episodes) in state.lists.iter().zip(episodes) {
        let (Purpose::Episode(class), Some(label)) = (list.purpose, list.words.last()) else { continue };
        let iou = background_and_foreground(&list.confusion)[1];
        let (classes, sum) = folds.entry(class.fold).or_insert_with(|| (Vec::new(), Confusion::new(2, 2)));
        classes.push(ClassScore { fold: class.fold, class: class.class, label: label.clone(), episodes, iou });
        sum.merge(&list.confusion);
    }
    let score = |(&fold, (classes, sum)): (&usize, &(Vec<ClassScore>, Confusion))| FoldScore {
        fold,
        episodes: classes.iter().map(|class| class.episodes).sum(),
        mean_iou: mean_of(classes.iter().map(|class| class.iou)),
        fb_iou: mean_of(background_and_foreground(sum).into_iter()),
    };
    let scores: Vec<FoldScore> = folds.iter().map(score).collect();
    EpisodeScores {
        mean_iou: mean_of(scores.iter().map(|fold| fold.mean_iou)),
        fb_iou: mean_of(scores.iter().map(|fold| fold.fb_iou)),
        folds: scores,
        classes: folds.into_values().flat_map(|(classes, _)| classes).collect(),
    }
}

/// Their IoU, 0 where neither is true nor predicted.
fn background_and_foreground(confusion: &Confusion) -> [f64; 2] {
    let iou = Metrics::of(confusion).iou;
    [0, 1].map(|label| iou[label].unwrap_or_default())
}

fn mean_of(values: impl Iterator<Item = f64>) -> f64 {
    mean(&values.collect::<Vec<_>>()).unwrap_or_default()
}
