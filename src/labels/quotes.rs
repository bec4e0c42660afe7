//! Quotes around a label, as in CSV: what they hold is one label, `""` between them is a quote. A quote in the middle
//! (`5" nail board`) is a part of the label.

/// How a text begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Start<'a> {
    Plain,
    /// What the quotes hold, and what follows them.
    Quoted(String, &'a str),
    Unclosed,
}

pub(super) fn start(text: &str) -> Start<'_> {
    let Some(open) = text.chars().next().filter(|&c| is_quote(c)) else { return Start::Plain };
    let closes = |c| if open == '"' { c == '"' } else { c != '"' && is_quote(c) };
    let (mut label, mut rest) = (String::new(), &text[open.len_utf8()..]);
    loop {
        let Some(at) = rest.find(closes) else { return Start::Unclosed };
        label.push_str(&rest[..at]);
        rest = &rest[at..];
        rest = &rest[rest.chars().next().map_or(0, char::len_utf8)..];
        match rest.strip_prefix('"') {
            Some(behind) if open == '"' => {
                label.push('"');
                rest = behind;
            }
            _ => return Start::Quoted(label.trim().to_owned(), rest),
        }
    }
}

/// Whether a quote closes the label that opens nowhere. A quote behind a digit stands for inches.
pub(super) fn closes_alone(label: &str) -> bool {
    let before = std::iter::once(' ').chain(label.chars());
    let quotes = before.zip(label.chars()).filter(|&(before, c)| is_quote(c) && !before.is_ascii_digit()).count();
    let mut last = label.chars().rev();
    let closed = last.next().is_some_and(is_quote) && !last.next().is_some_and(|c| c.is_ascii_digit());
    closed && quotes % 2 == 1
}

/// Whether a single quote opens the label. (`'90s car` has an apostrophe.)
pub(super) fn opens_single(label: &str) -> bool {
    let mut chars = label.chars();
    matches!(chars.next(), Some('\'' | '‘')) && chars.next().is_some_and(|c| !c.is_ascii_digit())
}

pub(super) fn closes_single(label: &str) -> bool {
    label.ends_with(['\'', '’'])
}

fn is_quote(c: char) -> bool {
    matches!(c, '"' | '“' | '”' | '„' | '‟')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_one_label() {
        let quoted = |label: &str, behind| Start::Quoted(label.to_owned(), behind);
        assert_eq!(start("\"tall grass, dry\",dog"), quoted("tall grass, dry", ",dog"));
        assert_eq!(start("“tall grass, dry” ,dog"), quoted("tall grass, dry", " ,dog"));
        assert_eq!(start("„hohes Gras“"), quoted("hohes Gras", ""));
        assert_eq!(start("\"a \"\"big\"\" dog\""), quoted("a \"big\" dog", ""));
        assert_eq!(start("\"\""), quoted("", ""));
        assert_eq!(start("5\" nail"), Start::Plain);
        for text in ["\"dog", "\"", "\"\"\"", "“dog\"", "\"dog”"] {
            assert_eq!(start(text), Start::Unclosed, "{text}");
        }
    }

    #[test]
    fn inch_marks_and_pairs_close_nothing() {
        for label in ["5\" nail board", "pipe 2\"", "sign \"stop\"", "a 5\" \"nail\"", "dog", ""] {
            assert!(!closes_alone(label), "{label}");
        }
        for label in ["dry\"", "dry”", "\"", "5\" nail\""] {
            assert!(closes_alone(label), "{label}");
        }
    }
}
