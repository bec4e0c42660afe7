//! CLIP's tokenizer: a label in, token ids out, the ids of open_clip 3.3.0.
//!
//! A text is cleaned ([`Tokenizer::clean`]), split into words, numerals and runs of punctuation, and each piece's UTF-8
//! bytes are joined by the merges of a byte-pair vocabulary. Source: CLIP (arXiv 2103.00020), with the vocabulary it
//! was published with.
//!
//! Equal to open_clip under Python 3.11 on every character of Unicode 14, alone and beside others. What later versions
//! of Unicode added may be classed, composed or lower-cased otherwise: each side goes by its own libraries' tables.

mod clean;
mod entities;
mod vocabulary;

use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    Decoder, Model, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, SplitDelimiterBehavior,
    models::bpe::BPE,
};

use crate::{Error, Result};

/// Special tokens, contractions, words, single numerals, and runs of whatever is left.
///
/// Case is ignored for the first two only; that matters for ſ, which is an s. U+0345 is left out of all of them and so
/// vanishes: where case is ignored everywhere, as in CLIP's own pattern, it is a letter (iota) to the last alternative
/// and none to the third.
const PIECES: &str =
    concat!(r"(?i:<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d)", r"|\p{L}+|\p{N}|[^\s\p{L}\p{N}\x{345}]+");

/// Turns labels into token ids for a text tower with a certain token table and context length.
pub struct Tokenizer {
    model: BPE,
    pieces: Split,
    bytes: ByteLevel,
    /// Id of the start token; the end token's follows it.
    start: u32,
    context: usize,
}

/// A text as the text tower reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// Start and end included, no more than the context holds.
    pub ids: Vec<u32>,
    /// Tokens of the whole text, start and end not counted: more than there are in `ids` where it was cut.
    pub count: usize,
}

impl Tokens {
    /// The ids to the first end token. The text tower reads there and looks back only, so that nothing behind it counts
    /// (`<end_of_text>` may stand in a label).
    pub fn visible(&self) -> &[u32] {
        &self.ids[..=self.end()]
    }

    /// Where the first end token stands. It is the largest id, as CLIP finds it.
    pub fn end(&self) -> usize {
        let largest = self.ids.iter().max();
        self.ids.iter().position(|id| Some(id) == largest).unwrap_or(0)
    }
}

impl Tokenizer {
    /// The longest text that is looked at, in bytes: a label in its template. One within any model's tokens is far shorter.
    pub const MAX_BYTES: usize = 16 * 1024;

    /// Fewest rows of a token table: every byte, every byte at a word's end, start and end.
    pub const MIN_VOCAB: usize = vocabulary::FIXED_IDS;

    /// Most rows of a token table: CLIP's own.
    pub const MAX_VOCAB: usize = vocabulary::ALL_IDS;

    /// A tokenizer for a token table of `vocab` rows and texts of `context` tokens, start and end included
    /// (49408 and 77 for CLIP). A smaller table uses the first `vocab` − 514 merges; the start token is `vocab` − 2,
    /// the end token `vocab` − 1.
    ///
    /// # Errors
    ///
    /// [`Error::Labels`] where `vocab` is not within [`MIN_VOCAB`](Self::MIN_VOCAB) and
    /// [`MAX_VOCAB`](Self::MAX_VOCAB), or `context` has no room for a token between start and end.
    pub fn new(vocab: usize, context: usize) -> Result<Tokenizer> {
        if !(Self::MIN_VOCAB..=Self::MAX_VOCAB).contains(&vocab) {
            return Err(Error::Labels(format!(
                "the tokenizer needs a token table of {} to {} rows, found {vocab}; use a model with a CLIP text tower",
                Self::MIN_VOCAB,
                Self::MAX_VOCAB
            )));
        }
        if context < 3 {
            return Err(Error::Labels(format!(
                "the tokenizer needs a context of at least 3 tokens (start, one token, end), found {context}; use a \
                 model with a CLIP text tower (77)"
            )));
        }
        let pattern = SplitPattern::Regex(PIECES.to_owned());
        // Inverted, the "delimiters" are the pieces, and what lies between them is removed.
        let pieces = Split::new(pattern, SplitDelimiterBehavior::Removed, true).map_err(failed)?;
        let bytes = ByteLevel::new(false, false, false);
        let model = vocabulary::byte_pair_model(vocab).map_err(failed)?;
        Ok(Tokenizer { model, pieces, bytes, start: vocab as u32 - 2, context })
    }

