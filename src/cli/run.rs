//! `run`: photos and words in; masks, overlays, scores and a table of shares out.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lseg_fast::engine::{Engine, Frame, Scores, Segmentation};
use lseg_fast::image::decode::{DEFAULT_MAX_PIXELS, Photo, decode};
use lseg_fast::image::legend::percent;
use lseg_fast::image::{mask, npy, overlay};
use lseg_fast::output::{create_folder, write_atomically};
use lseg_fast::protocol::Size;

use super::common::{EngineArguments, LabelArguments};
use super::print::Printer;
use super::table::{Align, Table};
use super::{Failure, Outcome, message, photos};

/// Segment photos: every pixel gets the label that fits it best.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Photos, or folders of photos
    #[arg(required = true, value_name = "PHOTO|DIR")]
    photos: Vec<PathBuf>,

    #[command(flatten)]
    labels: LabelArguments,

    #[command(flatten)]
    engine: EngineArguments,

    /// Folder for the results; created where it is missing
    #[arg(long, default_value = "out", value_name = "DIR")]
    out: PathBuf,

    /// What to write for each photo
    #[arg(long, value_delimiter = ',', default_value = "mask,overlay", value_name = "LIST")]
    save: Vec<Save>,

    /// The network's size: native (the photo's own), HEIGHTxWIDTH, or long:L (longer side L) [default: the model's]
    ///
    /// Both sides are rounded to the nearest multiple of 32.
    #[arg(long, value_name = "SIZE")]
    size: Option<Size>,

    /// Refuse photos of more pixels than this
    #[arg(long, default_value_t = DEFAULT_MAX_PIXELS, value_name = "N")]
    max_pixels: u64,

    /// No progress and no notes on stderr; errors remain
    #[arg(short, long)]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  lseg-fast run photo.jpg --labels \"dog,grass,other\" --model lseg.safetensors
  lseg-fast run photos/ --labels @words.txt --out results --model m.safetensors
  lseg-fast run a.jpg --labels \"sky,road\" --size native --save scores --model m.ckpt

Writes, for photo.jpg:
  out/photo.mask.png     the photo's size; value 0 is the first label, 1 the second …
  out/photo.overlay.png  the photo in the labels' colours, with a legend
  out/photo.scores.npy   float32 [labels, height, width] at the network's size";

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Save {
    /// <stem>.mask.png
    Mask,
    /// <stem>.overlay.png
    Overlay,
    /// <stem>.scores.npy
    Scores,
}

impl Save {
    fn ending(self) -> &'static str {
        match self {
            Save::Mask => "mask.png",
            Save::Overlay => "overlay.png",
            Save::Scores => "scores.npy",
        }
    }
}

