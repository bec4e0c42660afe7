//! The tokenizer against open_clip's ids (tests/golden/tokenizer.py wrote them), and against anything at all.

use std::fs::File;
use std::time::Duration;

use flate2::read::GzDecoder;
use lseg_fast::Error;
use lseg_fast::tokenizer::Tokenizer;
use serde::Deserialize;
use testing::time::{Clock, soon};

const VOCAB: usize = 49_408;
const CONTEXT: usize = 77;

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
    cut: Vec<Cut>,
    too_long: Vec<TooLong>,
}

#[derive(Deserialize)]
struct Case {
    kind: String,
    text: String,
    clean: String,
    ids: Vec<u32>,
}

#[derive(Deserialize)]
struct Cut {
    vocab: usize,
    text: String,
    ids: Vec<u32>,
}

#[derive(Deserialize)]
struct TooLong {
    text: String,
    tokens: usize,
}

fn golden() -> Golden {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tokenizer.json.gz");
    serde_json::from_reader(GzDecoder::new(File::open(path).unwrap())).unwrap()
}

fn message(result: lseg_fast::Result<impl Sized>) -> String {
    match result {
        Err(error @ Error::Labels(_)) => error.to_string(),
        Err(other) => panic!("another kind of error: {other}"),
        Ok(_) => panic!("no error"),
    }
}

#[test]
fn two_thousand_strings_have_open_clips_ids() {
    let tokenizer = Tokenizer::new(VOCAB, CONTEXT).unwrap();
    let cases = golden().cases;
    assert_eq!(cases.len(), 2000);
    let mut wrong = 0;
    for Case { kind, text, clean, ids } in &cases {
        let found_clean = Tokenizer::clean(text);
        let found = tokenizer.encode(text).unwrap();
        if found_clean != *clean || found != *ids {
            wrong += 1;
            eprintln!("{kind}: {text:?}\n  expected {clean:?} {ids:?}\n  found    {found_clean:?} {found:?}");
        }
    }
    assert_eq!(wrong, 0, "of {}", cases.len());
}

#[test]
fn a_smaller_table_uses_the_first_merges() {
    let cases = golden().cut;
    let mut sizes: Vec<usize> = cases.iter().map(|case| case.vocab).collect();
    sizes.dedup();
    assert_eq!(sizes, [514, 515, 1024, 5120, 30_000, 49_407]);
    for vocab in sizes {
        let tokenizer = Tokenizer::new(vocab, CONTEXT).unwrap();
        for case in cases.iter().filter(|case| case.vocab == vocab) {
            assert_eq!(tokenizer.encode(&case.text).unwrap(), case.ids, "{vocab}: {:?}", case.text);
        }
    }
}

#[test]
fn a_label_that_is_too_long_is_named_with_its_length_and_the_limit() {
    let tokenizer = Tokenizer::new(VOCAB, CONTEXT).unwrap();
    let cases = golden().too_long;
    assert!(!cases.is_empty());
    for TooLong { text, tokens } in cases {
        let message = message(tokenizer.encode(&text));
        assert!(message.contains(&format!("is {tokens} tokens long, but the model reads at most 75")), "{message}");
    }
    assert_eq!(
        message(tokenizer.encode(&"dog ".repeat(76))),
        "label \"dog dog dog dog dog dog dog dog dog dog …\" is 76 tokens long, but the model reads at most 75; \
         shorten it"
    );
    assert_eq!(tokenizer.encode(&"dog ".repeat(75)).unwrap().len(), CONTEXT);

    let short = Tokenizer::new(VOCAB, 5).unwrap();
    assert_eq!(short.encode("a red\tcar").unwrap().len(), 5);
    assert_eq!(
        message(short.encode("two\tred cars…")),
        "label \"two\\tred cars…\" is 4 tokens long, but the model reads at most 3; shorten it"
    );
}

/// open_clip.tokenize(text)[0], which cuts.
#[test]
fn a_text_that_is_too_long_is_cut_as_open_clip_cuts_it() {
    let tokenizer = Tokenizer::new(VOCAB, CONTEXT).unwrap();
    let cut = tokenizer.encode_cut(&"the quick brown fox ".repeat(20)).unwrap();
    let fox = [518, 3712, 2866, 3240];
    let words = fox.iter().cycle().take(75).copied();
    assert_eq!(cut.ids, [49406].into_iter().chain(words).chain([49407]).collect::<Vec<u32>>());
    assert_eq!(cut.count, 80);
    assert_eq!(tokenizer.decode(&cut.ids[..7]).unwrap(), "the quick brown fox the quick");
    assert_eq!(tokenizer.decode(&tokenizer.encode("Café  天空, 2x!").unwrap()).unwrap(), "café 天空 , 2 x !");
    for Case { text, ids, .. } in golden().cases {
        let whole = tokenizer.encode_cut(&text).unwrap();
        assert_eq!((whole.count, whole.ids), (ids.len() - 2, ids), "{text:?}");
    }
}

