//! `embed`: the pixels' embeddings as arrays.

mod basis;
mod pca;
mod projection;
mod report;
mod resized;
mod whole;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::embedding::{self, At};
use crate::engine::{Engine, Resized};
use crate::feature_file::{Form, Kind, Order, Writer};
use crate::image::decode;
use crate::image::npy::{self, Dtype};
use crate::pixels::Image;
use crate::points::Points;
use crate::{Embedding, Error};
use bytesize::ByteSize;
use clap::{Args, ValueEnum};

use super::common::{EngineArguments, Opened, PhotoArguments, heading, refuse_larger, say_size};
use super::photos::Photo;
use super::print::Printer;
use super::protocol::{Chosen, ProtocolArguments};
use super::restart::Restartable;
use super::result::{SavedFile, StageTime};
use super::{Failure, Outcome, batch, message};
use pca::Grid;
use projection::{Finish, Projection};
use report::{Projected, Report};
use whole::{Ending, Map};

/// Write each pixel's embedding: the vector that is compared with the labels'.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    photos: PhotoArguments,

    #[command(flatten)]
    protocol: ProtocolArguments,

    #[command(flatten)]
    engine: EngineArguments,

    /// The size of the map: half the network's, the network's (full), or the photo's; a preset has one of its own [default: half]
    #[arg(long, value_enum, conflicts_with = "points", value_name = "SIZE")]
    at: Option<AtName>,

    /// Only at these points: a file with the header x,y and a point a line, in photo pixels, pixel 0's centre at 0
    #[arg(long, value_name = "CSV")]
    points: Option<PathBuf>,

    /// The element type of the file [default: f32, or the preset's]
    #[arg(long, value_enum)]
    dtype: Option<DtypeName>,

    /// The kind of file: NumPy's, safetensors with the tensor `features`, or one that torch.load opens [default: npy, or the preset's]
    #[arg(long, value_enum)]
    format: Option<FormatName>,

    /// The order of the dimensions: channels first, last, or first behind a batch of one [default: chw, or the preset's]
    #[arg(long, value_enum)]
    layout: Option<LayoutName>,

    /// Refuse to write a file larger than this
    #[arg(long, value_name = "SIZE", default_value = "4GiB")]
    max_output: ByteSize,

    /// Bring every vector to length 1, before it is projected
    #[arg(long)]
    normalize: bool,

    /// Write D channels in the place of the model's: the principal components of these photos' vectors
    ///
    /// Every photo is computed twice: for the basis, which is stored as pca.safetensors beside the results (for --project), and to be
    /// written. The basis is fitted to the pixels of an even grid on each photo's map, at most 16,384 of a photo.
    #[arg(long, value_name = "D", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "project")]
    pca: Option<u32>,

    /// Write vectors projected by a file: a pca.safetensors of --pca, or a .npy matrix [D, channels] whose rows are the axes
    #[arg(long, value_name = "FILE")]
    project: Option<PathBuf>,

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
  lseg-fast embed photos/ --preset openscene --model lseg.safetensors
  lseg-fast embed photo.jpg --preset vlmaps --format safetensors --model lseg.safetensors
  lseg-fast embed photos/ --pca 64 --model lseg.safetensors
  lseg-fast embed more/ --project out/pca.safetensors --model lseg.safetensors
  camera | lseg-fast embed - --out - --model lseg.safetensors > frame.npy

Writes, for photo.jpg, out/photo.embed.npy:
  [channels, height, width]  with --at half (the default), full or photo
  [points, channels]         with --points, in the order of the file
With a preset what its users read: photo.pt [channels, height, width] for openscene, photo_fmap_CxHxW.pt for feature3dgs,
photo.npy [1, channels, height, width] for vlmaps, photo.pt for lseg-minimal and lsm; else photo.embed.npy.
With --pca D or --project the channels are the projection's.";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AtName {
    Half,
    Full,
    Photo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormatName {
    Npy,
    Safetensors,
    Pt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LayoutName {
    Chw,
    Hwc,
    Nchw,
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

    fn name(self) -> &'static str {
        match self {
            AtName::Half => "half",
            AtName::Full => "full",
            AtName::Photo => "photo",
        }
    }
}

