//! The text tower on a device of its own, beside the lanes: what it reads of the labels, what of them it cannot, and what it has
//! read.

use std::collections::HashMap;
use std::time::Duration;

use super::fork_guard::ForkGuard;
use super::network::Shared;
use super::session::compile;
use super::types::{LabelOptions, LongLabels};
use super::{finite, templates};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::labels::List;
use crate::memory::{self, Budget, Held, Need};
use crate::model::Model;
use crate::ops::{Stage, Weight};
use crate::plan;
use crate::tokenizer::{Tokenizer, Tokens};

/// Texts that pass the text tower together.
const TEXT_BATCH: usize = 32;
/// Of a text that is kept, beside its features: the words, their tokens, its place in the table; about.
const TEXT_BYTES: usize = 512;
/// Characters that a note shows of the end of a label that was cut.
const SHOWN: usize = 30;

/// A text that the text tower has read.
pub(super) struct Text {
    pub tokens: Tokens,
    /// The tower's output, before normalisation.
    pub features: Box<[f32]>,
}

/// The device that texts are encoded on, and those that were.
pub(super) struct TextTower {
    pub device: ForkGuard,
    pub texts: HashMap<String, Text>,
    kept: Held,
    pass: Held,
}

impl TextTower {
    pub fn new(device: ForkGuard, budget: &Budget) -> TextTower {
        TextTower { device, texts: HashMap::new(), kept: budget.holder(), pass: budget.holder() }
    }

    /// The texts that it has not read.
    pub fn tokens_of_unknown(&self, tokenizer: &Tokenizer, texts: &[Vec<String>]) -> Result<HashMap<String, Tokens>> {
        let mut unknown = HashMap::new();
        for text in texts.iter().flatten() {
            if !self.texts.contains_key(text) && !unknown.contains_key(text) {
                unknown.insert(text.clone(), tokenizer.encode_cut(text)?);
            }
        }
        Ok(unknown)
    }

    /// Refuses labels without a token of their own, labels that are the same to the text tower, and long ones unless they
    /// are cut; of the latter, one note a label.
    pub fn check_tokens(
        &self,
        tokenizer: &Tokenizer,
        list: &List,
        LabelOptions { templates, long_labels, .. }: &LabelOptions,
        texts: &[Vec<String>],
        unknown: &HashMap<String, Tokens>,
    ) -> Result<Vec<String>> {
        let room = tokenizer.room();
        let tokens = |text: &String| self.texts.get(text).map_or_else(|| &unknown[text], |text| &text.tokens);
        let mut seen = HashMap::with_capacity(texts.len());
        let mut notes = Vec::new();
        for (i, (label, texts)) in list.texts().zip(texts).enumerate() {
            let alone = if templates.is_empty() { None } else { Some(tokenizer.encode_cut(label)?) };
            if alone.as_ref().unwrap_or_else(|| tokens(&texts[0])).visible().len() <= 2 {
                return Err(list.without_tokens(i));
            }
            let longest = texts.iter().max_by_key(|text| tokens(text).count).filter(|text| tokens(text).count > room);
            if let Some(text) = longest {
                let Tokens { ids, count } = tokens(text);
                let within = if templates.is_empty() { "" } else { " in its template" };
                let long = format!("{} is {count} tokens long{within}", list.show(i));
                if *long_labels == LongLabels::Refuse {
                    return Err(Error::Labels(format!(
                        "{long}, but the model reads at most {room}; shorten it, or pass --long-labels cut"
                    )));
                }
                let read = tokenizer.decode(ids)?;
                let end: String = read.chars().skip(read.chars().count().saturating_sub(SHOWN)).collect();
                notes.push(format!("{long}: only the first {room} are read, to \"…{}\"", end.trim_start()));
            }
            let visible: Vec<&[u32]> = texts.iter().map(|text| tokens(text).visible()).collect();
            if let Some(first) = seen.insert(visible, i) {
                let why = if longest.is_some() {
                    " (to where they are read they are the same)"
                } else {
                    " (the text tower sees no difference)"
                };
                return Err(list.repeated(i, first, why));
            }
        }
        Ok(notes)
    }

