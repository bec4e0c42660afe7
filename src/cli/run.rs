//! `run`: photos and words in; masks, overlays, scores and a table of shares out.

use std::fs::File;
use std::time::{Duration, Instant};

use crate::Error;
use crate::bench::matmul::Matmul;
use crate::engine::{Alpha, Engine, Output, Results, Segmentation, Threshold, Wanted};
use crate::image::decode;
use crate::image::heat::Range;
use crate::image::legend::percent;
use crate::image::overlay::Overlay;
use crate::image::palette::Palette;
use crate::image::{contours, mask, npy};
use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use rayon::prelude::*;
use serde::Serialize;

use super::common::{
    EngineArguments, LabelArguments, Opened, PhotoArguments, alpha, heading, refuse_larger, say_size, threshold,
    write_pieces,
};
use super::photos::Photo;
use super::print::Printer;
use super::protocol::{Chosen, ProtocolArguments};
use super::restart::Restartable;
use super::result::{Heading, SavedFile, Share, StageTime, Unlabelled, render_stages_and_files};
use super::table::{Align, Table};
use super::timings::Timings;
use super::window_scores::WindowScores;
use super::{Failure, Outcome, batch, heat, message};

/// Segment photos: every pixel gets the label that fits it best.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    photos: PhotoArguments,

    #[command(flatten)]
    labels: LabelArguments,

    #[command(flatten)]
    protocol: ProtocolArguments,

    #[command(flatten)]
    engine: EngineArguments,

    /// What to write for each photo [default: mask,overlay; with --out -: mask]
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    save: Vec<Save>,

    /// The labels' colours: default, ade20k, cityscapes or voc, or a file with one colour a line (#rrggbb or r g b)
    #[arg(long, default_value = "default", value_name = "NAME|FILE")]
    palette: String,

    /// The weight of the colours in the overlay, 0 (the photo as it is) to 1 (colours alone) [default: 0.5]
    #[arg(long, value_name = "WEIGHT", value_parser = alpha)]
    alpha: Option<Alpha>,

    /// Draw the regions' borders into the overlay; with --alpha 0, nothing but them
    #[arg(long)]
    contours: bool,

    /// The scores that heat's colours span: own (the least and the largest of each picture), or LOW:HIGH, beyond which
    /// colours stay the same [default: own]
    #[arg(long, value_name = "own|LOW:HIGH", value_parser = heat::range, allow_hyphen_values = true)]
    heat_range: Option<Range>,

    /// Leave pixels without a label whose confidence, the softmax of their label, is below this (0 to 1): 255 in masks of 8 bits,
    /// 65535 in masks of 16
    #[arg(long, value_name = "CONFIDENCE", value_parser = threshold)]
    threshold: Option<Threshold>,

    /// Refuse to write a file of scores larger than this; heat of windows takes one for as long as it is made
    #[arg(long, value_name = "SIZE", default_value = "4GiB")]
    max_output: ByteSize,

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
  lseg-fast run photos/ --recursive --skip-existing --labels @words.txt --model m.safetensors
  lseg-fast run a.jpg --labels \"cat,dog\" --save masks,overlay --alpha 0 --contours
  lseg-fast run a.jpg --labels \"sky,road\" --save mask,confidence --threshold 0.6
  curl … | lseg-fast run - --labels \"cat,other\" --out - --save overlay > cat.png

Writes, for photo.jpg:
  out/photo.mask.png     the photo's size; value 0 is the first label, 1 the second …
  out/photo.overlay.png  the photo in the labels' colours, with a legend
  out/photo.confidence.png  8-bit grey of the photo's size: 255 times the softmax of each pixel's label
  out/photo.mask.0.dog.png, … with --save masks: white where this label is, one for each
  out/photo.heat.0.dog.png, … with --save heat: the label's scores in colours (viridis), with their scale
  out/photo.scores.npy   float32 [labels, height, width] at the network's size
  out/photo.best.npy     float32 [height, width] of the photo: the logit of each pixel's label
  out/photo.probabilities.npy   float32 [labels, height, width] at the network's size: softmax of the scores over the labels";

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Save {
    /// <stem>.mask.png
    Mask,
    /// <stem>.overlay.png
    Overlay,
    /// <stem>.mask.<index>.<label>.png, one a label
    Masks,
    /// <stem>.heat.<index>.<label>.png, one a label
    Heat,
    /// <stem>.confidence.png
    Confidence,
    /// <stem>.scores.npy
    Scores,
    /// <stem>.best.npy
    Best,
    /// <stem>.probabilities.npy
    Probabilities,
}

