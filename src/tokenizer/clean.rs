//! The cleaning that CLIP's texts went through before they were split into tokens: `ftfy.fix_text`, HTML character
//! references, white space, lower case. Checked against open_clip 3.3.0 with ftfy 6.3.1.
//!
//! Three of ftfy's steps are missing on purpose. Its repair of mojibake ("cafÃ©") guesses, and a label that was typed
//! needs none. Its line breaks all become a space in the end, as every other white space does. Lone surrogates, which
//! it replaces, do not exist in a Rust string.
//!
//! By hand, not by ftfy's port to Rust (plsfix, which brings ICU's tables): what CLIP's texts need of it is short, and 2,000
//! strings hold it to ftfy's own answers (tests/golden/tokenizer.py).

use std::borrow::Cow;
use std::iter;
use std::sync::LazyLock;

use regex::Regex;
use unicode_normalization::UnicodeNormalization;

use super::entities::{unescape, unescape_closed, unescape_nested, windows_1252};

/// Texts that were not made to take more are plain after three.
const MOST_ROUNDS: usize = 32;

/// A terminal's colour and cursor sequences: `ESC [ 1 ; 31 m`.
static TERMINAL_ESCAPE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("\u{1B}\\[[\\d;]*[a-zA-Z]").expect("a constant pattern"));

/// The text as CLIP's tokenizer splits it: repaired, trimmed, white space collapsed to single spaces, lower case.
pub(super) fn clean(text: &str) -> String {
    let fixed = fix_text(text);
    let plain = unescape(&fixed);
    let plain = unescape(&plain);
    // Python also counts U+001C to U+001F as white space; `fix_text` has removed them.
    plain.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// ftfy's `fix_text`. Lines are fixed one by one; a `<` says that this line and all that follow are real HTML, whose
/// character references are then left alone.
fn fix_text(text: &str) -> String {
    let mut references = true;
    let mut fixed = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        references &= !line.contains('<');
        fixed.push_str(&fix_line(line, references));
    }
    fixed
}

/// Repeats ftfy's steps until they change nothing: every round that changes something leaves fewer references, ligatures,
/// escapes or control characters, and none of the steps makes any of these from plain letters. References in references
/// (`&amp;eacute;`), of which a text may have as many levels as it has letters, take one round together.
fn fix_line(line: &str, references: bool) -> String {
    let mut text = fix_once(&if references { unescape_closed(line) } else { line.into() });
    for _ in 0..MOST_ROUNDS {
        let fixed = fix_once(&if references { unescape_nested(&text) } else { Cow::from(&text) });
        if fixed == text {
            break;
        }
        text = fixed;
    }
    text
}

/// The steps behind the references.
fn fix_once(plain: &str) -> String {
    let mut fixed = String::with_capacity(plain.len());
    for c in plain.chars() {
        push_simplified(&mut fixed, windows_1252(c));
    }
    TERMINAL_ESCAPE.replace_all(&fixed, "").chars().filter(|&c| !is_stray_control(c)).nfc().collect()
}

/// Appends `c`, or what it is a typographic variant of: letters of a ligature, the normal width, a straight quote.
fn push_simplified(text: &mut String, c: char) {
    match c {
        '\u{3000}' => text.push(' '),
        // Full-width and half-width forms.
        '\u{FF01}'..='\u{FFEF}' => text.extend(iter::once(c).nfkc()),
        '\u{2BC}' | '\u{2018}'..='\u{201B}' => text.push('\''),
        '\u{201C}'..='\u{201F}' => text.push('"'),
        _ => match ligature(c) {
            Some(letters) => text.push_str(letters),
            None => text.push(c),
        },
    }
}

