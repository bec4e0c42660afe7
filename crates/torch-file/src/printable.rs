//! Text from outside as a terminal may show it: names of files and tensors, what stands in a model.

use std::borrow::Cow;

/// `text` as one line that controls nothing: control characters, line and paragraph separators, and what turns the
/// order of writing around come as `\n`, `\u{1b}`, … All other text stays as it is, in any script, emoji too.
///
/// Shown twice, it is the same as shown once.
///
/// ```
/// assert_eq!(torch_file::printable::printable("head\n\u{1b}[31m.bias"), r"head\n\u{1b}[31m.bias");
/// ```
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, controls)
}

/// As [`printable`], but for text of several lines.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c != '\n' && controls(c))
}

/// The longest text of a stranger in a message, in characters.
pub(crate) const LONGEST: usize = 160;

/// A stranger's text for a message: as [`printable`], and not endless: what goes beyond 160 characters as they are shown is
/// `…`.
pub fn shortened(text: &str) -> String {
    let mut left = LONGEST;
    let beyond = text.char_indices().find(|&(_, c)| {
        let shown = if controls(c) { c.escape_debug().count() } else { 1 };
        left.checked_sub(shown).map(|rest| left = rest).is_none()
    });
    match beyond {
        // Exact: a file can have a hundred thousand of these kept.
        Some((end, _)) => [&printable(&text[..end]), "…"].concat(),
        None => printable(text).into_owned(),
    }
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(2 * text.len());
    for c in text.chars() {
        if is_escaped(c) { shown.extend(c.escape_debug()) } else { shown.push(c) }
    }
    shown.shrink_to_fit();
    Cow::Owned(shown)
}

/// The overrides, embeddings and isolates of UAX #9 are among it: with them a line can read as another. The joiners of emoji
/// and the marks that right-to-left text is written with are not.
fn controls(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_controls_a_terminal_is_shown_as_its_name() {
        for (text, shown) in [
            ("a\nerror: b", r"a\nerror: b"),
            ("\u{1b}[2J\u{7}", r"\u{1b}[2J\u{7}"),
            ("\u{9b}2J\r\t\u{7f}", r"\u{9b}2J\r\t\u{7f}"),
            ("a\u{202e}gpj.exe\u{2066}\u{2028}", r"a\u{202e}gpj.exe\u{2066}\u{2028}"),
        ] {
            assert_eq!(printable(text), shown);
            assert_eq!(printable(shown), shown, "escaped twice");
        }
        assert_eq!(printable_lines("a\nb\u{1b}\n"), "a\nb\\u{1b}\n");
    }

    #[test]
    fn what_is_shown_is_cut() {
        let long = "x".repeat(LONGEST);
        assert_eq!(shortened(&long), long);
        assert_eq!(shortened(&format!("{long}y")), format!("{long}…"));
        for (text, shown) in
            [("\u{202e}".repeat(LONGEST), r"\u{202e}".repeat(20)), ("草".repeat(200), "草".repeat(LONGEST))]
        {
            let cut = shortened(&text);
            assert_eq!(cut, format!("{shown}…"));
            assert_eq!((cut.capacity(), shortened(&cut)), (cut.len(), cut), "no spare room, and the same once more");
        }
        // No escape is cut in two.
        assert_eq!(shortened(&format!("{}\u{202e}", &long[1..])), format!("{}…", &long[1..]));
        assert_eq!(shortened(&"\n".repeat(100)), format!("{}…", r"\n".repeat(80)));
    }

    #[test]
    fn text_of_all_scripts_stays() {
        let texts = [
            "tall grass, \"dry\" \\ 'x'",
            "дерево",
            "草地",
            "عشب\u{200f}",
            "می\u{200c}خواهم",
            "e\u{301}",
            "👩\u{200d}🌾",
            "🏴\u{e0067}\u{e0062}\u{e007f}",
            "\u{fe0f}",
        ];
        for text in texts {
            assert!(matches!(printable(text), Cow::Borrowed(same) if same == text), "{text:?}");
        }
    }
}
