//! The metrics of published tables, from exact counts. Pixels without a label are in none of them.

use super::confusion::{Confusion, Sums};

/// The metrics of a list of labels.
pub struct Metrics {
    /// Pixels with a label.
    pub labelled: u64,
    /// Right pixels of the labelled ones; none where there are none.
    pub pixel_accuracy: Option<f64>,
    /// The mean over all labels of the list, where one that is absent counts 0: scikit-learn's `jaccard_score` with
    /// `average="macro", zero_division=0`, and what LSeg's tables have.
    pub mean_iou: f64,
    /// The mean over the labels that are true or predicted somewhere (torchmetrics' macro average).
    pub mean_iou_present: Option<f64>,
    /// The mean over the labels, each weighted by its true pixels.
    pub frequency_weighted_iou: Option<f64>,
    /// Of each label, intersection over union; none where it is neither true nor predicted.
    pub iou: Vec<Option<f64>>,
}

impl Metrics {
    /// Of these counts.
    pub fn of(confusion: &Confusion) -> Metrics {
        let sums = confusion.sums();
        let labelled: u64 = sums.truth.iter().sum();
        let iou: Vec<Option<f64>> = (0..confusion.labels()).map(|label| label_iou(&sums, label)).collect();
        let present: Vec<f64> = iou.iter().copied().flatten().collect();
        let weighted = iou.iter().zip(&sums.truth).map(|(iou, truth)| iou.unwrap_or_default() * *truth as f64);
        Metrics {
            labelled,
            pixel_accuracy: ratio(sums.right.iter().sum(), labelled),
            mean_iou: present.iter().sum::<f64>() / iou.len() as f64,
            mean_iou_present: mean(&present),
            frequency_weighted_iou: (labelled > 0).then(|| weighted.sum::<f64>() / labelled as f64),
            iou,
        }
    }
}

/// Pixels where a label is true and predicted, over those where it is one of both.
fn label_iou(sums: &Sums, label: usize) -> Option<f64> {
    ratio(sums.right[label], sums.truth[label] + sums.predicted[label] - sums.right[label])
}

/// The mean of some values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
