//! The part of an address behind its question mark.

/// Its names and values, decoded.
pub fn pairs(text: &str) -> impl Iterator<Item = (String, String)> {
    text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key), decoded(value))
    })
}

/// `%41+b` is "A b". What is no such code stays as it is, and what is no Unicode becomes U+FFFD.
fn decoded(text: &str) -> String {
    let (bytes, mut out) = (text.as_bytes(), Vec::with_capacity(text.len()));
    let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((16 * high + low) as u8);
                at += 2;
            }
            (b'+', ..) => out.push(b' '),
            (byte, ..) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Labels that are typed with commas between them.
pub fn labels(text: &str) -> impl Iterator<Item = String> {
    text.split([',', '\n']).map(|label| label.trim().to_owned()).filter(|label| !label.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_decoded() {
        let found: Vec<_> = pairs("labels=tall+grass,%C3%A4&x=%4&&%zz=1&last%").collect();
        let expected = [("labels", "tall grass,ä"), ("x", "%4"), ("%zz", "1"), ("last%", "")];
        assert_eq!(found, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert_eq!(labels(" a, b c,,\nd ").collect::<Vec<_>>(), ["a", "b c", "d"]);
    }
}
