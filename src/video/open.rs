//! From what somebody writes to a source.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::ffmpeg::protocol;
use super::{
    Address, CameraOptions, DEFAULT_MAX_PIXELS, Decoded, Ffmpeg, FfmpegOptions, Folder, Programs, Rate, Raw,
    RawOptions, Source, Y4m, Y4mOptions,
};
use crate::error::{Error, Result};
use crate::pixels::{Format, YuvMatrix};

/// In place of a source's name: standard input.
const STANDARD: &str = "-";
/// In place of a camera's: the first.
const CAMERA: &str = "camera";
/// Where cameras are.
const CAMERAS: [&str; 2] = ["/dev/video", "/dev/v4l/"];

/// How a source is read, whatever it is.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// Of standard input: frames without a header, of this format, width and height.
    pub raw: Option<(Format, usize, usize)>,
    /// Frames a second of what does not say: folders (30 otherwise) and raw frames.
    pub rate: Option<Rate>,
    /// Standard input brings frames as they are taken: the newest matters, and they have the time of day.
    pub live: bool,
    /// What luma means in YUV4MPEG2, which does not say.
    pub matrix: YuvMatrix,
    /// What ffmpeg makes of videos.
    pub decoded: Decoded,
    /// Where ffmpeg is.
    pub programs: Programs,
    /// Of cameras; `max_pixels` and `patience` are those below.
    pub camera: CameraOptions,
    /// Pixels of a frame at most.
    pub max_pixels: u64,
    /// A camera or URL from which nothing comes for so long is lost; by default 5 s and 10 s.
    pub patience: Option<std::time::Duration>,
}

impl Default for SourceOptions {
    fn default() -> SourceOptions {
        SourceOptions {
            raw: None,
            rate: None,
            live: false,
            matrix: YuvMatrix::Bt601,
            decoded: Decoded::Nv12,
            programs: Programs::default(),
            camera: CameraOptions::default(),
            max_pixels: DEFAULT_MAX_PIXELS,
            patience: None,
        }
    }
}

impl SourceOptions {
    fn y4m(&self, live: bool) -> Y4mOptions {
        Y4mOptions { max_pixels: self.max_pixels, matrix: self.matrix, live }
    }

    fn raw_of(&self, (format, width, height): (Format, usize, usize)) -> RawOptions {
        RawOptions { format, width, height, rate: self.rate, live: self.live, max_pixels: self.max_pixels }
    }

    fn ffmpeg(&self) -> FfmpegOptions {
        let own = FfmpegOptions::default();
        let (patience, programs) = (self.patience.unwrap_or(own.patience), self.programs.clone());
        FfmpegOptions { decoded: self.decoded, max_pixels: self.max_pixels, patience, programs }
    }

    fn camera(&self) -> CameraOptions {
        let camera = self.camera.clone();
        let patience = self.patience.unwrap_or(camera.patience);
        CameraOptions { max_pixels: self.max_pixels, patience, ..camera }
    }
}

/// What a text names.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Standard,
    FirstCamera,
    Camera(PathBuf),
    Folder(PathBuf),
    Y4m(PathBuf),
    Video(Address),
}

/// Opens what `spec` names:
///
/// | `spec` | source |
/// |---|---|
/// | `/dev/video0`, `/dev/v4l/by-id/…` | that camera |
/// | `camera` | the first that gives frames |
/// | `-` | YUV4MPEG2 on standard input, or raw frames |
/// | `http`, `https`, `rtsp`, `rtmp`, `udp`, `tcp`, `srt` and `://…` | through ffmpeg |
/// | a folder | its photos by name |
/// | a file or pipe `.y4m` | YUV4MPEG2 |
/// | another file | a video, through ffmpeg |
///
/// A file named `-` or `camera` is read as `./-` or `./camera`.
///
/// # Errors
/// What is not there is named, with what there is; and those of each source.
pub fn open(spec: &str, options: &SourceOptions) -> Result<Box<dyn Source>> {
    Ok(match kind(spec)? {
        Kind::Standard => match options.raw {
            Some(raw) => Box::new(Raw::new(io::stdin(), "standard input", options.raw_of(raw))?),
            None => Box::new(Y4m::new(io::stdin(), "standard input", options.y4m(options.live))?),
        },
        Kind::FirstCamera => camera(None, &options.camera())?,
        Kind::Camera(path) => camera(Some(&path), &options.camera())?,
        Kind::Folder(path) => Box::new(Folder::open(&path, rate_of_photos(options), options.max_pixels)?),
        Kind::Y4m(path) => {
            let file = File::open(&path).map_err(|error| Error::io("open", &path, error))?;
            Box::new(Y4m::new(file, spec, options.y4m(false))?)
        }
        Kind::Video(address) => Box::new(Ffmpeg::open(&address, &options.ffmpeg())?),
    })
}

fn rate_of_photos(options: &SourceOptions) -> Rate {
    options.rate.or(Rate::new(30, 1)).expect("30 is a rate")
}

