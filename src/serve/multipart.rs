//! Forms with files (RFC 7578), whole in memory: what comes is bounded before it is read here.
//!
//! By hand: the crate multer reads streams, and brings the tables of all old encodings.

use super::refusal::Refusal;

/// A field's name and its bytes.
pub type Field<'a> = (String, &'a [u8]);

/// The boundary that a content type names, of a form.
pub fn boundary(content_type: &str) -> Option<&str> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"'))
    })
}

/// The fields of a form.
///
/// # Errors
/// It is none, or is cut short.
pub fn fields<'a>(body: &'a [u8], boundary: &str) -> Result<Vec<Field<'a>>, Refusal> {
    let broken = || Refusal::wrong("a form that is cut short or not as RFC 7578 has it");
    if boundary.is_empty() || boundary.len() > 70 {
        return Err(broken());
    }
    let delimiter = format!("\r\n--{boundary}");
    let first = &delimiter.as_bytes()[2..];
    let start = if body.starts_with(first) {
        first.len()
    } else {
        find(body, delimiter.as_bytes()).ok_or_else(broken)? + delimiter.len()
    };
    let (mut rest, mut fields) = (&body[start..], Vec::new());
    while !rest.starts_with(b"--") {
        let head_end = find(rest, b"\r\n\r\n").ok_or_else(broken)?;
        let content = &rest[head_end + 4..];
        let end = find(content, delimiter.as_bytes()).ok_or_else(broken)?;
        let head = String::from_utf8_lossy(&rest[..head_end]);
        fields.push((name(&head).ok_or_else(broken)?, &content[..end]));
        rest = &content[end + delimiter.len()..];
    }
    Ok(fields)
}

/// `Content-Disposition: form-data; name="photo"; filename="a.jpg"` is "photo".
fn name(head: &str) -> Option<String> {
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"))?;
    let named = line.split(';').find_map(|part| part.trim().strip_prefix("name="))?;
    Some(named.trim_matches('"').to_owned())
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + bytes.get(from..)?.iter().position(|byte| *byte == what[0])?;
        if bytes[at..].starts_with(what) {
            return Some(at);
        }
        from = at + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_its_fields() {
        let kind = "multipart/form-data; charset=utf-8; boundary=\"x-y\"";
        assert_eq!(boundary(kind), Some("x-y"));
        assert_eq!(boundary("image/jpeg; boundary=x"), None);
        let body = b"--x-y\r\nContent-Disposition: form-data; name=\"photo\"; filename=\"a;b.jpg\"\r\nContent-Type: image/jpeg\r\n\r\n\
            \xff\r\n--x\r\n\r\n--x-y\r\ncontent-disposition: form-data; name=labels\r\n\r\ndog, cat\r\n--x-y--\r\n";
        let found = fields(body, "x-y").unwrap();
        assert_eq!(found, [("photo".to_owned(), &b"\xff\r\n--x\r\n"[..]), ("labels".to_owned(), &b"dog, cat"[..])]);
        // Cut anywhere it is refused, and never a panic.
        for end in 0..body.len() - 4 {
            assert!(fields(&body[..end], "x-y").is_err(), "{end}");
        }
        assert!(fields(body, "").is_err() && fields(b"", "x").is_err());
    }
}