impl FormatName {
    fn kind(self) -> Kind {
        match self {
            FormatName::Npy => Kind::Npy,
            FormatName::Safetensors => Kind::Safetensors,
            FormatName::Pt => Kind::Pt,
        }
    }
}

impl LayoutName {
    fn order(self) -> Order {
        match self {
            LayoutName::Chw => Order::Chw,
            LayoutName::Hwc => Order::Hwc,
            LayoutName::Nchw => Order::Nchw,
        }
    }
}

impl DtypeName {
    fn dtype(self) -> Dtype {
        match self {
            DtypeName::F16 => Dtype::F16,
            DtypeName::F32 => Dtype::F32,
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
    let chosen = arguments.protocol.resolve(&arguments.photos)?;
    let file = arguments.file(chosen.as_ref())?;
    arguments.check_projected()?;
    let ending = file.ending.text(file.form.kind, None);
    let photos = arguments.photos.collect(std::slice::from_ref(&ending), arguments.quiet)?;
    if photos.is_empty() {
        return Ok(Outcome::Done);
    }
    let points = arguments.points.as_deref().map(Points::read).transpose()?;
    let given = arguments.project.as_deref().map(Projection::read).transpose()?;
    if arguments.pca.is_some() {
        arguments.check_twice(&photos, &ending)?;
    }
    let checkpoint = arguments.engine.open()?;
    let origin = arguments.origin(&checkpoint, chosen.as_ref());
    arguments.photos.create_folder()?;
    let ready = || {
        let mut engine = arguments.engine.load(&checkpoint, arguments.quiet)?;
        arguments.check_channels(given.as_ref(), engine.config().embed_dim)?;
        arguments.photos.set_size(&mut engine)?;
        arguments.protocol.set(&mut engine)?;
        Ok(Session { engine, points: points.as_ref(), chosen: chosen.as_ref(), file, arguments })
    };
    let mut sessions = Restartable::new(ready, arguments.quiet)?;
    let fitted = match arguments.pca {
        Some(count) => Some(basis::fit(arguments, count as usize, &photos, &mut sessions, printer, &origin)?),
        None => None,
    };
    let projection = fitted.as_ref().or(given.as_ref());
    if let Some(note) = projection.and_then(|projection| projection.differs(&origin)).filter(|_| !arguments.quiet) {
        message::note(note);
    }
    let finish = Finish { normalise: arguments.normalize, projection };
    let embed = |photo: &Photo| sessions.work(photo, |session, photo| session.embed(photo, finish));
    batch::each(photos, arguments.quiet, printer, embed, Report::render)
}

/// What stays the same from photo to photo.
struct Session<'a> {
    engine: Engine,
    points: Option<&'a Points>,
    /// Where photos are not taken in one pass of the model's size.
    chosen: Option<&'a Chosen>,
    file: File,
    arguments: &'a Arguments,
}

impl Session<'_> {
    fn embed(&mut self, given: &Photo, finish: Finish<'_>) -> crate::Result<Report> {
        let Opened { photo, decoding } = self.open(given)?;
        let size = (photo.height, photo.width);
        let Made { path, shape, saving } = match self.chosen {
            Some(chosen) => self.whole(given, photo, chosen, finish)?,
            None => self.native(given, &Image::rgb8(photo.width, photo.height, &photo.rgb), finish)?,
        };
        let heading = heading(given, size, &self.engine);

        let mut stages = vec![StageTime::from(("decode", decoding))];
        let computed = self.engine.stage_times().iter().filter(|(_, time)| !time.is_zero());
        stages.extend(computed.map(|stage| StageTime::from(*stage)));
        stages.push(("save", saving).into());
        let at = self.chosen.map_or(self.arguments.at().name(), whole::at_name);
        Ok(Report {
            heading,
            preset: self.chosen.map(|chosen| chosen.name.clone()),
            at: if self.points.is_some() { "points" } else { at },
            shape,
            channels: finish.channels(self.engine.config().embed_dim),
            dtype: if self.file.form.dtype == Dtype::F16 { "float16" } else { "float32" },
            normalized: self.arguments.normalize,
            projection: finish.projection.map(Projected::from),
            stages,
            files: vec![SavedFile { kind: "embed", index: None, path }],
        })
    }