impl Save {
    fn kind(self) -> &'static str {
        match self {
            Save::Mask => "mask",
            Save::Overlay => "overlay",
            Save::Masks => "masks",
            Save::Heat => "heat",
            Save::Confidence => "confidence",
            Save::Scores => "scores",
            Save::Best => "best",
            Save::Probabilities => "probabilities",
        }
    }

    /// What it is made of.
    fn output(self) -> Output {
        match self {
            Save::Mask | Save::Masks => Output::Mask,
            Save::Overlay => Output::Overlay,
            Save::Confidence => Output::Confidence,
            Save::Scores | Save::Heat => Output::Scores,
            Save::Best => Output::Best,
            Save::Probabilities => Output::Probabilities,
        }
    }

    /// The endings of the files, which for masks and heat are as many as `labels`.
    fn endings(self, labels: &[String]) -> Vec<String> {
        let ending = match self {
            Save::Mask => "mask.png",
            Save::Overlay => "overlay.png",
            Save::Masks => return label_endings("mask", labels),
            Save::Heat => return label_endings("heat", labels),
            Save::Confidence => "confidence.png",
            Save::Scores => "scores.npy",
            Save::Best => "best.npy",
            Save::Probabilities => "probabilities.npy",
        };
        vec![ending.to_owned()]
    }
}

fn label_endings(kind: &str, labels: &[String]) -> Vec<String> {
    (0..labels.len()).map(|index| label_ending(kind, index, labels)).collect()
}

/// `mask.07.tall-grass.png`: the label's index, with zeros as the last one needs, and as much of it as a file's name takes.
fn label_ending(kind: &str, index: usize, labels: &[String]) -> String {
    const LONGEST: usize = 60;
    let digits = (labels.len() - 1).to_string().len();
    let words = labels[index].split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let mut name = words.collect::<Vec<_>>().join("-");
    while name.len() > LONGEST {
        name.pop();
    }
    let name = if name.is_empty() { "label".to_owned() } else { name };
    format!("{kind}.{index:0digits$}.{name}.png")
}

impl Arguments {
    /// What is to be written for a photo, each kind once.
    fn saved(&self) -> Vec<Save> {
        let files = [Save::Mask, Save::Overlay, Save::Masks, Save::Heat, Save::Confidence];
        let arrays = [Save::Scores, Save::Best, Save::Probabilities];
        let wanted: &[Save] = match (&*self.save, self.photos.to_stdout()) {
            ([], true) => &[Save::Mask],
            ([], false) => &[Save::Mask, Save::Overlay],
            (given, _) => given,
        };
        files.into_iter().chain(arrays).filter(|save| wanted.contains(save)).collect()
    }

    /// The labels' colours. That a palette has too few is said on stderr unless `quiet`.
    fn colours(&self, labels: &[String]) -> Result<Vec<[u8; 3]>, Failure> {
        let palette = Palette::parse(&self.palette)?;
        let made_up = palette.made_up(labels.len());
        if made_up > 0 && !self.quiet {
            let (labels, has) = (labels.len(), labels.len() - made_up);
            message::note(format!(
                "palette {} has {has} colours for {labels} labels; the others are made up",
                self.palette
            ));
        }
        Ok(palette.colours(labels.len()))
    }
}