    /// What a list of so many labels takes: their features, and the bank on the device.
    pub fn need_of_labels(&self, model: &Model, labels: usize) -> Need {
        let (embed_dim, features) = (model.config.embed_dim, model.config.features);
        Need {
            device: bank_bytes(&*self.device, model, labels),
            host: (labels * 4 * embed_dim) as u64,
            transient: (labels * 4 * (embed_dim + features)) as u64,
        }
    }

    /// Holds memory for the texts that are kept, `unknown` more than now.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn hold_texts(&mut self, model: &Model, unknown: usize, what: &str) -> Result<()> {
        let bytes = (self.texts.len() + unknown) * (TEXT_BYTES + 4 * model.config.embed_dim);
        self.kept.hold(what, Need { host: bytes as u64, ..Need::default() }, memory::FOR_LABELS)
    }

    /// What each label is compared with, `[labels, embed_dim]`: its text's features, or the mean of its texts'.
    pub fn features_of(&self, texts: &[Vec<String>], options: &LabelOptions) -> Vec<f32> {
        let features = |text: &String| &*self.texts[text].features;
        if options.templates.is_empty() {
            return texts.iter().flatten().flat_map(|text| features(text).iter().copied()).collect();
        }
        texts.iter().flat_map(|texts| templates::mean(texts.iter().map(features), options.keeps_length)).collect()
    }

    /// Passes the unknown among the texts through the text tower, in their order, and keeps what comes out. `progress` is told
    /// how many are done, of how many. The time that took.
    pub fn encode_unknown(
        &mut self,
        network: &Shared,
        texts: &[Vec<String>],
        mut unknown: HashMap<String, Tokens>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Duration> {
        let unknown: Vec<_> = texts.iter().flatten().filter_map(|text| unknown.remove_entry(text)).collect();
        let mut features = Vec::with_capacity(unknown.len());
        let mut time = Duration::ZERO;
        for texts in unknown.chunks(TEXT_BATCH) {
            features.extend(self.encode(network, texts)?);
            time += Duration::from_secs_f64(self.device.times().stages[Stage::Text as usize]);
            progress(features.len(), unknown.len());
        }
        let read = unknown.into_iter().zip(features);
        self.texts.extend(read.map(|((text, tokens), features)| (text, Text { tokens, features })));
        Ok(time)
    }

    /// The text tower on a batch of texts.
    fn encode(&mut self, network: &Shared, texts: &[(String, Tokens)]) -> Result<Vec<Box<[f32]>>> {
        let longest = texts.iter().map(|(_, tokens)| tokens.ids.len()).max().unwrap_or(0);
        let n = texts.len();
        let (mut ids, mut ends) = (vec![0u32; n * longest], vec![0u32; n]);
        for ((row, end), (_, tokens)) in ids.chunks_exact_mut(longest).zip(&mut ends).zip(texts) {
            row[..tokens.ids.len()].copy_from_slice(&tokens.ids);
            *end = tokens.end() as u32;
        }
        let (plan, io) = plan::record(network.activation, &[], |d| network.model.text.forward(d, n, longest));
        let what = format!("the text tower on {n} texts of {longest} tokens");
        let mut program = compile(&mut *self.device, &mut self.pass, plan, &what, memory::FOR_MODEL)?;
        self.device.write(&mut program, io.ids, 0, bytemuck::cast_slice(&ids))?;
        self.device.write(&mut program, io.ends, 0, bytemuck::cast_slice(&ends))?;
        self.device.run(&mut program)?;
        let mut features = vec![0.0f32; io.features.len()];
        self.device.read(&program, io.features, 0, bytemuck::cast_slice_mut(&mut features))?;
        let features = features.chunks_exact(io.features.channels());
        features
            .clone()
            .zip(texts)
            .try_for_each(|(features, (text, _))| finite::check_features(network, text, features))?;
        Ok(features.map(Into::into).collect())
    }
}

/// What the bank of so many labels takes on a device.
pub(super) fn bank_bytes(device: &dyn Device, model: &Model, labels: usize) -> u64 {
    let features = model.config.features;
    device.weight_bytes(&[Weight::Matrix { n: labels, k: features, halves: false }, Weight::Vector(labels)])
}
