//! What is said of a measurement: its metrics, and files of its counts.

use std::path::PathBuf;

use clap::Args;

use crate::cli::print::Printer;
use crate::cli::table::{Align, Table, grouped};
use crate::cli::{Failure, Outcome};
use crate::eval::export;
use crate::eval::report::{EpisodeScores, LabelScores, OtherWord, Report, RestScores, Scores};
use crate::eval::state::State;

/// Files beside the metrics.
#[derive(Args)]
pub struct OutputArguments {
    /// Write the confusion matrix, as .npy (uint64), .csv or .png by the ending: rows are what is true
    #[arg(long, value_name = "FILE")]
    confusion: Option<PathBuf>,

    /// Write a table with a row for each photo, as CSV
    #[arg(long, value_name = "FILE")]
    per_photo: Option<PathBuf>,
}

impl OutputArguments {
    /// An error, before anything is measured, where a matrix of so many words cannot be written.
    pub fn check(&self, words: usize) -> Result<(), Failure> {
        Ok(self.confusion.as_deref().map_or(Ok(()), |path| export::check(path, words))?)
    }

    /// Prints the metrics and writes the files.
    pub fn write(&self, state: &State, printer: &mut Printer) -> Result<Outcome, Failure> {
        // First what took the time, whatever becomes of the files.
        let report = Report::of(state);
        printer.print(&report, render)?;
        if let Some(path) = &self.confusion {
            export::write_confusion(state, path)?;
        }
        if let Some(path) = &self.per_photo {
            export::write_per_photo(state, path)?;
        }
        Ok(if report.failed.is_empty() { Outcome::Done } else { Outcome::SomeFailed })
    }
}

fn render(report: &Report) -> String {
    let Report { photos, labelled, scores, failed } = report;
    let scores = match scores {
        Scores::Labels(scores) => render_labels(scores),
        Scores::Rest(scores) => render_rest(scores),
        Scores::Episodes(scores) => render_episodes(scores),
    };
    let (failed, labelled) = (failed.len(), grouped(*labelled));
    format!("{scores}\nphotos: {photos} measured, {failed} failed; {labelled} pixels with a label\n")
}

/// Hundredths, as papers have them.
fn hundredths(share: f64) -> String {
    format!("{:.2}", 100.0 * share)
}

/// The same, of what may be nowhere.
fn hundredths_or_none(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), hundredths)
}

fn render_labels(scores: &LabelScores) -> String {
    let align = [Align::Right, Align::Right, Align::Right, Align::Right, Align::Left];
    let mut labels = Table::headed(align, ["IoU %", "true", "predicted", "index", "label"]);
    for label in &scores.labels {
        let (iou, index) = (hundredths_or_none(label.iou), label.index.to_string());
        labels.row([iou, grouped(label.pixels), grouped(label.predicted), index, label.label.clone()]);
    }
    for extra in &scores.extra {
        labels.row(["-".into(), "-".into(), grouped(extra.predicted), "-".into(), extra.word.clone()]);
    }
    let mut metrics = Table::new([Align::Right, Align::Left]);
    metrics.row([hundredths_or_none(scores.pixel_accuracy), "pixel accuracy %".into()]);
    metrics.row([hundredths(scores.mean_iou), "mIoU %, over all labels (an absent one counts 0), as published".into()]);
    metrics.row([hundredths_or_none(scores.mean_iou_present), "mIoU %, over the labels that are present".into()]);
    metrics.row([hundredths_or_none(scores.frequency_weighted_iou), "frequency-weighted IoU %".into()]);
    format!("{}\n{}", labels.render(), metrics.render())
}

fn render_rest(scores: &RestScores) -> String {
    let align = [Align::Right, Align::Right, Align::Right, Align::Left];
    let mut words = Table::headed(align, ["mIoU %", "rest's IoU %", "rest's recall %", "word for the rest"]);
    for OtherWord { word, mean_iou, rest_iou, rest_recall } in &scores.other_words {
        let [iou, recall] = [*rest_iou, *rest_recall].map(hundredths_or_none);
        words.row([hundredths(*mean_iou), iou, recall, word.clone()]);
    }
    words.render()
}

fn render_episodes(scores: &EpisodeScores) -> String {
    let align = [Align::Right, Align::Right, Align::Right, Align::Right, Align::Left];
    let mut classes = Table::headed(align, ["IoU %", "episodes", "fold", "class", "label"]);
    for class in &scores.classes {
        let [episodes, fold, number] = [class.episodes, class.fold, class.class].map(|number| number.to_string());
        classes.row([hundredths(class.iou), episodes, fold, number, class.label.clone()]);
    }
    let mut folds = Table::headed([Align::Right; 4], ["mIoU %", "FB-IoU %", "episodes", "fold"]);
    for fold in &scores.folds {
        let [episodes, number] = [fold.episodes, fold.fold].map(|number| number.to_string());
        folds.row([hundredths(fold.mean_iou), hundredths(fold.fb_iou), episodes, number]);
    }
    folds.row([hundredths(scores.mean_iou), hundredths(scores.fb_iou), "-".into(), "mean".into()]);
    format!("{}\n{}", classes.render(), folds.render())
}
