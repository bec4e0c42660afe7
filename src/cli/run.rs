//! `run`: photos and words in; masks, overlays, scores and a table of shares out.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use lseg_fast::engine::{Engine, Extras, Frame, Segmentation, Segmented};
use lseg_fast::image::decode::Photo;
use lseg_fast::image::legend::percent;
use lseg_fast::image::palette::palette;
use lseg_fast::image::{mask, npy, overlay};
use lseg_fast::output::write_atomically;
use lseg_fast::protocol::Size;
use serde::Serialize;

use super::common::{EngineArguments, LabelArguments, Opened, PhotoArguments};
use super::print::Printer;
use super::result::{Heading, SavedFile, StageTime, render_stages_and_files};
use super::table::{Align, Table};
use super::timings::Timings;
use super::{Failure, Outcome, batch};

/// Segment photos: every pixel gets the label that fits it best.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    photos: PhotoArguments,

    #[command(flatten)]
    labels: LabelArguments,

    #[command(flatten)]
    engine: EngineArguments,

    /// What to write for each photo
    #[arg(long, value_delimiter = ',', default_value = "mask,overlay", value_name = "LIST")]
    save: Vec<Save>,

    /// Show each operation's time beside its cost and this machine's matmul rate
    #[arg(long)]
    timings: bool,

    /// No progress and no notes on stderr; errors remain
    #[arg(short, long)]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  lseg-fast run photo.jpg --labels \"dog,grass,other\" --model lseg.safetensors
  lseg-fast run photos/ --labels @words.txt --out results --model m.safetensors
  lseg-fast run a.jpg --labels \"sky,road\" --size native --save scores --model m.ckpt
  lseg-fast run a.jpg --labels \"cat,dog\" --template \"a photo of a {}\" \\
      --template \"a drawing of a {}\" --model lseg.safetensors
  lseg-fast run a.jpg --labels \"sky,road\" --timings --model lseg.safetensors
  lseg-fast run photos/ --labels @words.txt --json --model lseg.safetensors

Writes, for photo.jpg:
  out/photo.mask.png     the photo's size; value 0 is the first label, 1 the second …
  out/photo.overlay.png  the photo in the labels' colours, with a legend
  out/photo.scores.npy   float32 [labels, height, width] at the network's size
  out/photo.best.npy     float32 [height, width] of the photo: the logit of each pixel's label";

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Save {
    /// <stem>.mask.png
    Mask,
    /// <stem>.overlay.png
    Overlay,
    /// <stem>.scores.npy
    Scores,
    /// <stem>.best.npy
    Best,
}

impl Save {
    fn kind(self) -> &'static str {
        match self {
            Save::Mask => "mask",
            Save::Overlay => "overlay",
            Save::Scores => "scores",
            Save::Best => "best",
        }
    }

    fn ending(self) -> &'static str {
        match self {
            Save::Mask => "mask.png",
            Save::Overlay => "overlay.png",
            Save::Scores => "scores.npy",
            Save::Best => "best.npy",
        }
    }
}

pub fn run(arguments: &Arguments, printer: &mut Printer) -> Result<Outcome, Failure> {
    let labels = arguments.labels.resolve()?;
    let endings: Vec<&str> = arguments.save.iter().map(|save| save.ending()).collect();
    let photos = arguments.photos.collect(&endings)?;
    let checkpoint = arguments.engine.open()?;
    arguments.photos.create_folder()?;

    let mut engine = arguments.engine.load(&checkpoint, arguments.quiet)?;
    let size = arguments.photos.set_size(&mut engine)?;
    arguments.labels.set(&mut engine, &labels, arguments.quiet)?;
    let labels = engine.labels().to_vec();
    if arguments.timings {
        engine.matmul_rate().map_err(Failure::call)?;
    }
    engine.record_times(arguments.timings);

    let text = Some(engine.text_time());
    let colours = palette(labels.len());
    let mut session = Session { engine, labels, colours, size, text, arguments };
    batch::each(&photos, arguments.quiet, printer, |photo| session.segment(photo), Report::render)
}

/// What stays the same from photo to photo.
struct Session<'a> {
    engine: Engine,
    labels: Vec<String>,
    /// One a label.
    colours: Vec<[u8; 3]>,
    size: Size,
    /// What encoding the labels took; reported with the first photo, the others do not need it again.
    text: Option<Duration>,
    arguments: &'a Arguments,
}