    /// The token ids of `text`, start and end included, without padding. An empty text gives these two.
    ///
    /// # Errors
    ///
    /// [`Error::Labels`] where `text` has more than `context` − 2 tokens of its own, or is longer than
    /// [`MAX_BYTES`](Self::MAX_BYTES).
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let tokens = self.encode_cut(text)?;
        if tokens.count > self.room() {
            return Err(Error::Labels(format!(
                "label {} is {} tokens long, but the model reads at most {}; shorten it",
                quoted(text),
                tokens.count,
                self.room()
            )));
        }
        Ok(tokens.ids)
    }

    /// As [`encode`](Self::encode), but of a text that is too long only as many tokens as there is room for, the end token
    /// the last of them (CLIP's `tokenize(text, truncate=True)`).
    ///
    /// # Errors
    ///
    /// [`Error::Labels`] where `text` is longer than [`MAX_BYTES`](Self::MAX_BYTES).
    pub fn encode_cut(&self, text: &str) -> Result<Tokens> {
        if text.len() > Self::MAX_BYTES {
            return Err(Error::Labels(format!(
                "label {} is {} bytes long, but at most {} are read; shorten it",
                quoted(text),
                text.len(),
                Self::MAX_BYTES
            )));
        }
        let mut ids = vec![self.start];
        self.push_pieces(&Self::clean(text), &mut ids).map_err(failed)?;
        let count = ids.len() - 1;
        ids.truncate(self.context - 1);
        ids.push(self.start + 1);
        Ok(Tokens { ids, count })
    }

    /// The text of ids, as far as they are not start or end: clean, with a space behind every piece.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        // The byte alphabet's space.
        const SPACE: &str = "Ġ";
        let tokens = ids.iter().filter_map(|id| self.model.id_to_token(*id));
        let tokens = tokens.map(|token| token.replace(vocabulary::END_OF_WORD, SPACE)).collect();
        Ok(self.bytes.decode_chain(tokens).map_err(failed)?.concat().trim_end().to_owned())
    }

    /// How many tokens a text may have, start and end not counted.
    pub fn room(&self) -> usize {
        self.context - 2
    }

    /// `text` as it is before it is split: HTML character references decoded, curly quotes, ligatures and
    /// full-width forms made plain, control characters removed, Unicode composed (NFC), trimmed, white space collapsed,
    /// lower case. Texts that differ only in these have the same ids.
    pub fn clean(text: &str) -> String {
        clean::clean(text)
    }

    fn push_pieces(&self, text: &str, ids: &mut Vec<u32>) -> tokenizers::Result<()> {
        let mut split = PreTokenizedString::from(text);
        self.pieces.pre_tokenize(&mut split)?;
        self.bytes.pre_tokenize(&mut split)?;
        for (piece, _, _) in split.get_splits(OffsetReferential::Original, OffsetType::None) {
            match piece {
                // Written out in a label they count as the tokens themselves, as in open_clip.
                "<start_of_text>" => ids.push(self.start),
                "<end_of_text>" => ids.push(self.start + 1),
                _ => ids.extend(self.model.tokenize(piece)?.iter().map(|token| token.id)),
            }
        }
        Ok(())
    }
}

/// The label for a message: in quotes, control characters escaped, a long one cut.
fn quoted(label: &str) -> String {
    const SHOWN: usize = 40;
    let mut shown: String = label.chars().take(SHOWN).collect();
    if shown.len() < label.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

/// An error of the `tokenizers` crate. None is known to occur on any text; they are passed on, not unwrapped.
fn failed(source: tokenizers::Error) -> Error {
    Error::Labels(format!("the tokenizer failed: {source}"))
}