pub fn run(arguments: &Arguments, printer: &mut Printer) -> Result<Outcome, Failure> {
    let list = arguments.labels.resolve()?;
    let chosen = arguments.protocol.resolve(&arguments.photos)?.map(Chosen::for_scores).transpose()?;
    let labels: Vec<String> = list.texts().map(str::to_owned).collect();
    let saved = arguments.saved();
    if (arguments.alpha.is_some() || arguments.contours) && !saved.contains(&Save::Overlay) {
        return Err(Failure::call(
            "--alpha and --contours are for the overlay, which --save leaves out; add overlay to it",
        ));
    }
    if arguments.heat_range.is_some() && !saved.contains(&Save::Heat) {
        return Err(Failure::call("--heat-range is for heat, which --save leaves out; add heat to it"));
    }
    if arguments.timings && chosen.as_ref().is_some_and(Chosen::has_windows) {
        return Err(Failure::call(
            "--timings shows the operations of one pass, and windows are many: leave one of them out",
        ));
    }
    if saved.contains(&Save::Probabilities) && chosen.as_ref().is_some_and(Chosen::has_windows) {
        return Err(Failure::call(
            "--save probabilities is of one pass, and windows are many: save confidence, or scores and take their softmax",
        ));
    }
    if arguments.photos.to_stdout() {
        printer.leave_stdout(arguments.quiet);
    }
    let colours = arguments.colours(&labels)?;
    let endings: Vec<String> = saved.iter().flat_map(|save| save.endings(&labels)).collect();
    let photos = arguments.photos.collect(&endings, arguments.quiet)?;
    if photos.is_empty() {
        return Ok(Outcome::Done);
    }
    let checkpoint = arguments.engine.open()?;
    arguments.photos.create_folder()?;

    let ready = || {
        let mut engine = arguments.engine.load(&checkpoint, arguments.quiet)?;
        arguments.photos.set_size(&mut engine)?;
        arguments.protocol.set(&mut engine)?;
        arguments.labels.set(&mut engine, &list, arguments.quiet)?;
        let mut matmul = arguments.timings.then(|| Matmul::new(&mut engine)).transpose()?;
        if let Some(matmul) = &mut matmul {
            matmul.rate(&mut engine)?;
        }
        engine.record_times(arguments.timings);
        let text = Some(engine.text_time());
        let chosen = chosen.as_ref();
        Ok(Session { engine, matmul, labels: &labels, colours: &colours, saved: &saved, text, chosen, arguments })
    };
    let mut sessions = Restartable::new(ready, arguments.quiet)?;
    let segment = |photo: &Photo| sessions.work(photo, Session::segment);
    batch::each(photos, arguments.quiet, printer, segment, Report::render)
}

/// What stays the same from photo to photo.
struct Session<'a> {
    engine: Engine,
    /// Where times are wanted, what they are held against.
    matmul: Option<Matmul>,
    labels: &'a [String],
    /// One a label.
    colours: &'a [[u8; 3]],
    saved: &'a [Save],
    /// What encoding the labels took; reported with the first photo, the others do not need it again.
    text: Option<Duration>,
    /// Where photos are not taken in one pass of the model's size.
    chosen: Option<&'a Chosen>,
    arguments: &'a Arguments,
}