pub fn run(arguments: &Arguments) -> Result<Outcome, Failure> {
    let labels = arguments.labels.resolve()?;
    let photos = photos::collect(&arguments.photos)?;
    let endings = arguments.save.iter().map(|save| save.ending());
    let results = photos.iter().flat_map(|photo| endings.clone().map(|e| photos::result(&arguments.out, photo, e)));
    photos::refuse_overwriting(&photos, results)?;
    arguments.engine.model()?;
    create_folder(&arguments.out).map_err(Failure::call)?;

    let mut engine = arguments.engine.load(arguments.quiet)?;
    let size = match arguments.size {
        Some(size) => size,
        None => engine.config().default_size.parse().map_err(Failure::call)?,
    };
    engine.set_size(size);
    engine.set_labels(&labels).map_err(Failure::call)?;

    let text = Some(engine.text_time());
    let mut session = Session { engine, labels, size, text, arguments };
    let progress = progress_bar(photos.len(), arguments.quiet);
    let mut printer = Printer::default();
    let mut outcome = Outcome::Done;
    for photo in &photos {
        progress.set_message(photo.display().to_string());
        match session.segment(photo) {
            Ok(report) => progress.suspend(|| printer.print(&report.render(&session.labels)))?,
            Err(error) => {
                progress.suspend(|| message::error(error));
                outcome = Outcome::SomeFailed;
            }
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(outcome)
}

/// On stderr, and only where that is a terminal.
fn progress_bar(photos: usize, quiet: bool) -> ProgressBar {
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(photos as u64), target);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos}/{len} {elapsed} {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// What stays the same from photo to photo.
struct Session<'a> {
    engine: Engine,
    labels: Vec<String>,
    size: Size,
    /// What encoding the labels took; reported with the first photo, the others do not need it again.
    text: Option<Duration>,
    arguments: &'a Arguments,
}

impl Session<'_> {
    fn segment(&mut self, path: &Path) -> lseg_fast::Result<Report> {
        let start = Instant::now();
        let photo = decode(path, self.arguments.max_pixels)?;
        let decoding = start.elapsed();

        let network = self.size.network_size(photo.height, photo.width)?;
        let frame = Frame { width: photo.width, height: photo.height, rgb: &photo.rgb };
        let (segmentation, scores) = if self.arguments.save.contains(&Save::Scores) {
            let (segmentation, scores) = self.engine.segment_with_scores(&frame)?;
            (segmentation, Some(scores))
        } else {
            (self.engine.segment(&frame)?, None)
        };
        let shares = segmentation.shares(self.labels.len());

        let start = Instant::now();
        let saved = self.save(path, &photo, &segmentation, scores.as_ref(), &shares)?;
        let saving = start.elapsed();

        let mut stages = vec![("decode", decoding)];
        stages.extend(self.text.take().map(|time| ("text", time)));
        stages.extend_from_slice(self.engine.stage_times());
        stages.push(("save", saving));
        let device = self.engine.device().to_owned();
        Ok(Report { photo: path.to_owned(), size: (photo.height, photo.width), network, device, shares, stages, saved })
    }

    fn save(
        &self,
        path: &Path,
        photo: &Photo,
        segmentation: &Segmentation,
        scores: Option<&Scores>,
        shares: &[f64],
    ) -> lseg_fast::Result<Vec<PathBuf>> {
        let mut saved = Vec::new();
        for save in [Save::Mask, Save::Overlay, Save::Scores] {
            if !self.arguments.save.contains(&save) {
                continue;
            }
            let file = photos::result(&self.arguments.out, path, save.ending());
            let Segmentation { width, height, mask: values, .. } = segmentation;
            match (save, scores) {
                (Save::Mask, _) => {
                    write_atomically(&file, |out| mask::write(out, values, *width, *height, self.labels.len()))?;
                }
                (Save::Overlay, _) => {
                    let picture = overlay::overlay(photo, values, &self.labels, shares)?;
                    write_atomically(&file, |out| overlay::write(out, &picture))?;
                }
                (Save::Scores, Some(scores)) => {
                    let shape = [scores.labels, scores.height, scores.width];
                    write_atomically(&file, |out| npy::write(out, &shape, &scores.data))?;
                }
                (Save::Scores, None) => continue,
            }
            saved.push(file);
        }
        Ok(saved)
    }
}

/// What is said about one photo.
struct Report {
    photo: PathBuf,
    /// (height, width)
    size: (usize, usize),
    /// (height, width) of the network's input.
    network: (usize, usize),
    device: String,
    /// Fractions of the photo, one a label.
    shares: Vec<f64>,
    stages: Vec<(&'static str, Duration)>,
    saved: Vec<PathBuf>,
}

impl Report {
    /// A heading, the shares with the largest first, the times, the files.
    fn render(&self, labels: &[String]) -> String {
        let ((height, width), (network_height, network_width)) = (self.size, self.network);
        let heading = format!(
            "{}: {width} wide, {height} high; network {network_width} wide, {network_height} high; {}\n",
            self.photo.display(),
            self.device
        );
        let mut order: Vec<usize> = (0..labels.len()).collect();
        order.sort_by(|&a, &b| self.shares[b].total_cmp(&self.shares[a]));
        let mut shares = Table::headed([Align::Right, Align::Right, Align::Left], ["share", "index", "label"]);
        for index in order {
            shares.row([percent(self.shares[index]), index.to_string(), labels[index].clone()]);
        }
        let mut stages = Table::headed([Align::Left, Align::Right], ["stage", "ms"]);
        let total = ("total", self.stages.iter().map(|(_, time)| *time).sum::<Duration>());
        for (stage, time) in self.stages.iter().chain([&total]) {
            stages.row([(*stage).into(), format!("{:.1}", 1000.0 * time.as_secs_f64())]);
        }
        let saved: String = self.saved.iter().map(|file| format!("  {}\n", file.display())).collect();
        format!("{heading}{}\n{}\n{saved}\n", shares.render(), stages.render())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_shows_the_largest_share_first() {
        let report = Report {
            photo: "a.jpg".into(),
            size: (480, 640),
            network: (352, 480),
            device: "cpu, 2 threads".into(),
            shares: vec![0.25, 0.0, 0.75],
            stages: vec![("decode", Duration::from_micros(4_250)), ("image", Duration::from_millis(1_200))],
            saved: vec!["out/a.mask.png".into()],
        };
        let labels = ["dog", "cat", "grass"].map(str::to_owned);
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
        assert_eq!(report.render(&labels), expected);
    }
}
