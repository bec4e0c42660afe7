//! The formats of `printf`, as C and the CUDA C++ Programming Guide have them.

use super::registers::Done;
use crate::fault::BadAccess;

/// Wider fields and longer fractions are cut to this.
const MOST_WIDTH: usize = 4096;

pub(super) type Read<T> = Result<T, Box<BadAccess>>;

/// Where a format's values come from, one after the other.
pub(super) trait Values {
    /// The next value, of 4 or 8 bytes.
    fn next(&mut self, bytes: usize) -> Read<u64>;
    fn text(&mut self, address: u64) -> Read<Vec<u8>>;
}

/// A conversion: `%-08.3lld`.
#[derive(Clone, Copy, Default)]
struct Conversion {
    left: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    zeros: bool,
    width: Option<Number>,
    precision: Option<Number>,
    /// Bytes of an integer: 1, 2, 4 or 8.
    bytes: usize,
    kind: u8,
}

#[derive(Clone, Copy)]
enum Number {
    Fixed(usize),
    /// `*`: the next value.
    Value,
}

/// A piece of a format.
enum Piece<'f> {
    Text(&'f [u8]),
    Conversion(Conversion),
}

/// Splits off the first piece. What is no conversion is text.
fn piece(format: &[u8]) -> (Piece<'_>, &[u8]) {
    if format.first() != Some(&b'%') {
        let end = format.iter().position(|&byte| byte == b'%').unwrap_or(format.len());
        let (text, rest) = format.split_at(end);
        return (Piece::Text(text), rest);
    }
    match conversion(&format[1..]) {
        Some((Conversion { kind: b'%', .. }, rest)) => (Piece::Text(b"%"), rest),
        Some((conversion, rest)) => (Piece::Conversion(conversion), rest),
        None => {
            let (text, rest) = format.split_at(1);
            (Piece::Text(text), rest)
        }
    }
}

fn conversion(mut rest: &[u8]) -> Option<(Conversion, &[u8])> {
    let mut found = Conversion { bytes: 4, ..Conversion::default() };
    while let Some((&byte, tail)) = rest.split_first() {
        match byte {
            b'-' => found.left = true,
            b'+' => found.plus = true,
            b' ' => found.space = true,
            b'#' => found.alternate = true,
            b'0' => found.zeros = true,
            _ => break,
        }
        rest = tail;
    }
    (found.width, rest) = number(rest);
    if let Some(tail) = rest.strip_prefix(b".") {
        let (precision, tail) = number(tail);
        found.precision = precision.or(Some(Number::Fixed(0)));
        rest = tail;
    }
    for (prefix, bytes) in [("hh", 1), ("h", 2), ("ll", 8), ("l", 8), ("j", 8), ("z", 8), ("t", 8), ("L", 8)] {
        if let Some(tail) = rest.strip_prefix(prefix.as_bytes()) {
            (found.bytes, rest) = (bytes, tail);
            break;
        }
    }
    let (&kind, rest) = rest.split_first()?;
    found.kind = kind;
    b"diouxXcpsfFeEgGaA%".contains(&kind).then_some((found, rest))
}

fn number(rest: &[u8]) -> (Option<Number>, &[u8]) {
    if let Some(tail) = rest.strip_prefix(b"*") {
        return (Some(Number::Value), tail);
    }
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return (None, rest);
    }
    let (digits, tail) = rest.split_at(digits);
    let value = digits.iter().fold(0usize, |value, digit| (value * 10 + usize::from(digit - b'0')).min(MOST_WIDTH));
    (Some(Number::Fixed(value)), tail)
}

/// How many values a format names.
pub(super) fn values(mut format: &[u8]) -> usize {
    let mut count = 0;
    while !format.is_empty() {
        let (found, rest) = piece(format);
        if let Piece::Conversion(c) = found {
            let starred = [c.width, c.precision].into_iter().flatten().filter(|n| matches!(n, Number::Value));
            count += 1 + starred.count();
        }
        format = rest;
    }
    count
}

/// Writes a format with its values.
pub(super) fn write(mut format: &[u8], source: &mut impl Values, out: &mut Vec<u8>) -> Done {
    while !format.is_empty() {
        let (found, rest) = piece(format);
        match found {
            Piece::Text(text) => out.extend_from_slice(text),
            Piece::Conversion(conversion) => convert(conversion, source, out)?,
        }
        format = rest;
    }
    Ok(())
}

