//! What ffmpeg is given to read: a file by its path, or a URL of a protocol that is named here. Never anything that ffmpeg would
//! find more in than that.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::checkpoint::printable;
use crate::error::{Error, Result};

/// Protocols that a source may have, and whether what they bring is live whatever is known of it.
const PROTOCOLS: [(&str, bool); 7] =
    [("http", false), ("https", false), ("rtsp", true), ("rtmp", true), ("udp", true), ("tcp", true), ("srt", true)];

/// What a file may lead ffmpeg to read: itself.
const OF_FILES: &str = "file";
/// What a stream may: more of the network (playlists, the parts of RTSP), but no file of this machine.
const OF_URLS: &str = "http,https,httpproxy,rtsp,rtsps,rtp,srtp,rtmp,rtmps,udp,tcp,tls,srt,crypto,data";

/// A file or URL for ffmpeg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A file, whatever its name is.
    File(PathBuf),
    /// A URL; see [`Address::url`].
    Url(String),
}

/// The protocol of what is written as a URL is: letters, digits, `+`, `-` and `.` before `://`.
pub(in crate::video) fn protocol(text: &str) -> Option<&str> {
    let (protocol, _) = text.split_once("://")?;
    let is_protocol = protocol.starts_with(|c: char| c.is_ascii_alphabetic())
        && protocol.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    is_protocol.then_some(protocol)
}

impl Address {
    /// A URL of http, https, rtsp, rtmp, udp, tcp or srt.
    ///
    /// # Errors
    /// [`Error::Video`] for anything else.
    pub fn url(text: &str) -> Result<Address> {
        if known(text).is_some() && !text.contains(char::is_control) {
            return Ok(Address::Url(text.to_owned()));
        }
        let names: Vec<&str> = PROTOCOLS.iter().map(|(name, _)| *name).collect();
        let shown = printable(&without_password(text));
        Err(Error::Video(format!("{shown}: expected a file, or a URL of {}", names.join(", "))))
    }

    /// Whether its frames come as they are taken, whatever ffmpeg says of its length.
    pub(super) fn is_always_live(&self) -> bool {
        matches!(self, Address::Url(text) if known(text) == Some(true))
    }

    /// Whether it is somewhere else.
    pub(super) fn is_url(&self) -> bool {
        matches!(self, Address::Url(_))
    }

    /// Arguments of ffmpeg and ffprobe that name it.
    pub(super) fn input(&self) -> [OsString; 4] {
        let (protocols, name) = match self {
            Address::File(path) => (OF_FILES, file(path)),
            Address::Url(text) => (OF_URLS, text.into()),
        };
        ["-protocol_whitelist".into(), protocols.into(), "-i".into(), name]
    }

    /// For people, without a password.
    pub(super) fn shown(&self) -> String {
        match self {
            Address::File(path) => path.display().to_string(),
            Address::Url(text) => printable(&without_password(text)),
        }
    }

    /// What ffmpeg said, which may have the URL in it.
    pub(super) fn hide(&self, said: &str) -> String {
        match self {
            Address::File(_) => said.to_owned(),
            Address::Url(text) => match password(text) {
                Some(password) => said.replace(&text[password], "***"),
                None => said.to_owned(),
            },
        }
    }
}

/// Of a protocol that is taken: whether it is always live.
fn known(text: &str) -> Option<bool> {
    let protocol = protocol(text)?;
    PROTOCOLS.iter().find(|(name, _)| protocol.eq_ignore_ascii_case(name)).map(|(_, live)| *live)
}

/// A path as ffmpeg takes it: neither an option nor a protocol.
pub(super) fn file(path: &Path) -> OsString {
    let mut name = OsString::from("file:");
    name.push(path);
    name
}

/// Where a URL has a password: `rtsp://user:password@camera/`.
fn password(text: &str) -> Option<std::ops::Range<usize>> {
    let start = text.find("://")? + 3;
    let authority = &text[start..][..text[start..].find(['/', '?', '#']).unwrap_or(text.len() - start)];
    let end = authority.rfind('@')?;
    let from = authority[..end].find(':')? + 1;
    (from < end).then_some(start + from..start + end)
}

fn without_password(text: &str) -> String {
    let mut text = text.to_owned();
    if let Some(password) = password(&text) {
        text.replace_range(password, "***");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_never_an_option_or_a_protocol() {
        for path in ["-y", "concat:a|b", "pipe:0", "http://x/y", "a b.mp4", "%05d.png"] {
            let input = Address::File(path.into()).input();
            assert_eq!(input, ["-protocol_whitelist", "file", "-i", &format!("file:{path}")].map(OsString::from));
        }
    }

    #[test]
    fn urls_of_these_protocols_alone_are_taken() {
        for text in ["http://a/b", "HTTPS://a", "rtsp://u:p@h/s", "rtmp://h", "udp://@:1", "tcp://h:1", "srt://h:2"] {
            let address = Address::url(text).unwrap();
            assert_eq!(address.input()[3], OsString::from(text));
            assert!(
                !address.input()[1].to_str().unwrap().split(',').any(|name| ["file", "pipe", "concat"].contains(&name))
            );
            assert_eq!(address.is_always_live(), !text.to_lowercase().starts_with("http"));
        }
        for text in [
            "file:///etc/passwd",
            "concat://a",
            "ftp://a",
            "x",
            "-i",
            "://",
            "http:/a",
            "http://a\nb",
            "lavfi://testsrc",
        ] {
            let error = Address::url(text).unwrap_err().to_string();
            assert!(
                error.contains("a URL of http, https, rtsp, rtmp, udp, tcp, srt") && !error.contains('\n'),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_written_as_a_url_is_told_from_paths() {
        assert_eq!(protocol("gopher+x://a"), Some("gopher+x"));
        assert_eq!(["a/b://c", "://c", "1x://a", "a", "c:\\a"].map(protocol), [None; 5]);
    }

    #[test]
    fn passwords_are_not_shown() {
        let camera = Address::url("rtsp://me:pa:ss@camera:554/live?x=@").unwrap();
        assert_eq!(camera.shown(), "rtsp://me:***@camera:554/live?x=@");
        assert_eq!(camera.hide("rtsp://me:pa:ss@camera: refused"), "rtsp://me:***@camera: refused");
        let plain = Address::url("http://camera:80/a:b@c").unwrap();
        assert_eq!(plain.shown(), "http://camera:80/a:b@c");
        assert!(Address::url("ftp://me:secret@h").unwrap_err().to_string().starts_with("ftp://me:***@h"));
    }
}
