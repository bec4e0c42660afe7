//! PTX text → tokens, each with its line.

use super::LoadError;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    /// A name: `mov`, `%r1`, `$L__BB0_2`, `_ZN3foo`.
    Name(&'a str),
    /// What follows a dot, `::` included: `.global` is `global`, `.L2::128B` is `L2::128B`.
    Dotted(&'a str),
    /// The digits' value; a minus sign is a token of its own.
    Int(u64),
    /// `0f3F800000`
    F32(u32),
    /// `0d3FF0000000000000`, and decimal numbers with a point.
    F64(u64),
    Text(&'a str),
    Punct(u8),
}

/// A token and its line, from 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placed<'a> {
    pub token: Token<'a>,
    pub line: u32,
}

/// The tokens of a whole module; comments are dropped.
pub fn tokens(text: &str) -> Result<Vec<Placed<'_>>, LoadError> {
    let mut lexer = Lexer { text, bytes: text.as_bytes(), at: 0, line: 1 };
    let mut found = Vec::with_capacity(text.len() / 4);
    while let Some(placed) = lexer.next()? {
        found.push(placed);
    }
    Ok(found)
}

struct Lexer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    line: u32,
}

fn begins_name(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'$' | b'%')
}

fn continues_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$')
}

impl<'a> Lexer<'a> {
    fn peek(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn error<T>(&self, what: impl Into<String>) -> Result<T, LoadError> {
        Err(LoadError::Syntax { line: self.line, what: what.into() })
    }

    /// The text from `start` to here. Both ends lie beside ASCII bytes.
    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or("")
    }

    fn skip_while(&mut self, keep: impl Fn(u8) -> bool) {
        while self.at < self.bytes.len() && keep(self.peek(0)) {
            self.at += 1;
        }
    }

    /// White space and comments.
    fn skip_space(&mut self) -> Result<(), LoadError> {
        loop {
            match (self.peek(0), self.peek(1)) {
                (b'\n', _) => {
                    self.line = self.line.saturating_add(1);
                    self.at += 1;
                }
                (b' ' | b'\t' | b'\r', _) => self.at += 1,
                (b'/', b'/') => self.skip_while(|byte| byte != b'\n'),
                (b'/', b'*') => self.skip_block_comment()?,
                _ => return Ok(()),
            }
        }
    }

    fn skip_block_comment(&mut self) -> Result<(), LoadError> {
        let rest = self.text.get(self.at + 2..).unwrap_or("");
        let Some(length) = rest.find("*/") else {
            return self.error("a comment `/*` without its end `*/`");
        };
        let lines = rest.bytes().take(length).filter(|&byte| byte == b'\n').count();
        self.line = self.line.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
        self.at += length + 4;
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Placed<'a>>, LoadError> {
        self.skip_space()?;
        if self.at >= self.bytes.len() {
            return Ok(None);
        }
        let line = self.line;
        let start = self.at;
        let token = match self.peek(0) {
            byte if begins_name(byte) && (byte != b'%' || continues_name(self.peek(1))) => {
                self.at += 1;
                self.skip_while(continues_name);
                Token::Name(self.since(start))
            }
            b'.' if continues_name(self.peek(1)) => self.dotted(),
            byte if byte.is_ascii_digit() => self.number()?,
            b'"' => self.string()?,
            byte if byte.is_ascii_punctuation() => {
                self.at += 1;
                Token::Punct(byte)
            }
            byte => return self.error(format!("the byte {byte:#04x} is not part of PTX")),
        };
        Ok(Some(Placed { token, line }))
    }