/// The letters of a Latin ligature or digraph that stands for nothing but its letters (so not of æ or œ).
fn ligature(c: char) -> Option<&'static str> {
    let letters = match c {
        'Ĳ' => "IJ",
        'ĳ' => "ij",
        'ŉ' => "'n",
        'Ǳ' => "DZ",
        'ǲ' => "Dz",
        'ǳ' => "dz",
        'Ǆ' => "DŽ",
        'ǅ' => "Dž",
        'ǆ' => "dž",
        'Ǉ' => "LJ",
        'ǈ' => "Lj",
        'ǉ' => "lj",
        'Ǌ' => "NJ",
        'ǋ' => "Nj",
        'ǌ' => "nj",
        'ﬀ' => "ff",
        'ﬁ' => "fi",
        'ﬂ' => "fl",
        'ﬃ' => "ffi",
        'ﬄ' => "ffl",
        'ﬅ' => "ſt",
        'ﬆ' => "st",
        _ => return None,
    };
    Some(letters)
}

/// Control characters without a place in text. Tab, line breaks, joiners, direction marks and tags have one.
fn is_stray_control(c: char) -> bool {
    matches!(c,
        '\0'..='\u{8}' | '\u{B}' | '\u{E}'..='\u{1F}' | '\u{7F}' | '\u{206A}'..='\u{206F}' | '\u{FEFF}'
        | '\u{FFF9}'..='\u{FFFC}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ftfy's loop as it stands there: a round for each level of references.
    fn step_by_step(line: &str) -> String {
        let mut text = line.to_owned();
        loop {
            let fixed = fix_once(&unescape_closed(&text));
            if fixed == text {
                return fixed;
            }
            text = fixed;
        }
    }

    #[test]
    fn references_in_references_are_decoded_at_once_to_what_rounds_make_of_them() {
        const PIECES: [&str; 24] = [
            "&", "&", "&", "amp;", "amp;", "amp;", "#38;", "#x26;", "lt;", "semi;", "semi;", "num;", ";", "#", "a",
            "mp", "1", "ﬁ", "ﬀlig;", "\u{1B}[", "m", "&#xFEFF;", "＆", "\u{338}",
        ];
        let mut state = 5_u64;
        for _ in 0..20_000 {
            let mut piece = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                PIECES[(state >> 33) as usize % PIECES.len()]
            };
            let line: String = (0..12).map(|_| piece()).collect();
            assert_eq!(fix_line(&line, true), step_by_step(&line), "{line:?}");
        }
    }

    #[test]
    fn typography_becomes_plain() {
        assert_eq!(clean("  The\u{a0}“big”\r\n dog’s\tﬂuﬃest  Ｔａｉｌ　 "), "the \"big\" dog's fluffiest tail");
        assert_eq!(clean("ｶﾞﾗｽ"), "ガラス");
        assert_eq!(clean("cafe\u{301}"), "café");
        assert_eq!(clean("\u{1b}[1;31mred\u{1b}[0m\u{feff} \u{85}"), "red …");
    }

    #[test]
    fn lower_case_knows_final_sigma_and_dotted_i() {
        assert_eq!(clean("ΟΔΟΣ ΣΟΦΟΣ"), "οδος σοφος");
        assert_eq!(clean("İstanbul"), "i\u{307}stanbul");
    }

    #[test]
    fn a_tag_leaves_references_to_the_second_rule() {
        // ftfy alone knows &EACUTE;, and leaves it where there is a tag, on that line and on all that follow.
        assert_eq!(clean("CAF&EACUTE;"), "café");
        assert_eq!(clean("<b>CAF&EACUTE;</b>"), "<b>caf&eacute;</b>");
        assert_eq!(clean("CAF&EACUTE;\n<i>\nCAF&EACUTE;"), "café <i> caf&eacute;");
        assert_eq!(clean("<b>CAF&Eacute;</b>"), "<b>café</b>");
    }

    #[test]
    fn mojibake_is_not_guessed_at() {
        // ftfy would make "café" of it.
        assert_eq!(clean("CafÃ©"), "cafã©");
    }

    #[test]
    fn references_are_decoded_to_the_last() {
        assert_eq!(clean("&amp;amp;amp;amp;amp;amp;lt;"), "<");
    }
}
