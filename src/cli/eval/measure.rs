//! Photo after photo: read, segmented (or its prediction taken), counted.

use std::path::Path;
use std::thread;

use flate2::Crc;
use serde::Serialize;

use super::Arguments;
use super::ahead::{Opened, Reader, Seen};
use super::saved::Saved;
use crate::checkpoint::Checkpoint;
use crate::cli::batch::{progress_bar, stops};
use crate::cli::common::{own_size, write_result};
use crate::cli::print::Printer;
use crate::cli::protocol::Chosen;
use crate::cli::{Failure, Outcome, message};
use crate::engine::Engine;
use crate::eval::confusion::Confusion;
use crate::eval::count::count;
use crate::eval::dataset::{Dataset, Item};
use crate::eval::segment::{Mask, segment};
use crate::eval::state::{Setup, Shard, State};
use crate::image::mask;
use crate::image::palette::palette;
use crate::memory::Budget;
use crate::printable::printable;
use crate::{checksum, labels};

pub fn run(arguments: &Arguments, printer: &mut Printer) -> Result<Outcome, Failure> {
    let chosen = arguments.protocol.beside(arguments.size.is_some())?.map(Chosen::for_scores).transpose()?;
    let chosen = chosen.as_ref();
    let dataset = arguments.data.read()?;
    if arguments.data.list {
        return list(&dataset, printer);
    }
    arguments.output.check(dataset.lists[0].words.len())?;
    let checkpoint = match &arguments.predictions {
        Some(_) => None,
        None => Some(arguments.engine.open()?),
    };
    let state = begin(arguments, &dataset, checkpoint.as_ref(), chosen)?;
    let mut saved = Saved::new(state, arguments.state.as_deref());
    if !saved.state().is_complete() {
        let engine = checkpoint.as_ref().map(|checkpoint| engine(arguments, checkpoint)).transpose()?;
        let measured = measure(arguments, &dataset, (engine, chosen), &mut saved);
        // What was counted is kept, whatever ended it.
        saved.write()?;
        measured?;
    }
    arguments.output.write(&saved.state(), printer)
}

/// The photos' names, one a line.
fn list(dataset: &Dataset, printer: &mut Printer) -> Result<Outcome, Failure> {
    let names: Vec<&str> = dataset.items.iter().map(|item| item.name.as_str()).collect();
    printer.columns(&Listed { names }, |listed| listed.names.iter().map(|name| format!("{name}\n")).collect())?;
    Ok(Outcome::Done)
}

#[derive(Serialize)]
struct Listed<'a> {
    names: Vec<&'a str>,
}

/// The state of --state, where the file is there; else a new one.
fn begin(
    arguments: &Arguments,
    dataset: &Dataset,
    checkpoint: Option<&Checkpoint>,
    chosen: Option<&Chosen>,
) -> Result<State, Failure> {
    let shard = arguments.shard.unwrap_or(Shard::WHOLE);
    let begun = State::new(dataset, setup(arguments, dataset, checkpoint, chosen)?, shard);
    match &arguments.state {
        Some(path) if path.exists() => {
            let state = State::read(path)?;
            state.check_same(path, &begun, shard)?;
            Ok(state)
        }
        _ => Ok(begun),
    }
}

