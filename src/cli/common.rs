//! Arguments that several subcommands share.

use std::io::{self, BufWriter, IsTerminal, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Error;
use crate::atomic_file::{Durability, WriteSeek, create_folder, write_atomically, write_whole};
use crate::checkpoint::Checkpoint;
use crate::demo;
use crate::device::cpu;
use crate::engine::{self, Alpha, DeviceChoice, Engine, LabelOptions, Options, TemplateList, Threshold};
use crate::image::decode::{self, DEFAULT_MAX_PIXELS, decode_asking, decode_from_asking};
use crate::labels::{self, List};
use crate::model::config::Config;
use crate::model::detect::{HeadBlockOverride, detect};
use crate::protocol::Size;
use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;

use super::batch::progress_bar;
use super::photos::{Photo, STANDARD};
use super::result::{Heading, shown};
use super::{Failure, message, photos};

/// Texts whose way through the text tower is worth a progress bar: some seconds of a large model's.
const MANY_TEXTS: usize = 256;

/// A weight of colours.
pub fn alpha(text: &str) -> Result<Alpha, String> {
    text.parse().ok().and_then(Alpha::new).ok_or_else(|| "expected a number from 0 to 1, such as 0.3".to_owned())
}

/// A confidence.
pub fn threshold(text: &str) -> Result<Threshold, String> {
    text.parse().ok().and_then(Threshold::new).ok_or_else(|| "expected a number from 0 to 1, such as 0.5".to_owned())
}

/// Which words are looked for.
#[derive(Args)]
pub struct LabelArguments {
    /// The labels, split at commas ("dog,tall grass,other"), or @FILE with one a line
    ///
    /// Double quotes around a label keep its commas: --labels '"tall grass, dry",dog'. A line end parts labels as a comma
    /// does, and of several lines those that start with # are comments. A label that starts with @ goes in a file.
    ///
    /// In a file, a line in double quotes is one label whatever is in it, and empty lines at the end are passed over.
    /// Tables and numbered lists are refused, but for LSeg's own (numbers in all columns but the last), whose last column
    /// is read.
    #[arg(long, value_name = "WORDS|@FILE")]
    labels: String,

    /// A label for what fits no other, appended unless the last one is it
    #[arg(long, value_name = "WORD")]
    other: Option<String>,

    #[command(flatten)]
    text: TextArguments,
}

/// How labels become embeddings.
#[derive(Args)]
pub struct TextArguments {
    /// A text around each label, with {} in its place, such as "a photo of a {}"; repeat it for the mean of several
    #[arg(long = "template", value_name = "TEXT")]
    templates: Vec<String>,

    /// A list of templates: clip80, vlmaps63 (whose means keep their length), openscene, none, or @FILE with one a line
    #[arg(long = "templates", value_name = "NAME|@FILE", conflicts_with = "templates")]
    template_list: Option<String>,

    /// What to do with labels of more tokens than the model reads
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    long_labels: LongLabels,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum LongLabels {
    /// End with an error
    #[default]
    Refuse,
    /// Read only their beginning, as CLIP's tokenize(text, truncate=True) does, and say so
    Cut,
}

impl LabelArguments {
    pub fn resolve(&self) -> Result<List, Failure> {
        let list = labels::parse(&self.labels)?;
        Ok(match &self.other {
            Some(word) => list.ending_with(word)?,
            None => list,
        })
    }

    /// As [`TextArguments::set`].
    pub fn set(&self, engine: &mut Engine, list: &List, quiet: bool) -> crate::Result<()> {
        self.text.set(engine, list, quiet)
    }

    /// As [`TextArguments::templates`].
    pub fn templates(&self) -> crate::Result<Vec<String>> {
        self.text.templates()
    }
}

impl TextArguments {
    /// Puts the labels, in their templates, on the engine; what was done to them is said on stderr unless `quiet`.
    pub fn set(&self, engine: &mut Engine, list: &List, quiet: bool) -> crate::Result<()> {
        let LabelOptions { templates, keeps_length, spares_last, long_labels } = self.label_options()?;
        engine.set_template_list(&TemplateList { templates, keeps_length, spares_last })?;
        engine.set_long_labels(long_labels);
        let mut bar: Option<ProgressBar> = None;
        let set = engine.set_list_watched(list, &mut |done, of| {
            if of >= MANY_TEXTS {
                bar.get_or_insert_with(|| progress_bar(of, quiet).with_message("labels")).set_position(done as u64);
            }
        });
        bar.iter().for_each(ProgressBar::finish_and_clear);
        set?;
        if !quiet {
            list.note().into_iter().for_each(message::note);
            engine.label_notes().iter().for_each(message::note);
        }
        Ok(())
    }

    /// How words become labels.
    pub fn label_options(&self) -> crate::Result<LabelOptions> {
        let TemplateList { templates, keeps_length, spares_last } = match &self.template_list {
            Some(name) => TemplateList::named(name)?,
            None => TemplateList { templates: self.templates.clone(), ..TemplateList::default() },
        };
        let long_labels = match self.long_labels {
            LongLabels::Refuse => engine::LongLabels::Refuse,
            LongLabels::Cut => engine::LongLabels::Cut,
        };
        Ok(LabelOptions { templates, keeps_length, spares_last, long_labels })
    }

    /// The list that is named.
    pub fn list_name(&self) -> String {
        self.template_list.clone().unwrap_or_else(|| "none".to_owned())
    }

    /// Those of the list that is named, or that are given.
    pub fn templates(&self) -> crate::Result<Vec<String>> {
        let list = self.template_list.as_deref().map(TemplateList::named).transpose()?;
        Ok(list.map_or_else(|| self.templates.clone(), |list| list.templates))
    }
}

/// Which photos, how large the network sees them, and where results go.
#[derive(Args)]
pub struct PhotoArguments {
    /// Photos, folders of photos, or - for a photo from standard input
    ///
    /// Of a folder, all files that are pictures by their ending or their content are taken, but no hidden ones.
    #[arg(required = true, value_name = "PHOTO|DIR|-")]
    photos: Vec<PathBuf>,

    /// Folder for the results, created where it is missing; or - for standard output, which takes one result of one photo
    #[arg(long, default_value = "out", value_name = "DIR|-")]
    out: PathBuf,

    /// Go into the folders of folders too; the results' folder gets the same tree
    #[arg(short, long)]
    recursive: bool,

    /// Pass over photos that have all their results already
    #[arg(long)]
    skip_existing: bool,

    /// The network's size: native (the photo's own), HEIGHTxWIDTH, or long:L (longer side L) [default: the model's]
    ///
    /// Both sides are rounded to the nearest multiple of 32.
    #[arg(long, value_name = "SIZE")]
    size: Option<Size>,

    /// Refuse photos of more pixels than this
    #[arg(long, default_value_t = DEFAULT_MAX_PIXELS, value_name = "N")]
    max_pixels: u64,
}

/// A decoded photo.
pub struct Opened {
    pub photo: decode::Photo,
    pub decoding: Duration,
}

impl PhotoArguments {
    /// The photos that are to be done, once it is sure that no result, with these `endings`, would replace one of them. What
    /// is passed over is said on stderr unless `quiet`.
    pub fn collect(&self, endings: &[String], quiet: bool) -> Result<Vec<Photo>, Failure> {
        if self.to_stdout() {
            self.check_stdout(endings)?;
        }
        let mut found = photos::collect(&self.photos, self.recursive)?;
        if !self.to_stdout() {
            photos::refuse_overwriting(&found.photos, &self.out, endings)?;
        }
        if self.skip_existing {
            let before = found.photos.len();
            // A fault is told, whatever earlier runs have left.
            let is_done = |photo: &Photo| endings.iter().all(|ending| photo.result(&self.out, ending).is_file());
            found.photos.retain(|photo| photo.fault.is_some() || !is_done(photo));
            let skipped = before - found.photos.len();
            found.notes.push(format!("{skipped} of {before} photos have their results already"));
        }
        if !quiet {
            found.notes.iter().for_each(message::note);
        }
        Ok(found.photos)
    }

    /// Whether the result goes to standard output.
    pub fn to_stdout(&self) -> bool {
        self.out == Path::new(STANDARD)
    }

    fn check_stdout(&self, endings: &[String]) -> Result<(), Failure> {
        let refused = |what: String| Err(Failure::call(format!("--out - writes one result of one photo: {what}")));
        match &*self.photos {
            [photo] if photo.is_dir() => return refused(format!("{} is a folder", photo.display())),
            [_] => {}
            photos => return refused(format!("{} photos are given", photos.len())),
        }
        if endings.len() != 1 {
            return refused(format!(
                "{} results are asked for ({}); choose one by --save",
                endings.len(),
                endings.join(", ")
            ));
        }
        refuse_terminal()
    }

    /// Where a photo's result with this `ending` goes.
    pub fn path(&self, photo: &Photo, ending: &str) -> PathBuf {
        if self.to_stdout() { STANDARD.into() } else { photo.result(&self.out, ending) }
    }

    /// Where a file of all photos goes.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }

    /// Writes a photo's result with this `ending`, whole or not at all where it is a file. Returns its path.
    pub fn write(
        &self,
        photo: &Photo,
        ending: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> crate::Result<PathBuf> {
        let path = self.path(photo, ending);
        write_result(&path, write)?;
        Ok(path)
    }

    pub fn create_folder(&self) -> Result<(), Failure> {
        if self.to_stdout() { Ok(()) } else { Ok(create_folder(&self.out)?) }
    }

    /// Whether photos that have results are passed over.
    pub fn skips_existing(&self) -> bool {
        self.skip_existing
    }

    /// Whether a size was asked for.
    pub fn has_size(&self) -> bool {
        self.size.is_some()
    }

    /// The size asked for, put on the engine; or whether the model's own will do.
    pub fn set_size(&self, engine: &mut Engine) -> Result<(), Failure> {
        match self.size {
            Some(size) => engine.set_size(size),
            None => drop(own_size(engine.config())?),
        }
        Ok(())
    }

    pub fn open(&self, photo: &Photo, engine: &Engine) -> crate::Result<Opened> {
        let start = Instant::now();
        let budget = engine.memory();
        let ask = |bytes| budget.ask_photo(bytes);
        let photo = if photo.is_stdin() {
            decode_from_asking("standard input".as_ref(), io::stdin().lock(), self.max_pixels, &ask)?
        } else {
            decode_asking(&photo.path, self.max_pixels, &ask)?
        };
        Ok(Opened { photo, decoding: start.elapsed() })
    }
}

/// What is said of a photo of this (height, width) that the engine has just seen.
pub fn heading(photo: &Photo, (height, width): (usize, usize), engine: &Engine) -> Heading {
    let ((network_height, network_width), device) = (engine.lane().network_size(), engine.device().to_owned());
    Heading { photo: photo.path.clone(), height, width, network_height, network_width, device }
}

/// An error where a result would go to a terminal, which shows no arrays and pictures.
pub fn refuse_terminal() -> Result<(), Failure> {
    if io::stdout().is_terminal() {
        return Err(Failure::call("--out -: standard output is a terminal; send it to a file or program (… > result)"));
    }
    Ok(())
}

/// As [`write_result`], of what comes in pieces in any order: on their way to standard output a file without a name has them.
pub fn write_pieces(path: &Path, mut write: impl FnMut(&mut dyn WriteSeek) -> crate::Result<()>) -> crate::Result<()> {
    if path != Path::new(STANDARD) {
        return write_whole(path, Durability::Renamed, write);
    }
    let failed = |e| Error::io("write to", "standard output".as_ref(), e);
    let mut file = tempfile::tempfile().map_err(failed)?;
    write(&mut file)?;
    file.rewind().map_err(failed)?;
    let mut out = io::stdout().lock();
    io::copy(&mut file, &mut out).and_then(|_| out.flush()).map_err(failed)
}

/// An error where a photo's result would be larger than is allowed; `ways` are ways out.
pub fn refuse_larger(photo: &Photo, bytes: u64, most: ByteSize, ways: &str) -> crate::Result<()> {
    if bytes <= most.as_u64() {
        return Ok(());
    }
    let [bytes, most] = [bytes, most.as_u64()].map(|bytes| bytes as f64 / f64::from(1 << 30));
    let what = format!("its file would have {bytes:.2} GiB, and --max-output allows {most:.2}: {ways}, or allow more");
    Err(Error::photo(&photo.path, what))
}

/// A large file's size, before it is written.
pub fn say_size(photo: &Photo, bytes: u64, path: &Path) {
    const LARGE: u64 = 64 << 20;
    if bytes >= LARGE {
        message::note(format!("{}: writing {} MiB to {}", shown(&photo.path), bytes >> 20, shown(path)));
    }
}

/// Writes a result: a whole file or none, or for the path `-` to standard output.
pub fn write_result(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> crate::Result<()> {
    if path != Path::new(STANDARD) {
        return write_atomically(path, Durability::Renamed, write);
    }
    let mut out = BufWriter::new(io::stdout().lock());
    let written = write(&mut out).and_then(|()| out.flush());
    written.map_err(|e| Error::io("write to", "standard output".as_ref(), e))
}

/// Which model runs, and on what.
#[derive(Args)]
pub struct EngineArguments {
    /// A model made by `lseg-fast convert`, or a published checkpoint [default: the small demo model in this program]
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,

    /// Where to compute: auto, cpu, cuda or cuda:N; auto takes a GPU where one works, else the CPU
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    device: DeviceChoice,

    /// The most memory to take, of this machine's and again of a GPU's, such as 2G, 500M or 1.5GiB [default: three quarters of
    /// what is free]
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    max_memory: Option<u64>,

    /// CPU threads, at most four a core [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// How long a GPU may take for one photo before it counts as lost [default: as long as it likes]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.filter(|time| !time.is_zero()).ok_or_else(|| "expected seconds above 0, such as 5 or 0.5".to_owned())
}

impl EngineArguments {
    /// Loads the opened model; why `auto` fell back to the CPU is said on stderr unless `quiet`.
    pub fn load(&self, checkpoint: &Checkpoint, quiet: bool) -> Result<Engine, Failure> {
        let engine = Engine::from_checkpoint(checkpoint, &self.options())?;
        if !quiet {
            self.notes(engine.note()).for_each(message::note);
        }
        Ok(engine)
    }

    /// How a network is loaded.
    pub fn options(&self) -> Options {
        Options {
            device: self.device,
            threads: self.threads.map(usize::from),
            memory: self.max_memory,
            timeout: self.timeout,
            ..Options::default()
        }
    }

    /// What is said of the model that was loaded, and what it says of itself.
    pub fn notes<'a>(&self, own: Option<&'a str>) -> impl Iterator<Item = &'a str> {
        let demo = "the embedded demo model knows clip art only; --model names another (lseg-fast info)";
        self.model.is_none().then_some(demo).into_iter().chain(own)
    }

    /// What to call the model: its file's name.
    #[cfg(feature = "serve")]
    pub fn name(&self) -> String {
        let file = self.model.as_deref().and_then(Path::file_name);
        file.map_or_else(|| demo::NAME.to_owned(), |name| name.to_string_lossy().into_owned())
    }

    /// The model, its weights not yet read. To be called once.
    pub fn open(&self) -> Result<Checkpoint, Failure> {
        cpu::make_shared_pool()?;
        Ok(open(self.model.as_deref())?)
    }
}

/// Bytes.
fn memory(text: &str) -> Result<u64, String> {
    let bytes: Result<ByteSize, _> = text.parse();
    bytes.map(|bytes| bytes.as_u64()).map_err(|_| "expected a number of bytes such as 2G, 500M or 1.5GiB".to_owned())
}

/// The size that a model says, where no other is asked for.
pub fn own_size(config: &Config) -> Result<Size, Failure> {
    let size: Size = config.default_size.parse()?;
    if size != Size::Native {
        size.models_network_size(1, 1)?;
    }
    Ok(size)
}

/// The model of a file, or the one in the program.
pub fn open(model: Option<&Path>) -> crate::Result<Checkpoint> {
    model.map_or_else(demo::checkpoint, Checkpoint::open)
}

/// A model's configuration, without loading its weights.
pub fn read_config(model: Option<&Path>) -> crate::Result<(Checkpoint, Config)> {
    let checkpoint = open(model)?;
    let config = detect(&checkpoint, &HeadBlockOverride::default())?;
    Ok((checkpoint, config))
}