    fn open(&self, given: &Photo) -> crate::Result<Opened> {
        let opened = self.arguments.photos.open(given, &self.engine)?;
        if let Some(points) = self.points {
            let checked = points.check(opened.photo.height, opened.photo.width);
            checked.map_err(|e| Error::photo(&given.path, e.to_string()))?;
        }
        Ok(opened)
    }

    /// Vectors on an even grid of the photo's map, `[n, channels]`, as they will be projected on so many; and their channels.
    fn sample(&mut self, given: &Photo, components: usize) -> crate::Result<(Vec<f32>, usize)> {
        let photo = self.open(given)?.photo;
        let Session { engine, file, chosen, points, arguments } = self;
        let channels = engine.config().embed_dim;
        let mut picked = Vec::new();
        if let Some(chosen) = chosen {
            let mut map = Map::of(engine, photo, chosen, Dtype::F32)?;
            if points.is_none() {
                arguments.refuse_larger_whole(given, file.form.bytes(components, map.size()))?;
            }
            let grid = Grid::of(map.size());
            map.each(Dtype::F32, &mut |rows, columns, values| {
                grid.pick(rows, columns, values, channels, &mut picked);
                Ok(())
            })?;
        } else {
            let map = engine.embed(&Image::rgb8(photo.width, photo.height, &photo.rgb))?;
            Grid::of((map.height, map.width)).pick(0..map.height, 0..map.width, &map.data, channels, &mut picked);
        }
        let before = Finish { normalise: arguments.normalize, projection: None };
        Ok((before.of(picked, channels), channels))
    }

    /// One pass at the model's size, or the one that was asked for.
    fn native(&mut self, given: &Photo, frame: &Image<'_>, finish: Finish<'_>) -> crate::Result<Made> {
        let Session { engine, points, file, arguments, .. } = self;
        let (dtype, normalise, channels) = (file.form.dtype, arguments.normalize, engine.config().embed_dim);
        match (points, arguments.at().resized()) {
            (Some(points), _) => {
                let samples = engine.embed_at(frame, points.values())?;
                arguments.save_points(given, file, samples, channels, finish)
            }
            (None, None) => arguments.save_map(given, file, engine.embed(frame)?, finish),
            (None, Some(at)) if finish.projection.is_some() => {
                let map = engine.embed(frame)?;
                let size =
                    if at == At::Full { (2 * map.height, 2 * map.width) } else { (frame.height(), frame.width()) };
                arguments.save_projected(given, file, map, size, finish)
            }
            (None, Some(at)) => {
                arguments.save_resized(given, file, Box::new(engine.embed_resized(frame, at, dtype, normalise)?))
            }
        }
    }

    /// As a protocol says.
    fn whole(
        &mut self,
        given: &Photo,
        photo: decode::Photo,
        chosen: &Chosen,
        finish: Finish<'_>,
    ) -> crate::Result<Made> {
        let Session { engine, points, file, arguments, .. } = self;
        let (size, start) = ((photo.height, photo.width), Instant::now());
        // What is made of vectors is made in float32.
        let in_f32 = finish.normalise || finish.projection.is_some() || points.is_some();
        let dtype = if in_f32 { Dtype::F32 } else { file.form.dtype };
        let mut map = Map::of(engine, photo, chosen, dtype)?;
        if let Some(points) = points {
            let (samples, channels) = (map.at_points(points.values(), size)?, map.channels());
            return arguments.save_points(given, file, samples, channels, finish);
        }
        let channels = finish.channels(map.channels());
        let (height, width) = map.size();
        let bytes = file.form.bytes(channels, (height, width));
        arguments.refuse_larger_whole(given, bytes)?;
        let ending = file.ending.text(file.form.kind, Some((channels, height, width)));
        let path = arguments.photos.path(given, &ending);
        arguments.say_size(given, bytes, &path);
        map.write(&given.path, &path, file.form, dtype, finish)?;
        drop(map);
        // It was computed meanwhile.
        let computed = engine.stage_times().iter().map(|(_, time)| *time).sum();
        let saving = start.elapsed().saturating_sub(computed);
        Ok(Made { path, shape: file.form.shape(channels, (height, width)), saving })
    }
}

