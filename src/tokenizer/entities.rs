//! HTML character references, decoded by two rules: Python's `html.unescape`, which takes whatever it can make sense
//! of, and ftfy's, which takes only references that nobody writes by accident.
//!
//! The names are those of HTML5 (<https://html.spec.whatwg.org/entities.json>).
//!
//! By hand but for the names: no crate knows either rule, both of which differ from the browsers' that htmlize follows.

use std::borrow::Cow;
use std::sync::LazyLock;

use htmlize::ENTITIES;
use regex::{Captures, Regex};

/// Anything that `html.unescape` looks at: `&#65;`, `&#x41`, `&amp;`, `&ampere`.
static REFERENCE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"&(?:#([0-9]+);?|#[xX]([0-9a-fA-F]+);?|[^\t\n\x0C <&#;]{1,32};?)"));

/// What ftfy looks at: a short run of ASCII letters and digits between `&` or `&#` and `;`.
static CLOSED_REFERENCE: LazyLock<Regex> = LazyLock::new(|| pattern(&format!("&#?[0-9A-Za-z]{{1,{LONGEST_CLOSED}}};")));

const LONGEST_CLOSED: usize = 24;

/// What Windows-1252 has at 0x80 to 0x9F, where Latin-1 and Unicode have control characters. It leaves five places
/// empty; there the control characters stay.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8D}', 'Ž', '\u{8F}', '\u{90}', '‘', '’',
    '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9D}', 'ž', 'Ÿ',
];

/// `text` with its references decoded as Python's `html.unescape` does: numbers by the rules of HTML5 (but invalid
/// code points vanish), names with or without a semicolon, the longest known name where none fits exactly.
pub(super) fn unescape(text: &str) -> Cow<'_, str> {
    REFERENCE.replace_all(text, |found: &Captures| {
        if let Some(digits) = found.get(1) {
            return by_number(digits.as_str(), 10);
        }
        if let Some(digits) = found.get(2) {
            return by_number(digits.as_str(), 16);
        }
        by_longest_name(&found[0])
    })
}

/// `text` with its references decoded as ftfy's `unescape_html` does: only complete ones with a semicolon, and of
/// the upper-cased names (`&EACUTE;`) those that mean nothing else.
pub(super) fn unescape_closed(text: &str) -> Cow<'_, str> {
    CLOSED_REFERENCE.replace_all(text, |found: &Captures| closed(&found[0]))
}

/// [`unescape_closed`] until nothing changes, in one pass: what a reference stands for may be a part of another, as in
/// `&amp;lt;`.
pub(super) fn unescape_nested(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return text.into();
    }
    let mut plain = String::with_capacity(text.len());
    // What references stood for, in reverse, to be read again.
    let mut again: Vec<char> = Vec::new();
    for c in text.chars() {
        again.push(c);
        while let Some(c) = again.pop() {
            match closed_by(c, &plain) {
                Some((start, text)) => {
                    plain.truncate(start);
                    again.extend(text.chars().rev());
                }
                None => plain.push(c),
            }
        }
    }
    plain.into()
}

/// Where the reference begins that `c` ends behind `text`, and what it stands for, if that is not itself.
fn closed_by(c: char, text: &str) -> Option<(usize, String)> {
    if c != ';' {
        return None;
    }
    let name = text.bytes().rev().take(LONGEST_CLOSED + 1).take_while(u8::is_ascii_alphanumeric).count();
    let before = &text[..text.len() - name];
    let start = before.strip_suffix('#').unwrap_or(before).strip_suffix('&')?.len();
    let reference = format!("{};", &text[start..]);
    let plain = closed(&reference);
    ((1..=LONGEST_CLOSED).contains(&name) && plain != reference).then_some((start, plain))
}

/// The character that Windows-1252 has in place of a C1 control character; every other character is itself.
pub(super) fn windows_1252(c: char) -> char {
    match c as usize {
        code @ 0x80..=0x9F => WINDOWS_1252[code - 0x80],
        _ => c,
    }
}

fn pattern(source: &str) -> Regex {
    Regex::new(source).expect("a constant pattern")
}

