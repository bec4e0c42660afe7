//! The byte-pair vocabulary of CLIP, embedded, and the model made of it.
//!
//! Ids: 0 to 255 the bytes inside a word, 256 to 511 the bytes at a word's end (with the suffix `</w>`), then one id a
//! merge in the order of the file, then the start token and the end token.

use std::io::{BufRead, BufReader};

use flate2::read::GzDecoder;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

/// Ids that are no merges: 256 bytes, 256 bytes at a word's end, start and end.
pub(super) const FIXED_IDS: usize = 514;

/// All ids of CLIP's vocabulary. The embedded file has more merges; CLIP does not use them.
pub(super) const ALL_IDS: usize = 49_408;

/// What a token ends with that ends a piece.
pub(super) const END_OF_WORD: &str = "</w>";

/// `bpe_simple_vocab_16e6.txt`: a comment line, then one merge a line, two pieces with a space between them.
static MERGES: &[u8] = include_bytes!("../../weights/vocab/bpe_simple_vocab_16e6.txt.gz");

/// The byte-pair model of a vocabulary with `ids` ids ([`FIXED_IDS`] to [`ALL_IDS`]), start and end not in it.
pub(super) fn byte_pair_model(ids: usize) -> tokenizers::Result<BPE> {
    let merges = first_merges(ids - FIXED_IDS)?;

    // The byte alphabet's order is that of its characters' code points.
    let mut bytes: Vec<String> = ByteLevel::alphabet().into_iter().map(String::from).collect();
    bytes.sort_unstable();
    let last_bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte}{END_OF_WORD}")).collect();
    let merged = merges.iter().map(|(left, right)| format!("{left}{right}"));
    let vocab: Vocab = bytes.into_iter().chain(last_bytes).chain(merged).zip(0..).collect();

    BPE::builder().vocab_and_merges(vocab, merges).end_of_word_suffix(END_OF_WORD.to_owned()).build()
}

fn first_merges(count: usize) -> tokenizers::Result<Merges> {
    let mut merges = Merges::with_capacity(count);
    for line in BufReader::new(GzDecoder::new(MERGES)).lines().skip(1).take(count) {
        let line = line?;
        let (left, right) = line.split_once(' ').ok_or("a merge without a space")?;
        merges.push((left.to_owned(), right.to_owned()));
    }
    Ok(merges)
}