/// A map of what becomes of its vectors.
fn finished(map: Embedding, finish: Finish<'_>) -> Embedding {
    let Embedding { channels, height, width, data } = map;
    Embedding { channels: finish.channels(channels), height, width, data: finish.of(data, channels) }
}

/// What is written for a photo.
#[derive(Clone, Copy)]
struct File {
    form: Form,
    ending: Ending,
}

/// A file that was written: the array's shape, and how long that took.
struct Made {
    path: PathBuf,
    shape: Vec<usize>,
    saving: Duration,
}

impl Arguments {
    /// The file's form: what was asked for, or what the preset's users read.
    fn file(&self, chosen: Option<&Chosen>) -> Result<File, Failure> {
        let (own, ending) = whole::own_form(chosen);
        let form = Form {
            kind: self.format.map_or(own.kind, FormatName::kind),
            order: self.layout.map_or(own.order, LayoutName::order),
            dtype: self.dtype.map_or(own.dtype, DtypeName::dtype),
        };
        let is_plain = form.kind == Kind::Npy && form.order == Order::Chw;
        if let Some(chosen) = chosen.filter(|_| self.at.is_some()) {
            return Err(Failure::call(format!("--preset {} has a size of its own: leave --at out", chosen.name)));
        }
        if !is_plain && self.at().resized().is_some() {
            return Err(Failure::call(
                "--at full and photo are written as .npy with channels first: leave --format and --layout out, or --at",
            ));
        }
        if self.points.is_some() && (self.format.is_some_and(|kind| kind != FormatName::Npy) || self.layout.is_some()) {
            return Err(Failure::call("--points writes [points, channels] as .npy: leave --format and --layout out"));
        }
        let points = Form { kind: Kind::Npy, ..form };
        let (form, ending) = if self.points.is_some() { (points, Ending::Embed) } else { (form, ending) };
        if ending == Ending::Sized && self.photos.skips_existing() {
            return Err(Failure::call(
                "--skip-existing cannot tell files whose names have a size in them: leave it out with this preset",
            ));
        }
        Ok(File { form, ending })
    }

    fn save_map(&self, photo: &Photo, file: &File, map: Embedding, finish: Finish<'_>) -> crate::Result<Made> {
        let start = Instant::now();
        let map = finished(map, finish);
        let (form, size) = (file.form, (map.height, map.width));
        if form.dtype == Dtype::F16 {
            refuse_beyond_f16(&photo.path, map.beyond_f16())?;
        }
        self.refuse_larger(photo, form.bytes(map.channels, size))?;
        let ending = file.ending.text(form.kind, None);
        let path = if form.kind == Kind::Npy && form.order == Order::Chw {
            self.photos.write(photo, &ending, |mut out| map.write(&mut out, form.dtype, false))?
        } else {
            let mut bytes = io::Cursor::new(Vec::new());
            Writer::new(&mut bytes, form, map.channels, size, false)
                .and_then(|mut writer| {
                    writer.put(0..map.height, 0..map.width, &map.data)?;
                    writer.end()
                })
                .map_err(|e| Error::photo(&photo.path, e.to_string()))?;
            self.photos.write(photo, &ending, |out| out.write_all(bytes.get_ref()))?
        };
        Ok(Made { path, shape: form.shape(map.channels, size), saving: start.elapsed() })
    }

