//! What the text tower reads of the labels, and what of them it cannot.

use std::collections::HashMap;
use std::time::Duration;

use super::{Engine, LongLabels};
use crate::error::{Error, Result};
use crate::labels::List;
use crate::memory::{self, Need};
use crate::ops::{Stage, Weight};
use crate::plan;
use crate::tokenizer::Tokens;

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

impl Engine {
    /// The texts that this engine has not seen.
    pub(super) fn tokens_of_unknown(&self, texts: &[Vec<String>]) -> Result<HashMap<String, Tokens>> {
        let mut unknown = HashMap::new();
        for text in texts.iter().flatten() {
            if !self.texts.contains_key(text) && !unknown.contains_key(text) {
                unknown.insert(text.clone(), self.tokenizer.encode_cut(text)?);
            }
        }
        Ok(unknown)
    }

    /// Refuses labels without a token of their own, labels that are the same to the text tower, and long ones unless they
    /// are cut; of the latter, one note a label.
    pub(super) fn check_tokens(
        &self,
        list: &List,
        texts: &[Vec<String>],
        unknown: &HashMap<String, Tokens>,
    ) -> Result<Vec<String>> {
        let room = self.tokenizer.room();
        let tokens = |text: &String| self.texts.get(text).map_or_else(|| &unknown[text], |text| &text.tokens);
        let mut seen = HashMap::with_capacity(texts.len());
        let mut notes = Vec::new();
        for (i, (label, texts)) in list.texts().zip(texts).enumerate() {
            let alone = if self.templates.is_empty() { None } else { Some(self.tokenizer.encode_cut(label)?) };
            if alone.as_ref().unwrap_or_else(|| tokens(&texts[0])).visible().len() <= 2 {
                return Err(list.without_tokens(i));
            }
            let longest = texts.iter().max_by_key(|text| tokens(text).count).filter(|text| tokens(text).count > room);
            if let Some(text) = longest {
                let Tokens { ids, count } = tokens(text);
                let within = if self.templates.is_empty() { "" } else { " in its template" };
                let long = format!("{} is {count} tokens long{within}", list.show(i));
                if self.long_labels == LongLabels::Refuse {
                    return Err(Error::Labels(format!(
                        "{long}, but the model reads at most {room}; shorten it, or pass --long-labels cut"
                    )));
                }
                let read = self.tokenizer.decode(ids)?;
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

    /// What a list of labels takes, of whose texts so many are unknown: the texts' features, the labels', and the bank on the
    /// device, where it has room to grow.
    pub(super) fn need_of_labels(&self, labels: usize, unknown: usize) -> Need {
        let (embed_dim, features) = (self.model.config.embed_dim, self.model.config.features);
        let bank = [Weight::Matrix { n: labels, k: features, halves: false }, Weight::Vector(labels)];
        let kept = (self.texts.len() + unknown) * (TEXT_BYTES + 4 * embed_dim) + labels * 4 * embed_dim;
        Need {
            device: 2 * self.device.weight_bytes(&bank),
            host: kept as u64,
            transient: (labels * 4 * (embed_dim + features)) as u64,
        }
    }

    /// Passes the unknown among the texts through the text tower, in their order, and keeps what comes out. `progress` is told
    /// how many are done, of how many.
    pub(super) fn encode_unknown(
        &mut self,
        texts: &[Vec<String>],
        mut unknown: HashMap<String, Tokens>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<()> {
        let unknown: Vec<_> = texts.iter().flatten().filter_map(|text| unknown.remove_entry(text)).collect();
        let mut features = Vec::with_capacity(unknown.len());
        for texts in unknown.chunks(TEXT_BATCH) {
            features.extend(self.encode(texts)?);
            progress(features.len(), unknown.len());
        }
        let read = unknown.into_iter().zip(features);
        self.texts.extend(read.map(|((text, tokens), features)| (text, Text { tokens, features })));
        Ok(())
    }

    /// The text tower on a batch of texts.
    fn encode(&mut self, texts: &[(String, Tokens)]) -> Result<Vec<Box<[f32]>>> {
        let longest = texts.iter().map(|(_, tokens)| tokens.ids.len()).max().unwrap_or(0);
        let n = texts.len();
        let (mut ids, mut ends) = (vec![0u32; n * longest], vec![0u32; n]);
        for ((row, end), (_, tokens)) in ids.chunks_exact_mut(longest).zip(&mut ends).zip(texts) {
            row[..tokens.ids.len()].copy_from_slice(&tokens.ids);
            *end = tokens.end() as u32;
        }
        let (plan, io) = plan::record(self.device.activation_bytes(), &[], |d| self.model.text.forward(d, n, longest));
        let what = format!("the text tower on {n} texts of {longest} tokens");
        let mut program = self.compile(plan, &what, memory::FOR_MODEL)?;
        self.buffered = None;
        self.device.write(&mut program, io.ids, 0, bytemuck::cast_slice(&ids))?;
        self.device.write(&mut program, io.ends, 0, bytemuck::cast_slice(&ends))?;
        self.device.run(&mut program)?;
        self.text_time += Duration::from_secs_f64(self.device.times().stages[Stage::Text as usize]);
        let mut features = vec![0.0f32; io.features.len()];
        self.device.read(&program, io.features, 0, bytemuck::cast_slice_mut(&mut features))?;
        let features = features.chunks_exact(io.features.channels());
        features.clone().zip(texts).try_for_each(|(features, (text, _))| self.check_features(text, features))?;
        Ok(features.map(Into::into).collect())
    }
}