impl Session<'_> {
    fn segment(&mut self, given: &Photo) -> crate::Result<Report> {
        let Opened { photo, decoding } = self.arguments.photos.open(given, &self.engine)?;
        let windows = self.chosen.filter(|chosen| chosen.has_windows());
        // Of windows they go to their file piece by piece.
        let made = self.saved.iter().filter(|save| windows.is_none() || save.output() != Output::Scores);
        let mut wanted = made.fold(Wanted::MASK, |all, save| all.and(save.output()));
        if wanted.has(Output::Overlay) {
            wanted = wanted.overlay(self.colours, self.arguments.alpha.unwrap_or_default());
        }
        if let Some(threshold) = self.arguments.threshold {
            wanted = wanted.threshold(threshold);
        }
        let size = (photo.height, photo.width);
        let (mut files, mut scores) = (Vec::new(), None);
        let mut results = match self.chosen {
            Some(chosen) if windows.is_some() && self.saved.iter().any(|save| save.output() == Output::Scores) => {
                let (results, file, written) = self.run_with_scores(given, photo, chosen, wanted)?;
                files.extend(written);
                scores = file;
                results
            }
            Some(chosen) => self.engine.run_whole(photo, &chosen.protocol, wanted, chosen.options)?,
            None => self.engine.run_photo(photo, wanted)?,
        };
        let heading = heading(given, size, &self.engine);
        let [height, width, _] = results.shape(Output::Mask).unwrap_or_default();
        let segmentation = Segmentation { width, height, mask: results.take_masks() };
        let operations = self.engine.timings();
        let rate = self.matmul.as_mut().map(|matmul| matmul.rate(&mut self.engine)).transpose()?;
        let timings = rate.map(|rate| Timings::new(rate, &operations));
        let mut shares = segmentation.shares(self.labels.len());
        let unlabelled = self.arguments.threshold.map(|_| segmentation.unlabelled());
        shares.extend(unlabelled);

        let start = Instant::now();
        files.extend(self.save(given, segmentation, results, scores.as_ref(), &shares)?);
        let saving = start.elapsed();

        let mut stages = vec![("decode", decoding)];
        stages.extend(self.text.take().map(|time| ("text", time)));
        stages.extend_from_slice(self.engine.stage_times());
        stages.push(("save", saving));
        let share = |(index, (label, share)): (usize, (&String, f64))| Share { index, label: label.clone(), share };
        let labels = self.labels.iter().zip(shares).enumerate().map(share).collect();
        let stages = stages.into_iter().map(StageTime::from).collect();
        let unlabelled = unlabelled.map(|share| Unlabelled { value: mask::unlabelled(self.labels.len()), share });
        let taken =
            self.chosen.map(|chosen| Taken { preset: chosen.name.clone(), mask_height: height, mask_width: width });
        Ok(Report { heading, taken, labels, unlabelled, stages, files, timings })
    }

    /// A photo in windows, whose scores are written meanwhile: to their result's file, or to one without a name. It
    /// comes back where pictures are made of them.
    fn run_with_scores(
        &mut self,
        given: &Photo,
        photo: decode::Photo,
        chosen: &Chosen,
        wanted: Wanted<'_>,
    ) -> crate::Result<(Results, Option<File>, Option<SavedFile>)> {
        let scores = WindowScores::new(chosen, &photo, self.labels.len())?;
        let bytes = scores.bytes();
        refuse_larger(given, bytes, self.arguments.max_output, "save best or confidence, give fewer labels")?;
        if !self.saved.contains(&Save::Scores) {
            let (results, file) = scores.run_unnamed(&mut self.engine, photo, wanted)?;
            return Ok((results, Some(file), None));
        }
        let path = self.arguments.photos.path(given, "scores.npy");
        if !self.arguments.quiet {
            say_size(given, bytes, &path);
        }
        let mut photo = Some(photo);
        let mut results = Results::default();
        write_pieces(&path, |out| {
            let photo = photo.take().expect("it is written once");
            results = scores.run(&mut self.engine, photo, wanted, out, &|e| Error::output(&path, e))?;
            Ok(())
        })?;
        let reopen = || File::open(&path).map_err(|e| Error::io("open", &path, e));
        let file = self.saved.contains(&Save::Heat).then(reopen).transpose()?;
        Ok((results, file, Some(SavedFile { kind: Save::Scores.kind(), index: None, path })))
    }

    fn save(
        &self,
        photo: &Photo,
        segmentation: Segmentation,
        mut results: Results,
        scores: Option<&File>,
        shares: &[f64],
    ) -> crate::Result<Vec<SavedFile>> {
        let mut files = Vec::new();
        let Segmentation { width, height, mask: mut values } = segmentation;
        let Arguments { photos, threshold, max_output, .. } = self.arguments;
        for &save in self.saved {
            let endings = save.endings(self.labels);
            let [ending, ..] = &*endings else { continue };
            let path = match save {
                Save::Mask => photos.write(photo, ending, |out| match threshold {
                    Some(_) => mask::write_unlabelled(out, &values, width, height, self.colours),
                    None => mask::write(out, &values, width, height, self.colours),
                })?,
                Save::Overlay => {
                    let mut tinted = decode::Photo { width, height, rgb: results.take_overlays() };
                    if self.arguments.contours {
                        contours::draw(&mut tinted, &values, self.colours);
                    }
                    if !self.saved.contains(&Save::Masks) {
                        // Nothing else reads it, and the legend needs room.
                        values = Vec::new();
                    }
                    let picture = Overlay::new(&tinted, self.labels, self.colours, shares)?;
                    photos.write(photo, ending, |out| picture.write(out))?
                }
                Save::Masks => {
                    let written = endings.par_iter().enumerate().map(|(label, ending)| {
                        let label = label as u16;
                        photos.write(photo, ending, |out| mask::write_binary(out, &values, width, height, label))
                    });
                    let paths = written.collect::<crate::Result<Vec<_>>>()?.into_iter().enumerate();
                    files.extend(paths.map(|(i, path)| SavedFile { kind: save.kind(), index: Some(i), path }));
                    continue;
                }
                Save::Heat => {
                    let Some(scores) = heat::Scores::of(&results, scores) else { continue };
                    let range = self.arguments.heat_range.unwrap_or_default();
                    // One after the other: each takes the memory of a photo.
                    for (label, ending) in endings.iter().enumerate() {
                        let picture = scores.heat(label, endings.len(), (height, width), range);
                        let picture = picture.map_err(|e| Error::io("read back the scores of", &photo.path, e))?;
                        let path = photos.write(photo, ending, |out| picture.write(out))?;
                        files.push(SavedFile { kind: save.kind(), index: Some(label), path });
                    }
                    continue;
                }
                Save::Confidence => {
                    let confidences = results.take_confidences();
                    photos.write(photo, ending, |out| mask::write_grey(out, &confidences, width, height))?
                }
                Save::Scores | Save::Probabilities | Save::Best => {
                    let output = save.output();
                    let Some((shape, values)) = results.shape(output).zip(results.values(output, 0)) else { continue };
                    let shape = if save == Save::Best { &shape[..2] } else { &shape[..] };
                    let ways = "save fewer kinds, give fewer labels or a smaller --size";
                    refuse_larger(photo, size_of_val(values) as u64, *max_output, ways)?;
                    photos.write(photo, ending, |out| npy::write(out, shape, values))?
                }
            };
            files.push(SavedFile { kind: save.kind(), index: None, path });
        }
        Ok(files)
    }
}

