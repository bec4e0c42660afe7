//! Where answers go: pictures in a folder, a video's file, standard output.

use std::io::{self, BufWriter, StdoutLock, Write};
use std::path::PathBuf;

use crate::atomic_file::create_folder;
use crate::engine::{Output, Results};
use crate::error::{Error, Result};
use crate::image::palette::Palette;
use crate::image::{mask, overlay};
use crate::stream::Answer;
use crate::video::{Encoder, Programs, Rate, Y4mWriter};

use super::super::Failure;
use super::super::common::{refuse_terminal, write_result};
use super::super::result::SavedFile;
use super::arguments::{Arguments, Save, To};

pub struct Sink {
    saved: Vec<Save>,
    palette: Palette,
    has_threshold: bool,
    rate: Rate,
    to: Open,
}

type Frames = Y4mWriter<BufWriter<StdoutLock<'static>>>;

enum Open {
    Nowhere,
    Folder(PathBuf),
    /// The encoder is there from the first frame on, whose size it needs.
    Video(PathBuf, Option<Box<Encoder>>),
    /// As [`Open::Video`].
    Frames(Option<Frames>),
    Masks(BufWriter<StdoutLock<'static>>),
}

impl Sink {
    /// A folder is made; of a video nothing is there before its first frame.
    pub fn new(arguments: &Arguments, rate: Rate) -> std::result::Result<Sink, Failure> {
        let saved = arguments.saved();
        let out = arguments.out.clone().unwrap_or_default();
        let to = match arguments.to() {
            To::Nowhere => Open::Nowhere,
            To::Folder => {
                create_folder(&out)?;
                Open::Folder(out)
            }
            To::Video => Open::Video(out, None),
            To::Stdout => {
                refuse_terminal()?;
                match saved[..] {
                    [Save::Overlay] => Open::Frames(None),
                    _ => Open::Masks(BufWriter::new(io::stdout().lock())),
                }
            }
        };
        Ok(Sink { saved, palette: arguments.palette()?, has_threshold: arguments.has_threshold(), rate, to })
    }

    /// The files that were written; `None` where the reader of standard output went away.
    pub fn take(&mut self, answer: &Answer, results: &Results) -> Result<Option<Vec<SavedFile>>> {
        let Some([height, width, _]) = results.shape(Output::Mask) else { return Ok(Some(Vec::new())) };
        let rate = self.rate;
        match &mut self.to {
            Open::Nowhere => Ok(Some(Vec::new())),
            Open::Folder(_) => self.files(answer, results, width, height).map(Some),
            Open::Video(path, encoder) => {
                let encoder = match encoder {
                    Some(encoder) => encoder,
                    None => encoder.insert(Box::new(Encoder::create(path, width, height, rate, &Programs::default())?)),
                };
                encoder.write(results.overlay(0).unwrap_or_default())?;
                Ok(Some(Vec::new()))
            }
            Open::Frames(writer) => {
                let written = frames(writer, width, height, rate)
                    .and_then(|writer| writer.write(results.overlay(0).unwrap_or_default()));
                stdout(written)
            }
            Open::Masks(out) => {
                let bytes = match (&self.saved[..], results.mask(0)) {
                    ([Save::Confidence], _) => out.write_all(results.confidence(0).unwrap_or_default()),
                    (_, Some(mask)) => write_raw(out, mask, results.labels().map_or(0, |labels| labels.names().len())),
                    _ => Ok(()),
                };
                stdout(bytes.and_then(|()| out.flush()))
            }
        }
    }

    fn files(&self, answer: &Answer, results: &Results, width: usize, height: usize) -> Result<Vec<SavedFile>> {
        let Open::Folder(folder) = &self.to else { return Ok(Vec::new()) };
        let labels = results.labels().map_or(0, |labels| labels.names().len());
        let stem = format!("{:08}_{}", answer.sequence, answer.stamp);
        let mut files = Vec::with_capacity(self.saved.len());
        for save in &self.saved {
            let (kind, path) = match save {
                Save::Mask => ("mask", folder.join(format!("{stem}.mask.png"))),
                Save::Confidence => ("confidence", folder.join(format!("{stem}.confidence.png"))),
                Save::Overlay => ("overlay", folder.join(format!("{stem}.overlay.png"))),
            };
            write_result(&path, |out| match save {
                Save::Mask => {
                    let colours = self.palette.colours(labels);
                    let mask = results.mask(0).unwrap_or_default();
                    match self.has_threshold {
                        true => mask::write_unlabelled(out, mask, width, height, &colours),
                        false => mask::write(out, mask, width, height, &colours),
                    }
                }
                Save::Confidence => mask::write_grey(out, results.confidence(0).unwrap_or_default(), width, height),
                Save::Overlay => overlay::write_rgb(out, width, height, results.overlay(0).unwrap_or_default()),
            })?;
            files.push(SavedFile { kind, index: None, path });
        }
        Ok(files)
    }

    /// All is written; a video's file gets its name.
    pub fn finish(self) -> Result<()> {
        match self.to {
            Open::Video(_, Some(encoder)) => encoder.finish(),
            _ => Ok(()),
        }
    }
}

fn frames(writer: &mut Option<Frames>, width: usize, height: usize, rate: Rate) -> io::Result<&mut Frames> {
    match writer {
        Some(writer) => Ok(writer),
        None => Ok(writer.insert(Y4mWriter::new(BufWriter::new(io::stdout().lock()), width, height, rate)?)),
    }
}

/// A byte a pixel, or two (the lower first) of more labels than a byte tells apart.
fn write_raw(out: &mut impl Write, mask: &[u16], labels: usize) -> io::Result<()> {
    let unlabelled = mask::unlabelled(labels);
    if unlabelled == u16::from(u8::MAX) {
        let bytes: Vec<u8> = mask.iter().map(|label| (*label).min(unlabelled) as u8).collect();
        return out.write_all(&bytes);
    }
    let bytes: Vec<u8> = mask.iter().flat_map(|label| label.to_le_bytes()).collect();
    out.write_all(&bytes)
}

fn stdout(written: io::Result<()>) -> Result<Option<Vec<SavedFile>>> {
    match written {
        Ok(()) => Ok(Some(Vec::new())),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(None),
        Err(error) => Err(Error::io("write to", "standard output".as_ref(), error)),
    }
}