/// What is there comes first: a folder may be called `http:`.
fn kind(spec: &str) -> Result<Kind> {
    let path = Path::new(spec);
    if spec == STANDARD {
        return Ok(Kind::Standard);
    }
    if spec == CAMERA {
        return Ok(Kind::FirstCamera);
    }
    if CAMERAS.iter().any(|start| spec.starts_with(start)) {
        return Ok(Kind::Camera(path.to_owned()));
    }
    match fs::metadata(path) {
        Ok(data) => Ok(there(path, &data)),
        Err(_) if protocol(spec).is_some() => Ok(Kind::Video(Address::url(spec)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::Video(format!(
            "{}: no such file or folder; expected a camera (/dev/video0, camera), a video, a URL, a folder of photos, or - for \
             YUV4MPEG2 on standard input",
            path.display()
        ))),
        Err(error) => Err(Error::io("open", path, error)),
    }
}

fn there(path: &Path, data: &fs::Metadata) -> Kind {
    let is_y4m = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("y4m"));
    if data.is_dir() {
        Kind::Folder(path.to_owned())
    } else if is_character_device(data) {
        // A link to a camera under another name. What is none says so itself.
        Kind::Camera(path.to_owned())
    } else if is_y4m {
        Kind::Y4m(path.to_owned())
    } else {
        Kind::Video(Address::File(path.to_owned()))
    }
}

#[cfg(unix)]
fn is_character_device(data: &fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_char_device(&data.file_type())
}

#[cfg(not(unix))]
fn is_character_device(_: &fs::Metadata) -> bool {
    false
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn camera(path: Option<&Path>, options: &CameraOptions) -> Result<Box<dyn Source>> {
    let path = path.map_or_else(super::v4l2::first, |path| Ok(path.to_owned()))?;
    Ok(Box::new(super::Camera::open(&path, options)?))
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
fn camera(_: Option<&Path>, _: &CameraOptions) -> Result<Box<dyn Source>> {
    Err(Error::Video(
        "cameras are read on 64-bit Linux alone; ffmpeg can bring theirs here (ffmpeg … -f yuv4mpegpipe - |)"
            .to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(spec: &str) -> Kind {
        kind(spec).unwrap()
    }

    fn refused(spec: &str) -> String {
        let error = kind(spec).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    }

    #[test]
    fn names_that_mean_something_else_than_a_file() {
        assert_eq!(of("-"), Kind::Standard);
        assert_eq!(of("camera"), Kind::FirstCamera);
        assert_eq!(of("/dev/video7"), Kind::Camera("/dev/video7".into()));
        assert_eq!(of("/dev/v4l/by-id/x"), Kind::Camera("/dev/v4l/by-id/x".into()));
        assert_eq!(of("rtsp://h/1"), Kind::Video(Address::url("rtsp://h/1").unwrap()));
        assert!(refused("ftp://h/x").contains("a URL of http, https"));
        assert!(refused("concat:a|b").contains("concat:a|b: no such file or folder; expected a camera"));
        assert!(refused("-y").contains("-y: no such file"));
        assert!(refused("").contains("no such file"));
    }

    #[test]
    fn files_and_folders_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| {
            let path = folder.path().join(name);
            fs::write(&path, "x").unwrap();
            path
        };
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        assert_eq!(of(&text(folder.path())), Kind::Folder(folder.path().to_owned()));
        let [y4m, film] = [at("a.Y4M"), at("b.mp4")];
        assert_eq!(of(&text(&y4m)), Kind::Y4m(y4m));
        assert_eq!(of(&text(&film)), Kind::Video(Address::File(film)));
        // As deep as a URL, and there.
        fs::create_dir(folder.path().join("http:")).unwrap();
        let odd = folder.path().join("http:").join("x");
        fs::write(&odd, "x").unwrap();
        let odd = format!("{}//x", folder.path().join("http:").display());
        assert_eq!(of(&odd), Kind::Video(Address::File(odd.into())));
        #[cfg(unix)]
        assert_eq!(of("/dev/null"), Kind::Camera("/dev/null".into()));
    }

    #[test]
    fn what_is_opened_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.y4m");
        fs::write(&path, "YUV4MPEG2 W4 H2 F25:1\nFRAME\n0123456789ab").unwrap();
        let mut source = open(path.to_str().unwrap(), &SourceOptions::default()).unwrap();
        assert!(source.describe().ends_with("a.y4m: nv12, 4×2 at 25 frames a second"), "{}", source.describe());
        let mut room = super::super::tests::Memory::default();
        assert!(matches!(source.next(&mut room).unwrap(), super::super::Next::Frame(_)));
        assert_eq!(room.bytes, b"012345678a9b");
        let small = SourceOptions { max_pixels: 7, ..SourceOptions::default() };
        assert!(open(path.to_str().unwrap(), &small).err().unwrap().to_string().contains("more than the 7 allowed"));

        let error = open(folder.path().join("x/").to_str().unwrap(), &SourceOptions::default()).err().unwrap();
        assert!(error.to_string().contains("no such file or folder"), "{error}");
    }

    #[test]
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    fn what_is_no_camera_is_told() {
        let refused = |spec: &str| open(spec, &SourceOptions::default()).err().unwrap().to_string();
        let error = refused("/dev/null");
        assert!(error.starts_with("/dev/null: VIDIOC_QUERYCAP: ") && error.contains("not a camera"), "{error}");
        let error = refused("/dev/video999");
        assert!(error.starts_with("/dev/video999: no such camera; there "), "{error}");
    }
}