    fn dotted(&mut self) -> Token<'a> {
        self.at += 1;
        let start = self.at;
        self.skip_while(continues_name);
        while self.peek(0) == b':' && self.peek(1) == b':' && continues_name(self.peek(2)) {
            self.at += 2;
            self.skip_while(continues_name);
        }
        Token::Dotted(self.since(start))
    }

    fn string(&mut self) -> Result<Token<'a>, LoadError> {
        self.at += 1;
        let start = self.at;
        self.skip_while(|byte| byte != b'"' && byte != b'\n');
        if self.peek(0) != b'"' {
            return self.error("a string without its closing quote");
        }
        let text = self.since(start);
        self.at += 1;
        Ok(Token::Text(text))
    }

    fn number(&mut self) -> Result<Token<'a>, LoadError> {
        let start = self.at;
        self.skip_while(|byte| byte.is_ascii_alphanumeric());
        let word = self.since(start);
        let value = match word.as_bytes() {
            [b'0', b'f' | b'F', ..] if word.len() == 10 => {
                u32::from_str_radix(word.get(2..).unwrap_or(""), 16).ok().map(Token::F32)
            }
            [b'0', b'd' | b'D', ..] if word.len() == 18 => {
                u64::from_str_radix(word.get(2..).unwrap_or(""), 16).ok().map(Token::F64)
            }
            _ if self.peek(0) == b'.' && self.peek(1).is_ascii_digit() => self.decimal(start),
            _ => integer(word).map(Token::Int),
        };
        match value {
            Some(token) => Ok(token),
            None => self.error(format!("`{word}` is not a number")),
        }
    }

    /// `1.5`, `2.0e10`, `1.0E-3`; the fraction begins here.
    fn decimal(&mut self, start: usize) -> Option<Token<'a>> {
        self.at += 1;
        self.skip_while(|byte| byte.is_ascii_alphanumeric());
        let exponent = self.since(start).ends_with(['e', 'E']);
        if exponent && matches!(self.peek(0), b'+' | b'-') {
            self.at += 1;
            self.skip_while(|byte| byte.is_ascii_digit());
        }
        self.since(start).parse::<f64>().ok().map(|value| Token::F64(value.to_bits()))
    }
}

/// Decimal, `0x…`, `0b…`, or octal with a leading 0; `U` may follow.
fn integer(word: &str) -> Option<u64> {
    let digits = word.strip_suffix(['U', 'u']).unwrap_or(word);
    match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => u64::from_str_radix(digits.get(2..)?, 16).ok(),
        [b'0', b'b' | b'B', ..] => u64::from_str_radix(digits.get(2..)?, 2).ok(),
        [b'0', _, ..] => u64::from_str_radix(digits, 8).ok(),
        _ => digits.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(text: &str) -> Vec<Token<'_>> {
        tokens(text).unwrap().into_iter().map(|placed| placed.token).collect()
    }

    #[test]
    fn numbers_in_every_base() {
        assert_eq!(
            only("12 0x1F 0XfFU 017 0b101 0 7U 0f3F800000 0d3FF0000000000000 1.5 1.0e-2"),
            [
                Token::Int(12),
                Token::Int(31),
                Token::Int(255),
                Token::Int(15),
                Token::Int(5),
                Token::Int(0),
                Token::Int(7),
                Token::F32(0x3f80_0000),
                Token::F64(0x3ff0_0000_0000_0000),
                Token::F64(1.5f64.to_bits()),
                Token::F64(0.01f64.to_bits()),
            ]
        );
    }

    #[test]
    fn names_and_modifiers() {
        assert_eq!(
            only("cp.async.L2::128B %tid.x"),
            [
                Token::Name("cp"),
                Token::Dotted("async"),
                Token::Dotted("L2::128B"),
                Token::Name("%tid"),
                Token::Dotted("x"),
            ]
        );
    }

    #[test]
    fn lines_count_through_comments() {
        let found = tokens("a // b\n/* c\n d */ e").unwrap();
        assert_eq!(found.iter().map(|placed| placed.line).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn errors_have_the_line() {
        let error = tokens("a\n b 0xZZ").unwrap_err();
        assert_eq!(error, LoadError::Syntax { line: 2, what: "`0xZZ` is not a number".to_owned() });
        for text in ["/*", "\"x", "\u{e9}", "0f12", "99999999999999999999"] {
            assert!(tokens(text).is_err(), "{text}");
        }
    }
}