fn convert(mut c: Conversion, source: &mut impl Values, out: &mut Vec<u8>) -> Done {
    let width = match c.width {
        None => 0,
        Some(Number::Fixed(width)) => width,
        Some(Number::Value) => {
            let width = source.next(4)? as i32;
            c.left |= width < 0;
            (width.unsigned_abs() as usize).min(MOST_WIDTH)
        }
    };
    let precision = match c.precision {
        None => None,
        Some(Number::Fixed(precision)) => Some(precision),
        Some(Number::Value) => usize::try_from(source.next(4)? as i32).ok().map(|n| n.min(MOST_WIDTH)),
    };
    let (sign, body): (String, Vec<u8>) = match c.kind {
        b's' => {
            let address = source.next(8)?;
            let mut text = source.text(address)?;
            text.truncate(precision.unwrap_or(usize::MAX));
            c.zeros = false;
            (String::new(), text)
        }
        b'c' => {
            c.zeros = false;
            (String::new(), vec![source.next(4)? as u8])
        }
        b'p' => ("0x".to_owned(), format!("{:x}", source.next(8)?).into_bytes()),
        b'd' | b'i' => {
            let value = source.next(c.bytes.max(4))?;
            let value = match c.bytes {
                1 => i64::from(value as i8),
                2 => i64::from(value as i16),
                4 => i64::from(value as i32),
                _ => value as i64,
            };
            c.zeros &= precision.is_none();
            (sign(c, value < 0), digits(value.unsigned_abs().to_string(), value == 0, precision).into_bytes())
        }
        b'o' | b'u' | b'x' | b'X' => {
            let value = source.next(c.bytes.max(4))? & (u64::MAX >> (64 - 8 * c.bytes));
            let (text, prefix) = match c.kind {
                b'o' => (format!("{value:o}"), "0"),
                b'u' => (value.to_string(), ""),
                b'x' => (format!("{value:x}"), "0x"),
                _ => (format!("{value:X}"), "0X"),
            };
            let prefix = if c.alternate && value != 0 { prefix } else { "" };
            c.zeros &= precision.is_none();
            (prefix.to_owned(), digits(text, value == 0, precision).into_bytes())
        }
        _ => {
            let value = f64::from_bits(source.next(8)?);
            c.zeros &= value.is_finite();
            let mut sign = sign(c, value.is_sign_negative() && !value.is_nan());
            let mut text = float(c, value.abs(), precision);
            if c.kind.is_ascii_uppercase() {
                text.make_ascii_uppercase();
            }
            if c.kind.eq_ignore_ascii_case(&b'a') && value.is_finite() {
                sign.push_str(if c.kind == b'a' { "0x" } else { "0X" });
            }
            (sign, text.into_bytes())
        }
    };
    let fill = width.saturating_sub(sign.len() + body.len());
    let (before, zeros) = match (c.left, c.zeros) {
        (true, _) => (0, 0),
        (false, true) => (0, fill),
        (false, false) => (fill, 0),
    };
    out.extend(std::iter::repeat_n(b' ', before));
    out.extend_from_slice(sign.as_bytes());
    out.extend(std::iter::repeat_n(b'0', zeros));
    out.extend_from_slice(&body);
    out.extend(std::iter::repeat_n(b' ', fill - before - zeros));
    Ok(())
}

fn sign(c: Conversion, negative: bool) -> String {
    let sign = if negative {
        "-"
    } else if c.plus {
        "+"
    } else if c.space {
        " "
    } else {
        ""
    };
    sign.to_owned()
}

/// At least `precision` digits; zero with precision 0 has none.
fn digits(text: String, is_zero: bool, precision: Option<usize>) -> String {
    match precision {
        Some(0) if is_zero => String::new(),
        Some(least) => "0".repeat(least.saturating_sub(text.len())) + &text,
        None => text,
    }
}

/// A magnitude, in lower case.
fn float(c: Conversion, value: f64, precision: Option<usize>) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return "inf".to_owned();
    }
    match c.kind.to_ascii_lowercase() {
        b'f' => fixed(value, precision.unwrap_or(6), c.alternate),
        b'e' => scientific(value, precision.unwrap_or(6), c.alternate),
        b'g' => general(value, precision.unwrap_or(6).max(1), c.alternate),
        _ => hexadecimal(value, precision, c.alternate),
    }
}

fn fixed(value: f64, precision: usize, point: bool) -> String {
    let text = format!("{value:.precision$}");
    if point && precision == 0 { text + "." } else { text }
}

/// C's exponents have a sign and two digits at least.
fn scientific(value: f64, precision: usize, point: bool) -> String {
    let text = format!("{value:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let point = if point && precision == 0 { "." } else { "" };
    format!("{digits}{point}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.unsigned_abs())
}

/// The shorter of both, without zeros at the end (unless `.alternate`).
fn general(value: f64, precision: usize, alternate: bool) -> String {
    let text = scientific(value, precision - 1, false);
    let exponent: i32 = text.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0);
    let in_fixed = (-4..precision as i32).contains(&exponent);
    let text = if in_fixed { fixed(value, (precision as i32 - 1 - exponent) as usize, alternate) } else { text };
    if alternate {
        return text;
    }
    let (digits, exponent) = text.split_at(text.find('e').unwrap_or(text.len()));
    let digits = if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits };
    format!("{digits}{exponent}")
}