/// What one complete reference (`&…;`) stands for by ftfy's rule; itself where it stands for nothing.
fn closed(reference: &str) -> String {
    if let Some(text) = named(reference) {
        return text.to_owned();
    }
    let loosely = unescape(reference);
    if reference.starts_with("&#") {
        // A semicolon that is left means that only a part was understood.
        return if loosely.contains(';') { reference.to_owned() } else { loosely.into_owned() };
    }
    let shouted = reference == reference.to_ascii_uppercase() && loosely == reference;
    match named(&reference.to_ascii_lowercase()) {
        Some(text) if shouted => text.to_uppercase(),
        _ => reference.to_owned(),
    }
}

/// The text of a named reference, given with its `&` and, where it has one, its semicolon.
fn named(reference: &str) -> Option<&'static str> {
    ENTITIES.get(reference.as_bytes()).and_then(|text| std::str::from_utf8(text).ok())
}

/// Replaces the longest beginning of `reference` that is a known name; `reference` itself where there is none.
fn by_longest_name(reference: &str) -> String {
    let ends = reference.char_indices().map(|(at, c)| at + c.len_utf8()).rev();
    for (known, rest) in ends.map(|end| reference.split_at(end)) {
        if let Some(text) = named(known) {
            return format!("{text}{rest}");
        }
    }
    reference.to_owned()
}

/// The character of a numeric reference; nothing for code points that HTML5 calls invalid, U+FFFD for numbers that
/// are no character at all.
fn by_number(digits: &str, radix: u32) -> String {
    // Digits are all that the pattern lets through, so the only failure is a number that is too large.
    let code = u32::from_str_radix(digits, radix).unwrap_or(u32::MAX);
    match char::from_u32(code) {
        None | Some('\0') => String::from(char::REPLACEMENT_CHARACTER),
        Some('\u{1}'..='\u{8}' | '\u{B}' | '\u{E}'..='\u{1F}' | '\u{7F}' | '\u{FDD0}'..='\u{FDEF}') => String::new(),
        Some(_) if code & 0xFFFE == 0xFFFE => String::new(),
        Some(c) => String::from(windows_1252(c)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loose_rule_is_pythons() {
        for (text, expected) in [
            ("&lt;b&gt;", "<b>"),
            ("fish &amp chips", "fish & chips"),
            ("&notit;", "¬it;"),
            ("&notin;", "∉"),
            ("&nosuch; & &;", "&nosuch; & &;"),
            ("&#65;&#x42;&#X43&#68e", "ABCDe"),
            ("&#0;&#xD800;&#1114112;&#99999999999999999999;", "\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}"),
            ("a&#1;&#x7f;&#xFDD0;&#x1FFFE;b", "ab"),
            ("&#128;&#x81;&#x9F;", "€\u{81}Ÿ"),
            ("&amp;amp;", "&amp;"),
        ] {
            assert_eq!(unescape(text), expected, "{text}");
        }
    }

    #[test]
    fn nested_references_are_decoded_to_the_last() {
        for (text, expected) in [
            ("&amp;amp;amp;lt;", "<"),
            ("&amp&semi;lt&semi;", "<"),
            ("&a&#109;p;eacute;", "é"),
            ("&amp;amp;nosuch; &amp;", "&nosuch; &"),
            ("&amp;NTILDE; &;;&#59;", "Ñ &;;&#59;"),
            ("plain; text", "plain; text"),
        ] {
            assert_eq!(unescape_nested(text), expected, "{text}");
        }
    }

    #[test]
    fn closed_rule_is_ftfys() {
        for (text, expected) in [
            ("this&not that &notit; &amp", "this&not that &notit; &amp"),
            ("P&eacute;rez P&EACUTE;REZ", "Pérez PÉREZ"),
            ("&ntilde; &Ntilde; &NTILDE; &nTILDE;", "ñ Ñ Ñ &nTILDE;"),
            ("BUNDESSTRA&SZLIG;E", "BUNDESSTRASSE"),
            ("&LTIMES;", "&LTIMES;"),
            ("&#x41; &#59; &#12ab; &#x;", "A &#59; &#12ab; &#x;"),
        ] {
            assert_eq!(unescape_closed(text), expected, "{text}");
        }
    }
}