    /// As [`Arguments::save_map`], at another (height, width).
    fn save_projected(
        &self,
        photo: &Photo,
        file: &File,
        map: Embedding,
        size: (usize, usize),
        finish: Finish<'_>,
    ) -> crate::Result<Made> {
        let start = Instant::now();
        let map = finished(map, finish);
        let (dtype, channels) = (file.form.dtype, map.channels);
        // Resizing only averages.
        if dtype == Dtype::F16 {
            refuse_beyond_f16(&photo.path, map.beyond_f16())?;
        }
        self.refuse_larger(photo, file.form.bytes(channels, size))?;
        let ending = file.ending.text(file.form.kind, None);
        let path = self.photos.write(photo, &ending, |mut out| resized::write(&map, size, dtype, &mut out))?;
        Ok(Made { path, shape: vec![channels, size.0, size.1], saving: start.elapsed() })
    }

    /// As [`Arguments::save_map`], of what the device resizes meanwhile.
    fn save_resized(&self, photo: &Photo, file: &File, mut resized: Box<Resized<'_>>) -> crate::Result<Made> {
        let start = Instant::now();
        // What is normalised fits.
        if file.form.dtype == Dtype::F16 && !self.normalize {
            refuse_beyond_f16(&photo.path, resized.beyond_f16())?;
        }
        let [channels, height, width] = resized.shape();
        self.refuse_larger(photo, file.form.bytes(channels, (height, width)))?;
        let mut failed = None;
        let written = self.photos.write(photo, &file.ending.text(file.form.kind, None), |mut out| {
            resized.write(&mut out).unwrap_or_else(|error| {
                failed = Some(error);
                Err(io::Error::other("the embedding could not be computed"))
            })
        });
        // The device's own error says more than that nothing was written.
        let path = failed.map_or(written, Err)?;
        Ok(Made { path, shape: resized.shape().to_vec(), saving: start.elapsed() })
    }

    fn save_points(
        &self,
        photo: &Photo,
        file: &File,
        samples: Vec<f32>,
        channels: usize,
        finish: Finish<'_>,
    ) -> crate::Result<Made> {
        let start = Instant::now();
        let (samples, channels) = (finish.of(samples, channels), finish.channels(channels));
        let dtype = file.form.dtype;
        if dtype == Dtype::F16 {
            refuse_beyond_f16(&photo.path, embedding::beyond_f16(&samples))?;
        }
        let shape = vec![samples.len() / channels, channels];
        let path = self.photos.write(photo, &file.ending.text(Kind::Npy, None), |mut out| {
            npy::write_header(&mut out, dtype, &shape)?;
            npy::write_values(&mut out, dtype, &samples)
        })?;
        Ok(Made { path, shape, saving: start.elapsed() })
    }

    fn refuse_larger(&self, photo: &Photo, bytes: u64) -> crate::Result<()> {
        refuse_larger(
            photo,
            bytes,
            self.max_output,
            "pass --pca D for fewer channels, --dtype f16, --at half or --points",
        )
    }

    fn refuse_larger_whole(&self, photo: &Photo, bytes: u64) -> crate::Result<()> {
        let ways = "pass --pca D for fewer channels, --dtype f16, --points, or a preset with a smaller map";
        refuse_larger(photo, bytes, self.max_output, ways)
    }

    fn say_size(&self, photo: &Photo, bytes: u64, path: &Path) {
        if !self.quiet {
            say_size(photo, bytes, path);
        }
    }

    fn at(&self) -> AtName {
        self.at.unwrap_or(AtName::Half)
    }
}

fn refuse_beyond_f16(photo: &Path, value: Option<f32>) -> crate::Result<()> {
    match value {
        Some(value) => Err(Error::photo(
            photo,
            format!("its embedding has the value {value}, beyond float16's 65504; use --dtype f32 or --normalize"),
        )),
        None => Ok(()),
    }
}