/// What is said about one photo.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    heading: Heading,
    /// Where photos are not taken in one pass of the model's size.
    #[serde(flatten)]
    taken: Option<Taken>,
    labels: Vec<Share>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unlabelled: Option<Unlabelled>,
    stages: Vec<StageTime>,
    files: Vec<SavedFile>,
    #[serde(flatten)]
    timings: Option<Timings>,
}

/// How a photo was taken.
#[derive(Serialize)]
struct Taken {
    preset: String,
    mask_height: usize,
    mask_width: usize,
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
        if let Some(Unlabelled { value, share }) = self.unlabelled {
            shares.row([percent(share), value.to_string(), "unlabelled".to_owned()]);
        }
        let timings = self.timings.as_ref().map(Timings::render).unwrap_or_default();
        let rest = render_stages_and_files(&self.stages, &self.files);
        let taken = self.taken.as_ref().map_or(String::new(), |Taken { preset, mask_height, mask_width }| {
            format!("  preset {preset}: a mask {mask_width} wide, {mask_height} high\n")
        });
        format!("{}{taken}{}\n{timings}{rest}", self.heading.render(), shares.render())
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
            labels: vec![share(0, "dog", 0.25), share(1, "cat", 0.0), share(2, "grass", 0.625)],
            taken: None,
            unlabelled: Some(Unlabelled { value: 255, share: 0.125 }),
            stages: vec![
                ("decode", Duration::from_micros(4_250)).into(),
                ("image", Duration::from_millis(1_200)).into(),
            ],
            files: vec![SavedFile { kind: "mask", index: None, path: "out/a.mask.png".into() }],
            timings: None,
        };
        let expected = "\
a.jpg: 640 wide, 480 high; network 480 wide, 352 high; cpu, 2 threads
   share  index  label
  62.5 %      2  grass
  25.0 %      0  dog
   0.0 %      1  cat
  12.5 %    255  unlabelled

  stage       ms
  decode     4.2
  image   1200.0
  total   1204.2

  out/a.mask.png

";
        assert_eq!(report.render(), expected);
    }
}
