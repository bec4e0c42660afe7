//! What is wanted of a camera.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::{DEFAULT_MAX_PIXELS, Rate};
use crate::error::Error;

/// A camera's format, as it is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CameraFormat {
    /// The first of the others that the camera has in the wanted size and rate.
    #[default]
    Auto,
    /// NV12.
    Nv12,
    /// YUYV.
    Yuyv,
    /// 8-bit RGB.
    Rgb8,
    /// 8-bit BGR.
    Bgr8,
    /// Grey.
    Mono8,
    /// A JPEG for each frame, decoded here into 8-bit RGB.
    Mjpeg,
}

impl CameraFormat {
    /// All that frames can have.
    pub(super) const NAMES: &str = "nv12, yuyv, rgb8, bgr8, mono8 or mjpeg";

    /// As the command line names it.
    pub fn name(self) -> &'static str {
        match self {
            CameraFormat::Auto => "auto",
            CameraFormat::Nv12 => "nv12",
            CameraFormat::Yuyv => "yuyv",
            CameraFormat::Rgb8 => "rgb8",
            CameraFormat::Bgr8 => "bgr8",
            CameraFormat::Mono8 => "mono8",
            CameraFormat::Mjpeg => "mjpeg",
        }
    }
}

impl FromStr for CameraFormat {
    type Err = Error;

    /// `auto`, `nv12`, `yuyv`, `rgb8`, `bgr8`, `mono8` or `mjpeg`.
    fn from_str(text: &str) -> Result<CameraFormat, Error> {
        use CameraFormat::{Auto, Bgr8, Mjpeg, Mono8, Nv12, Rgb8, Yuyv};
        let all = [Auto, Nv12, Yuyv, Rgb8, Bgr8, Mono8, Mjpeg];
        all.into_iter()
            .find(|format| format.name() == text)
            .ok_or_else(|| Error::Video(format!("camera format {text:?}: expected auto, {}", CameraFormat::NAMES)))
    }
}

/// What is wanted of a camera.
#[derive(Clone, Debug)]
pub struct CameraOptions {
    /// How its bytes are pixels.
    pub format: CameraFormat,
    /// Width and height in pixels; the camera's own where none are wanted. The camera may give others.
    pub size: Option<(u32, u32)>,
    /// Frames a second; the camera's own where none are wanted. It may give others.
    pub rate: Option<Rate>,
    /// Of several frames that wait, the last is taken; the others go back to the driver and are counted in `passed_over`. Otherwise all
    /// are taken, the first first.
    pub newest: bool,
    /// Frames that the driver gave and `newest` passed over. They are not among those that [`Frame::missed`](super::Frame::missed) counts, which the driver
    /// itself has lost.
    pub passed_over: Arc<AtomicU64>,
    /// A camera from which nothing comes for so long is lost.
    pub patience: Duration,
    /// Pixels of a frame at most.
    pub max_pixels: u64,
}

impl Default for CameraOptions {
    fn default() -> CameraOptions {
        CameraOptions {
            format: CameraFormat::Auto,
            size: None,
            rate: None,
            newest: true,
            passed_over: Arc::default(),
            patience: Duration::from_secs(5),
            max_pixels: DEFAULT_MAX_PIXELS,
        }
    }
}
