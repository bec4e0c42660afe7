//! `embed`: the pixels' embeddings as arrays.

use std::io;
use std::path::PathBuf;
use std::time::Instant;

use crate::embedding::{self, At};
use crate::engine::{Engine, Resized};
use crate::image::npy::{self, Dtype};
use crate::pixels::Image;
use crate::points::Points;
use crate::{Embedding, Error};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::common::{EngineArguments, Opened, PhotoArguments, heading};
use super::photos::Photo;
use super::print::Printer;
use super::restart::Restartable;
use super::result::{Heading, SavedFile, StageTime, render_stages_and_files};
use super::{Failure, Outcome, batch};

/// Write each pixel's embedding: the vector that is compared with the labels'.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    photos: PhotoArguments,

    #[command(flatten)]
    engine: EngineArguments,

    /// The size of the map: half the network's, the network's (full), or the photo's
    #[arg(long, value_enum, default_value_t = AtName::Half, conflicts_with = "points", value_name = "SIZE")]
    at: AtName,

    /// Only at these points: a file with the header x,y and a point a line, in photo pixels, pixel 0's centre at 0
    #[arg(long, value_name = "CSV")]
    points: Option<PathBuf>,

    /// The element type of the file
    #[arg(long, value_enum, default_value_t = DtypeName::F32)]
    dtype: DtypeName,

    /// Bring every vector to length 1
    #[arg(long)]
    normalize: bool,

    /// No progress and no notes on stderr; errors remain
    #[arg(short, long)]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  lseg-fast embed photo.jpg --model lseg.safetensors
  lseg-fast embed photos/ --at photo --dtype f16 --normalize --model m.safetensors
  lseg-fast embed photo.jpg --points pixels.csv --model lseg.safetensors
  lseg-fast embed photos/ --recursive --skip-existing --model lseg.safetensors
  camera | lseg-fast embed - --out - --model lseg.safetensors > frame.npy

Writes, for photo.jpg, out/photo.embed.npy:
  [channels, height, width]  with --at half (the default), full or photo
  [points, channels]         with --points, in the order of the file";

/// The one result's ending.
const ENDING: &str = "embed.npy";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AtName {
    Half,
    Full,
    Photo,
}

impl AtName {
    /// Where it is not as computed.
    fn resized(self) -> Option<At> {
        match self {
            AtName::Half => None,
            AtName::Full => Some(At::Full),
            AtName::Photo => Some(At::Photo),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DtypeName {
    F16,
    F32,
}

pub fn run(arguments: &Arguments, printer: &mut Printer) -> Result<Outcome, Failure> {
    if arguments.photos.to_stdout() {
        printer.leave_stdout(arguments.quiet);
    }
    let photos = arguments.photos.collect(&[ENDING.to_owned()], arguments.quiet)?;
    if photos.is_empty() {
        return Ok(Outcome::Done);
    }
    let points = arguments.points.as_deref().map(Points::read).transpose()?;
    let checkpoint = arguments.engine.open()?;
    arguments.photos.create_folder()?;
    let ready = || {
        let mut engine = arguments.engine.load(&checkpoint, arguments.quiet)?;
        arguments.photos.set_size(&mut engine)?;
        Ok(Session { engine, points: points.as_ref(), arguments })
    };
    let mut sessions = Restartable::new(ready, arguments.quiet)?;
    let embed = |photo: &Photo| sessions.work(photo, Session::embed);
    batch::each(photos, arguments.quiet, printer, embed, Report::render)
}

/// What stays the same from photo to photo.
struct Session<'a> {
    engine: Engine,
    points: Option<&'a Points>,
    arguments: &'a Arguments,
}

impl Session<'_> {
    fn embed(&mut self, given: &Photo) -> crate::Result<Report> {
        let Opened { photo, decoding } = self.arguments.photos.open(given, &self.engine)?;
        let frame = Image::rgb8(photo.width, photo.height, &photo.rgb);
        let (dtype, normalise, channels) =
            (self.arguments.dtype(), self.arguments.normalize, self.engine.config().embed_dim);
        let made = match (&self.points, self.arguments.at.resized()) {
            (Some(points), _) => {
                points.check(photo.height, photo.width).map_err(|e| Error::photo(&given.path, e.to_string()))?;
                Made::Points(self.engine.embed_at(&frame, points.values())?)
            }
            (None, None) => Made::Map(self.engine.embed(&frame)?),
            (None, Some(at)) => Made::Resized(Box::new(self.engine.embed_resized(&frame, at, dtype, normalise)?)),
        };

        let start = Instant::now();
        let (path, shape) = match made {
            Made::Map(map) => self.arguments.save_map(given, &map)?,
            Made::Resized(resized) => self.arguments.save_resized(given, resized)?,
            Made::Points(samples) => self.arguments.save_points(given, samples, channels)?,
        };
        let saving = start.elapsed();
        let heading = heading(given, (photo.height, photo.width), &self.engine);

        let mut stages = vec![StageTime::from(("decode", decoding))];
        let computed = self.engine.stage_times().iter().filter(|(_, time)| !time.is_zero());
        stages.extend(computed.map(|stage| StageTime::from(*stage)));
        stages.push(("save", saving).into());
        Ok(Report {
            heading,
            at: if self.points.is_some() { "points" } else { self.arguments.at_name() },
            shape,
            dtype: match self.arguments.dtype {
                DtypeName::F16 => "float16",
                DtypeName::F32 => "float32",
            },
            normalized: self.arguments.normalize,
            stages,
            files: vec![SavedFile { kind: "embed", index: None, path }],
        })
    }
}

impl Arguments {
    /// Returns the file's path and the array's shape.
    fn save_map(&self, photo: &Photo, map: &Embedding) -> crate::Result<(PathBuf, Vec<usize>)> {
        if self.must_fit_f16() {
            refuse_beyond_f16(photo, map.beyond_f16())?;
        }
        let path = self.photos.write(photo, ENDING, |mut out| map.write(&mut out, self.dtype(), self.normalize))?;
        Ok((path, vec![map.channels, map.height, map.width]))
    }

