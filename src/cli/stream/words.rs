//! The words of a running stream: as they were given, from a file that changes, from lines on standard input.

use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use clap::Args;

use crate::engine::LabelOptions;
use crate::error::Error;
use crate::labels::{self, List};
use crate::stream::Stream;

use super::super::common::TextArguments;
use super::super::{Failure, message};

/// How often a file of labels is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Which words are looked for, at the start and later.
#[derive(Args)]
pub struct WordArguments {
    /// The labels, split at commas ("dog,tall grass,other"), or @FILE with one a line
    #[arg(long, value_name = "WORDS|@FILE", required_unless_present = "labels_from", conflicts_with = "labels_from")]
    labels: Option<String>,

    /// A file with one label a line, which is read again whenever it changes
    #[arg(long, value_name = "FILE")]
    labels_from: Option<PathBuf>,

    #[command(flatten)]
    text: TextArguments,

    /// Do not take new labels from standard input
    #[arg(long)]
    no_stdin: bool,
}

impl WordArguments {
    pub fn list(&self) -> Result<List, Failure> {
        let typed = match (&self.labels, &self.labels_from) {
            (Some(labels), _) => labels.clone(),
            (None, Some(path)) => of_file(path),
            (None, None) => return Err(Failure::call("no labels: give --labels or --labels-from")),
        };
        Ok(labels::parse(&typed)?)
    }

    pub fn options(&self) -> Result<LabelOptions, Failure> {
        Ok(self.text.label_options()?)
    }

    /// Changes the stream's words when the file does, or a line comes on standard input (unless frames come there).
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn follow(
        &self,
        stream: &Arc<Stream>,
        stop: &Arc<AtomicBool>,
        notes: message::Notes,
        is_stdin_free: bool,
    ) -> Result<(), Failure> {
        let options = self.options()?;
        let setter = Setter { stream: Arc::clone(stream), options, notes };
        if let Some(path) = self.labels_from.clone() {
            let (setter, stop) = (setter.clone(), Arc::clone(stop));
            begin("labels-file", move || follow_file(&path, &setter, &stop))?;
        }
        if is_stdin_free && !self.no_stdin {
            begin("labels-stdin", move || follow_stdin(&setter))?;
        }
        Ok(())
    }
}

fn begin(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let begun = thread::Builder::new().name(name.to_owned()).spawn(work);
    begun.map(drop).map_err(|error| Failure::from(Error::Device(format!("no thread for new labels: {error}"))))
}

/// As `--labels @FILE` names it.
fn of_file(path: &Path) -> String {
    format!("@{}", path.display())
}

#[derive(Clone)]
struct Setter {
    stream: Arc<Stream>,
    options: LabelOptions,
    notes: message::Notes,
}

impl Setter {
    /// What is wrong with new words is said, and the old ones stay.
    fn set(&self, typed: &str) {
        let set = labels::parse(typed).and_then(|list| {
            let epoch = self.stream.set_list(&list, &self.options)?;
            Ok((epoch, list.texts().collect::<Vec<_>>().join(", ")))
        });
        match set {
            Ok((epoch, words)) => self.notes.say(format!("labels {epoch}: {words}")),
            Err(error) => self.notes.error(format!("{error}; the labels stay as they were")),
        }
    }
}

/// What tells a file that has changed from what it was.
fn state(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// A file that is being written is looked at again before it is read.
fn follow_file(path: &Path, setter: &Setter, stop: &AtomicBool) {
    let (mut read, mut seen) = (state(path), state(path));
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(LOOK);
        let now = state(path);
        if now.is_some() && now == seen && now != read {
            read = now;
            setter.set(&of_file(path));
        }
        seen = now;
    }
}

fn follow_stdin(setter: &Setter) {
    for line in io::stdin().lock().lines() {
        match line {
            Ok(line) if line.trim().is_empty() => {}
            Ok(line) => setter.set(&line),
            Err(_) => return,
        }
    }
}