impl Session<'_> {
    fn segment(&mut self, path: &Path) -> lseg_fast::Result<Report> {
        let Opened { photo, heading, decoding } = self.arguments.photos.open(path, self.size, &self.engine)?;
        let frame = Frame { width: photo.width, height: photo.height, rgb: &photo.rgb };
        let wanted = |save| self.arguments.save.contains(&save);
        let colours = wanted(Save::Overlay).then_some(&*self.colours);
        let extras = Extras { scores: wanted(Save::Scores), best: wanted(Save::Best), colours };
        let segmented = self.engine.segment_with(&frame, extras)?;
        let timings = self.arguments.timings.then(|| {
            let operations = self.engine.timings();
            Ok(Timings::new(self.engine.matmul_rate()?, &operations))
        });
        let timings = timings.transpose()?;
        let shares = segmented.segmentation.shares(self.labels.len());

        let start = Instant::now();
        let files = self.save(path, segmented, &shares)?;
        let saving = start.elapsed();

        let mut stages = vec![("decode", decoding)];
        stages.extend(self.text.take().map(|time| ("text", time)));
        stages.extend_from_slice(self.engine.stage_times());
        stages.push(("save", saving));
        let share = |(index, (label, share)): (usize, (&String, f64))| Share { index, label: label.clone(), share };
        let labels = self.labels.iter().zip(shares).enumerate().map(share).collect();
        let stages = stages.into_iter().map(StageTime::from).collect();
        Ok(Report { heading, labels, stages, files, timings })
    }

    fn save(&self, path: &Path, segmented: Segmented, shares: &[f64]) -> lseg_fast::Result<Vec<SavedFile>> {
        let mut saved = Vec::new();
        let Segmented { segmentation: Segmentation { width, height, mask: values }, scores, best, overlay } = segmented;
        let tinted = overlay.map(|rgb| Photo { width, height, rgb });
        for save in [Save::Mask, Save::Overlay, Save::Scores, Save::Best] {
            if !self.arguments.save.contains(&save) {
                continue;
            }
            let file = self.arguments.photos.result(path, save.ending());
            match save {
                Save::Mask => {
                    write_atomically(&file, |out| mask::write(out, &values, width, height, self.labels.len()))?;
                }
                Save::Overlay => {
                    let Some(tinted) = &tinted else { continue };
                    let picture = overlay::overlay(tinted, &self.labels, &self.colours, shares)?;
                    write_atomically(&file, |out| overlay::write(out, &picture))?;
                }
                Save::Scores => {
                    let Some(scores) = &scores else { continue };
                    let shape = [scores.labels, scores.height, scores.width];
                    write_atomically(&file, |out| npy::write(out, &shape, &scores.data))?;
                }
                Save::Best => {
                    let Some(best) = &best else { continue };
                    write_atomically(&file, |out| npy::write(out, &[height, width], best))?;
                }
            }
            saved.push(SavedFile { kind: save.kind(), path: file });
        }
        Ok(saved)
    }
}

/// What is said about one photo.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    heading: Heading,
    labels: Vec<Share>,
    stages: Vec<StageTime>,
    files: Vec<SavedFile>,
    #[serde(flatten)]
    timings: Option<Timings>,
}

#[derive(Serialize)]
struct Share {
    index: usize,
    label: String,
    /// Fraction of the photo.
    share: f64,
}

impl Report {
    /// A heading, the shares with the largest first, the times, the files.
    fn render(&self) -> String {
        let mut order: Vec<&Share> = self.labels.iter().collect();
        order.sort_by(|a, b| b.share.total_cmp(&a.share));
        let mut shares = Table::headed([Align::Right, Align::Right, Align::Left], ["share", "index", "label"]);
        for Share { index, label, share } in order {
            shares.row([percent(*share), index.to_string(), label.clone()]);
        }
        let timings = self.timings.as_ref().map(Timings::render).unwrap_or_default();
        let rest = render_stages_and_files(&self.stages, &self.files);
        format!("{}{}\n{timings}{rest}", self.heading.render(), shares.render())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_shows_the_largest_share_first() {
        let share = |index, label: &str, share| Share { index, label: label.into(), share };
        let report = Report {
            heading: Heading {
                photo: "a.jpg".into(),
                height: 480,
                width: 640,
                network_height: 352,
                network_width: 480,
                device: "cpu, 2 threads".into(),
            },
            labels: vec![share(0, "dog", 0.25), share(1, "cat", 0.0), share(2, "grass", 0.75)],
            stages: vec![
                ("decode", Duration::from_micros(4_250)).into(),
                ("image", Duration::from_millis(1_200)).into(),
            ],
            files: vec![SavedFile { kind: "mask", path: "out/a.mask.png".into() }],
            timings: None,
        };
        let expected = "\
a.jpg: 640 wide, 480 high; network 480 wide, 352 high; cpu, 2 threads
   share  index  label
  75.0 %      2  grass
  25.0 %      0  dog
   0.0 %      1  cat

  stage       ms
  decode     4.2
  image   1200.0
  total   1204.2

  out/a.mask.png

";
        assert_eq!(report.render(), expected);
    }
}