    /// As [`Arguments::save_map`], of what the device resizes meanwhile.
    fn save_resized(&self, photo: &Photo, mut resized: Box<Resized<'_>>) -> crate::Result<(PathBuf, Vec<usize>)> {
        if self.must_fit_f16() {
            refuse_beyond_f16(photo, resized.beyond_f16())?;
        }
        let mut failed = None;
        let written = self.photos.write(photo, ENDING, |mut out| {
            resized.write(&mut out).unwrap_or_else(|error| {
                failed = Some(error);
                Err(io::Error::other("the embedding could not be computed"))
            })
        });
        // The device's own error says more than that nothing was written.
        let path = failed.map_or(written, Err)?;
        Ok((path, resized.shape().to_vec()))
    }

    /// Returns the file's path and the array's shape.
    fn save_points(
        &self,
        photo: &Photo,
        mut samples: Vec<f32>,
        channels: usize,
    ) -> crate::Result<(PathBuf, Vec<usize>)> {
        if self.normalize {
            embedding::normalise(&mut samples, channels);
        }
        let dtype = self.dtype();
        if dtype == Dtype::F16 {
            refuse_beyond_f16(photo, embedding::beyond_f16(&samples))?;
        }
        let shape = vec![samples.len() / channels, channels];
        let path = self.photos.write(photo, ENDING, |mut out| {
            npy::write_header(&mut out, dtype, &shape)?;
            npy::write_values(&mut out, dtype, &samples)
        })?;
        Ok((path, shape))
    }

    /// Whether values beyond float16 would be lost: what is normalised fits.
    fn must_fit_f16(&self) -> bool {
        self.dtype() == Dtype::F16 && !self.normalize
    }

    fn dtype(&self) -> Dtype {
        match self.dtype {
            DtypeName::F16 => Dtype::F16,
            DtypeName::F32 => Dtype::F32,
        }
    }

    fn at_name(&self) -> &'static str {
        match self.at {
            AtName::Half => "half",
            AtName::Full => "full",
            AtName::Photo => "photo",
        }
    }
}

/// What the engine made of a photo.
enum Made<'a> {
    Map(Embedding),
    Resized(Box<Resized<'a>>),
    /// `[points, channels]`
    Points(Vec<f32>),
}

fn refuse_beyond_f16(photo: &Photo, value: Option<f32>) -> crate::Result<()> {
    match value {
        Some(value) => Err(Error::photo(
            &photo.path,
            format!("its embedding has the value {value}, beyond float16's 65504; use --dtype f32 or --normalize"),
        )),
        None => Ok(()),
    }
}

/// What is said about one photo.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    heading: Heading,
    at: &'static str,
    shape: Vec<usize>,
    dtype: &'static str,
    normalized: bool,
    stages: Vec<StageTime>,
    files: Vec<SavedFile>,
}

impl Report {
    fn render(&self) -> String {
        let shape = self.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" × ");
        let normalized = if self.normalized { ", each vector of length 1" } else { "" };
        let what = format!("  {shape}, {}, at {}{normalized}\n\n", self.dtype, self.at);
        format!("{}{what}{}", self.heading.render(), render_stages_and_files(&self.stages, &self.files))
    }
}