/// Everything that decides the numbers.
fn setup(
    arguments: &Arguments,
    dataset: &Dataset,
    checkpoint: Option<&Checkpoint>,
    chosen: Option<&Chosen>,
) -> Result<Setup, Failure> {
    let names = dataset.items.iter().flat_map(|item| [item.name.as_bytes(), b"\n"]);
    let rules = dataset.lists.iter().map(|list| format!("{:?}", list.truth)).collect::<Vec<_>>();
    let predictions = arguments.predictions.as_deref().map(Path::display);
    let mut setup = vec![
        ("--data", arguments.data.kind().to_owned()),
        ("--predictions", predictions.map_or_else(|| "none".to_owned(), |path| path.to_string())),
        ("a --model of checksum", checkpoint.map_or_else(|| Ok("none".to_owned()), checksum::of)?),
        ("--size", arguments.size.map_or_else(|| "the model's".to_owned(), |size| size.to_string())),
        ("--preset", chosen.map_or_else(|| "native".to_owned(), |chosen| format!("{:?}", chosen.protocol))),
        ("--mean and --std", format!("{:?}", arguments.protocol.normalisation()?)),
        ("--template", arguments.text.templates()?.join(", ")),
        ("--templates", arguments.text.list_name()),
        ("photos", dataset.items.len().to_string()),
        ("a list of photos of checksum", crc(names)),
        ("values of masks (--map, --ignore) of checksum", crc(rules.iter().map(String::as_bytes))),
        ("--other-words", arguments.data.other_words.clone().unwrap_or_else(|| "none".to_owned())),
        ("as many lists of words as", dataset.lists.len().to_string()),
        ("as many labels as", dataset.lists.iter().map(|list| list.labels).sum::<usize>().to_string()),
        ("as many words as", dataset.lists.iter().map(|list| list.words.len()).sum::<usize>().to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect::<Setup>();
    let words = dataset.lists.iter().flat_map(|list| &list.words);
    setup.extend((1..).zip(words).map(|(number, word)| (format!("label {number}"), word.clone())));
    Ok(setup)
}

fn crc<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    let mut sum = Crc::new();
    parts.for_each(|part| sum.update(part));
    checksum::digits(&sum)
}

fn engine(arguments: &Arguments, checkpoint: &Checkpoint) -> Result<Engine, Failure> {
    let mut engine = arguments.engine.load(checkpoint, arguments.quiet)?;
    arguments.protocol.set(&mut engine)?;
    match arguments.size {
        Some(size) => engine.set_size(size),
        None => drop(own_size(engine.config())?),
    }
    Ok(engine)
}

/// All photos that the state has not tried.
fn measure(
    arguments: &Arguments,
    dataset: &Dataset,
    (engine, chosen): (Option<Engine>, Option<&Chosen>),
    saved: &mut Saved,
) -> Result<(), Failure> {
    let shard = saved.state().shard;
    let tried = saved.state().rows.len();
    let of_shard = dataset.items.iter().enumerate().filter(|(index, _)| shard.has(*index));
    let items: Vec<&Item> = of_shard.map(|(_, item)| item).skip(tried).collect();
    let budget = engine.as_ref().map_or_else(|| Budget::new(None, None), |engine| engine.memory().clone());
    let predictions = arguments.predictions.as_deref();
    let reader = Reader { dataset, predictions, max_pixels: arguments.max_pixels, budget };
    let mut session = Session { arguments, dataset, engine, chosen, list: None, indices: Vec::new() };
    // A word that cannot be read ends the call before its first photo.
    (0..dataset.lists.len()).try_for_each(|list| session.look_for(list))?;
    let progress = progress_bar(items.len(), arguments.quiet);
    thread::scope(|scope| {
        let ahead = reader.ahead(scope, items.clone())?;
        for (item, opened) in items.iter().zip(ahead) {
            progress.set_message(printable(&item.name).into_owned());
            let counted = opened.and_then(|opened| session.count(item, opened));
            if let Err(error) = &counted {
                progress.suspend(|| message::error(error));
                if let Some(reason) = stops(error) {
                    return Err(Failure::Input(format!("{reason}: the photos from {} on were not done", item.name)));
                }
            }
            saved.add(item, counted.map_err(|error| error.to_string()))?;
            progress.inc(1);
        }
        progress.finish_and_clear();
        Ok(())
    })
}

/// What stays the same from photo to photo.
struct Session<'a> {
    arguments: &'a Arguments,
    dataset: &'a Dataset,
    /// None where masks are given.
    engine: Option<Engine>,
    /// Where photos are not taken in one pass of the model's size.
    chosen: Option<&'a Chosen>,
    /// The list of words that it looks for.
    list: Option<usize>,
    /// In that list, of each word that the engine knows.
    indices: Vec<u16>,
}

impl Session<'_> {
    fn count(&mut self, item: &Item, Opened { mut truth, seen }: Opened) -> crate::Result<Confusion> {
        let list = &self.dataset.lists[item.list];
        let (prediction, by) = match seen {
            Seen::Prediction(ids, path) => (ids.values, path),
            Seen::Photo(photo) => {
                self.look_for(item.list)?;
                let Some(engine) = &mut self.engine else { unreachable!("photos are read for an engine") };
                let whole = self.chosen.map(|chosen| (&chosen.protocol, chosen.options));
                let Mask { width, height, labels: mut mask } = segment(engine, photo, whole)?;
                mask.iter_mut().for_each(|label| *label = self.indices[usize::from(*label)]);
                self.save(item, &mask, (width, height), list.words.len())?;
                if (width, height) != (truth.width, truth.height) {
                    truth = truth.nearest((width, height));
                }
                (mask, item.photo.clone())
            }
        };
        count((&truth, &item.mask), (&prediction, &by), &list.truth, (list.labels, list.words.len()))
    }

    /// Puts these words on the engine, where there is one.
    fn look_for(&mut self, list: usize) -> crate::Result<()> {
        let Some(engine) = self.engine.as_mut().filter(|_| self.list != Some(list)) else { return Ok(()) };
        let (words, indices) = self.dataset.lists[list].distinct();
        self.arguments.text.set(engine, &labels::checked(&words)?, self.arguments.quiet)?;
        (self.list, self.indices) = (Some(list), indices);
        Ok(())
    }

    /// Writes the mask, where that is asked for.
    fn save(&self, item: &Item, mask: &[u16], (width, height): (usize, usize), words: usize) -> crate::Result<()> {
        let Some(folder) = &self.arguments.save_masks else { return Ok(()) };
        let mut path = folder.join(&item.place).into_os_string();
        path.push(".mask.png");
        let colours = palette(words);
        write_result(path.as_ref(), |out| mask::write(out, mask, width, height, &colours))
    }
}