/// The text tower reads at the argmax of the ids, which is the first end token.
#[test]
fn what_stands_behind_the_first_end_token_is_not_visible() {
    let tokenizer = Tokenizer::new(VOCAB, CONTEXT).unwrap();
    // open_clip.tokenize("a <end_of_text> dog")
    let tokens = tokenizer.encode_cut("a <end_of_text> dog").unwrap();
    assert_eq!(tokens.ids, [49406, 320, 49407, 1929, 49407]);
    assert_eq!(tokens.visible(), [49406, 320, 49407]);
    assert_eq!(tokenizer.encode_cut("<end_of_text>").unwrap().visible(), [49406, 49407]);
    assert_eq!(tokenizer.encode_cut("a dog").unwrap().visible(), [49406, 320, 1929, 49407]);
}

#[test]
fn a_label_of_megabytes_is_refused_unread() {
    let tokenizer = Tokenizer::new(VOCAB, CONTEXT).unwrap();
    let huge = format!("&{}lt;", "amp;".repeat(1 << 20));
    assert_eq!(
        message(tokenizer.encode(&huge)),
        "label \"&amp;amp;amp;amp;amp;amp;amp;amp;amp;amp…\" is 4194308 bytes long, but at most 16384 are read; \
         shorten it"
    );
}

/// A hostile text takes time in its length, not in the square of it: those of 16 KiB took seconds each.
#[test]
fn the_longest_texts_are_read_at_once() {
    let tokenizer = Tokenizer::new(VOCAB, CONTEXT).unwrap();
    let fill = |piece: &str| piece.repeat(Tokenizer::MAX_BYTES / piece.len());
    let texts = [
        format!("&{}lt;", fill("amp;").split_off(8)),
        format!("&{}", fill("#65286;").split_off(7)),
        format!("&{}", fill("amp&semi;").split_off(9)),
        fill("&a&#xFEFF;mp;"),
        fill("&"),
        fill(";"),
        fill("&#"),
        fill("a"),
        fill("\u{1B}["),
        fill("e\u{301}"),
        fill("İ"),
        fill("'s"),
        fill("<end_of_text>"),
    ];
    for text in &texts {
        let what: String = text.chars().take(8).collect();
        soon(what, Clock::Thread, Duration::from_millis(250), || tokenizer.encode_cut(text).unwrap());
    }
}

#[test]
fn impossible_tables_and_contexts_are_refused() {
    for vocab in [0, 1, 513, 49_409, usize::MAX] {
        let message = message(Tokenizer::new(vocab, CONTEXT));
        assert!(message.contains("of 514 to 49408 rows") && message.contains(&format!("found {vocab};")), "{message}");
    }
    for context in [0, 1, 2] {
        let message = message(Tokenizer::new(VOCAB, context));
        assert!(message.contains("at least 3 tokens") && message.contains(&format!("found {context};")), "{message}");
    }
}

#[test]
fn no_text_breaks_it() {
    let golden = golden();
    let tokenizers: Vec<_> =
        [514, 5120, VOCAB].into_iter().map(|vocab| (vocab as u32, Tokenizer::new(vocab, 100_000).unwrap())).collect();
    let mut random = Random(0x15E6);
    for _ in 0..20_000 {
        let text = random.text(&golden.cases);
        let (vocab, tokenizer) = &tokenizers[random.below(tokenizers.len())];
        let ids = tokenizer.encode(&text).unwrap();
        assert_eq!(ids.first(), Some(&(vocab - 2)), "{text:?}");
        assert_eq!(ids.last(), Some(&(vocab - 1)), "{text:?}");
        assert!(ids.iter().all(|id| id < vocab), "{text:?}");
    }
}

/// A xorshift generator, so that a failure comes again.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    /// Any character, near ones more often.
    fn character(&mut self) -> char {
        let limit = [0x80, 0x100, 0x3000, 0x11_0000][self.below(4)];
        char::from_u32(self.below(limit) as u32).unwrap_or('&')
    }

    /// Random characters, or one of the stored strings with characters changed, cut out, repeated or put in.
    fn text(&mut self, cases: &[Case]) -> String {
        if self.below(4) == 0 {
            return (0..self.below(40)).map(|_| self.character()).collect();
        }
        let mut text: Vec<char> = cases[self.below(cases.len())].text.chars().collect();
        for _ in 0..=self.below(4) {
            let at = self.below(text.len() + 1);
            match self.below(4) {
                0 => text.insert(at, self.character()),
                1 => text.truncate(at),
                2 => text.extend_from_within(at..),
                _ => {
                    text.drain(..at);
                }
            }
        }
        // Four bytes a character at most: within what is read of a label.
        text.into_iter().take(4000).collect()
    }
}