/// `1.8p+3`: hexadecimal digits of the significand, rounded to even.
fn hexadecimal(value: f64, precision: Option<usize>, point: bool) -> String {
    let bits = value.to_bits();
    let (field, fraction) = ((bits >> 52 & 0x7ff) as i32, bits & ((1 << 52) - 1));
    let exponent = match (field, fraction) {
        (0, 0) => 0,
        (0, _) => -1022,
        _ => field - 1023,
    };
    let mut significand = fraction | if field == 0 { 0 } else { 1 << 52 };
    let kept = precision.unwrap_or(13);
    if kept < 13 {
        let cut = 4 * (13 - kept);
        let (rest, half) = (significand & ((1 << cut) - 1), 1u64 << (cut - 1));
        significand >>= cut;
        significand += u64::from(rest > half || rest == half && significand & 1 == 1);
        significand <<= cut;
    }
    let mut digits = format!("{:013x}", significand & ((1 << 52) - 1));
    match precision {
        None => digits.truncate(digits.trim_end_matches('0').len()),
        Some(precision) => {
            digits.truncate(precision);
            digits.extend(std::iter::repeat_n('0', precision.saturating_sub(13)));
        }
    }
    let point = if point || !digits.is_empty() { "." } else { "" };
    format!("{}{point}{digits}p{exponent:+}", significand >> 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct List(Vec<u64>);

    impl Values for List {
        fn next(&mut self, _: usize) -> Read<u64> {
            Ok(self.0.remove(0))
        }

        fn text(&mut self, address: u64) -> Read<Vec<u8>> {
            Ok(if address == 1 { b"text".to_vec() } else { Vec::new() })
        }
    }

    fn printed(format: &str, values: &[u64]) -> String {
        let mut out = Vec::new();
        write(format.as_bytes(), &mut List(values.to_vec()), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn float(format: &str, value: f64) -> String {
        printed(format, &[value.to_bits()])
    }

    #[test]
    fn integers() {
        assert_eq!(printed("%d %i|%5d|%-5d|%05d", &[u64::MAX, 7, 42, 42, -42i64 as u64]), "-1 7|   42|42   |-0042");
        assert_eq!(printed("%+d % d %.3d [%.0d]", &[1, 1, 7, 0]), "+1  1 007 []");
        assert_eq!(
            printed("%u %lu %hhu %hd", &[u64::MAX, u64::MAX, 0x1ff, 0xffff]),
            "4294967295 18446744073709551615 255 -1"
        );
        assert_eq!(printed("%x %#X %o %#o %#x %08x", &[255, 255, 8, 8, 0, 48879]), "ff 0XFF 10 010 0 0000beef");
        assert_eq!(printed("%lld %zu %*d|%-*d|", &[1 << 40, 3, 4, 7, 4, 7]), "1099511627776 3    7|7   |");
        assert_eq!(printed("%*d|", &[-4i32 as u32 as u64, 7]), "7   |");
    }

    #[test]
    fn floats() {
        assert_eq!(float("%f", -1.5), "-1.500000");
        assert_eq!(float("%.0f", 2.5), "2");
        assert_eq!(float("%#.0f", 2.5), "2.");
        assert_eq!(float("%8.3f", 2.71841), "   2.718");
        assert_eq!(float("%08.2f", -2.71841), "-0002.72");
        assert_eq!(float("%e", 12345.678), "1.234568e+04");
        assert_eq!(float("%.2E", 1e-5), "1.00E-05");
        assert_eq!(float("%e", 1e300), "1.000000e+300");
        assert_eq!(float("%g", 0.0001), "0.0001");
        assert_eq!(float("%g", 0.00001), "1e-05");
        assert_eq!(float("%g", 100000.0), "100000");
        assert_eq!(float("%g", 999999.5), "1e+06");
        assert_eq!(float("%.3g", 1234.0), "1.23e+03");
        assert_eq!(float("%#g", 1.0), "1.00000");
        assert_eq!(float("%g", 0.0), "0");
        assert_eq!(float("%05f|", f64::INFINITY), "  inf|");
        assert_eq!(float("%F", f64::NEG_INFINITY), "-INF");
        assert_eq!(float("%f", f64::NAN), "nan");
        assert_eq!(float("%a", 1.5), "0x1.8p+0");
        assert_eq!(float("%.1a", 1.96875), "0x2.0p+0");
        assert_eq!(float("%A", -0.1), "-0X1.999999999999AP-4");
        assert_eq!(float("%a", 0.0), "0x0p+0");
    }

    #[test]
    fn texts_and_what_is_no_conversion() {
        assert_eq!(printed("%s|%6s|%-6s|%.2s|%c%%", &[1, 1, 1, 1, 65]), "text|  text|text  |te|A%");
        assert_eq!(printed("%p", &[0x7f00]), "0x7f00");
        assert_eq!(printed("100%", &[]), "100%");
        assert_eq!(printed("%k %", &[]), "%k %");
        assert_eq!((values(b"%d %% %s %*.*f"), values(b"")), (5, 0));
    }
}
