//! The numbers that stand for choices, and what they choose. C gives them as int32_t: any number may come.

use lseg_fast::stream::{Policy, Waiting};
use lseg_fast::{ContextKind, Format, Layout, MapSize, Wait, Yuv, YuvMatrix, YuvRange};

use crate::status::{Failure, invalid};

/// How an image's bytes are pixels; rows from the top.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum lseg_format {
    /// Red, green, blue, a byte each.
    LSEG_FORMAT_RGB8 = 0,
    /// Blue, green, red: OpenCV's.
    LSEG_FORMAT_BGR8 = 1,
    /// With a fourth byte that is not looked at.
    LSEG_FORMAT_RGBA8 = 2,
    /// With a fourth byte that is not looked at.
    LSEG_FORMAT_BGRA8 = 3,
    /// Grey, a byte.
    LSEG_FORMAT_MONO8 = 4,
    /// Plane 0 luma, plane 1 pairs of Cb, Cr for each 2x2 pixels, 2 * ceil(width / 2) bytes a row. BT.601, luma 16-235.
    LSEG_FORMAT_NV12 = 5,
    /// BT.601, 0-255.
    LSEG_FORMAT_NV12_FULL = 6,
    /// BT.709, luma 16-235.
    LSEG_FORMAT_NV12_BT709 = 7,
    /// BT.709, 0-255.
    LSEG_FORMAT_NV12_BT709_FULL = 8,
    /// Luma, Cb, luma, Cr for each two pixels of a row, 4 * ceil(width / 2) bytes a row. BT.601, luma 16-235.
    LSEG_FORMAT_YUYV = 9,
    /// BT.601, 0-255.
    LSEG_FORMAT_YUYV_FULL = 10,
    /// BT.709, luma 16-235.
    LSEG_FORMAT_YUYV_BT709 = 11,
    /// BT.709, 0-255.
    LSEG_FORMAT_YUYV_BT709_FULL = 12,
    /// Planes 0, 1, 2 are red, green, blue: float in 0-1.
    LSEG_FORMAT_RGB_F32 = 13,
    /// As LSEG_FORMAT_RGB_F32, of IEEE half-precision floats.
    LSEG_FORMAT_RGB_F16 = 14,
}

/// Whose memory an image is in.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum lseg_memory {
    /// Addresses of this process.
    LSEG_MEMORY_HOST = 0,
    /// CUDA device memory of the engine's GPU, in its primary context.
    LSEG_MEMORY_CUDA = 1,
}

/// What a frame may yield. Sizes are the image's unless another is told; rows from the top.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum lseg_kind {
    /// Each pixel's label: its index, uint8_t [height][width]; 255 below the threshold (lseg_set_threshold). At most 256 labels, 255
    /// with a threshold.
    LSEG_MASK8 = 0,
    /// Each pixel's label: its index, uint16_t [height][width]; 65535 below the threshold.
    LSEG_MASK16 = 1,
    /// Softmax of the winning label at each pixel times 255, rounded: uint8_t [height][width].
    LSEG_CONFIDENCE = 2,
    /// Every label's logit: float [labels][h][w] at the network's size.
    LSEG_SCORES = 3,
    /// Softmax of the scores over the labels, of their shape.
    LSEG_PROBABILITIES = 4,
    /// The winning label's logit: float [height][width].
    LSEG_BEST = 5,
    /// The image tinted with its labels' colours: red, green, blue, uint8_t [height][width][3].
    LSEG_OVERLAY = 6,
    /// The pixels' embeddings, IEEE half-precision floats, in the output's layout and size. Needs no labels.
    LSEG_EMBEDDING_F16 = 7,
    /// The pixels' embeddings, float, in the output's layout and size. Needs no labels.
    LSEG_EMBEDDING_F32 = 8,
}

impl lseg_kind {
    pub(crate) const ALL: [lseg_kind; 9] = {
        use lseg_kind::*;
        [
            LSEG_MASK8,
            LSEG_MASK16,
            LSEG_CONFIDENCE,
            LSEG_SCORES,
            LSEG_PROBABILITIES,
            LSEG_BEST,
            LSEG_OVERLAY,
            LSEG_EMBEDDING_F16,
            LSEG_EMBEDDING_F32,
        ]
    };
}

/// The order of an embedding's dimensions.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum lseg_layout {
    /// [height][width][channels]: a pixel's vector in one piece.
    LSEG_LAYOUT_HWC = 0,
    /// [channels][height][width].
    LSEG_LAYOUT_CHW = 1,
}

/// The size of an embedding.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum lseg_at {
    /// Half the network's, at which it is computed.
    LSEG_AT_HALF = 0,
    /// The network's.
    LSEG_AT_FULL = 1,
    /// The image's.
    LSEG_AT_PHOTO = 2,
}

/// What a value of a tensor is.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum lseg_element {
    /// uint8_t
    LSEG_ELEMENT_U8 = 0,
    /// uint16_t
    LSEG_ELEMENT_U16 = 1,
    /// IEEE half-precision float
    LSEG_ELEMENT_F16 = 2,
    /// float
    LSEG_ELEMENT_F32 = 3,
}

/// The CUDA context of an engine.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum lseg_context {
    /// The GPU's primary one, in which the CUDA runtime and all that build on it are: images and tensors on the GPU need it.
    LSEG_CONTEXT_PRIMARY = 0,
    /// One of the engine's own.
    LSEG_CONTEXT_OWN = 1,
}

/// How the host waits for a GPU.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum lseg_wait {
    /// As the driver chooses: mostly by asking again and again, which is the quickest and takes a core.
    LSEG_WAIT_DRIVER = 0,
    /// Asleep until the GPU calls.
    LSEG_WAIT_BLOCK = 1,
}

/// Which frames of a stream are computed, where more come than can be.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum lseg_policy {
    /// The newest: a frame that waits is replaced by the next.
    LSEG_NEWEST = 0,
    /// Every one, in order; where as many wait as may a push is LSEG_FULL.
    LSEG_EVERY = 1,
}

/// How a stream's thread waits for a frame, and for a GPU.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum lseg_waiting {
    /// Asleep, and woken; for a GPU as enum lseg_wait says.
    LSEG_WAITING_BLOCK = 0,
    /// Asking again and again, and in between letting other threads run.
    LSEG_WAITING_YIELD = 1,
    /// Asking again and again: the least jitter, and a core of its own.
    LSEG_WAITING_SPIN = 2,
}

/// What a number stands for, or an error that names the argument and the choices.
fn choice<T: Copy>(code: i32, known: &[(i32, T)], argument: &str, field: &str, kind: &str) -> Result<T, Failure> {
    let found = known.iter().find(|(one, _)| *one == code).map(|(_, value)| *value);
    found.ok_or_else(|| invalid(format!("{argument}.{field} is {code}: expected one of enum {kind}")))
}

pub fn format(code: i32, argument: &str) -> Result<Format, Failure> {
    use lseg_format::*;
    let yuv = |matrix, range| Yuv { matrix, range };
    let (video, full) = (yuv(YuvMatrix::Bt601, YuvRange::Video), yuv(YuvMatrix::Bt601, YuvRange::Full));
    let (video_709, full_709) = (yuv(YuvMatrix::Bt709, YuvRange::Video), yuv(YuvMatrix::Bt709, YuvRange::Full));
    let known = [
        (LSEG_FORMAT_RGB8 as i32, Format::Rgb8),
        (LSEG_FORMAT_BGR8 as i32, Format::Bgr8),
        (LSEG_FORMAT_RGBA8 as i32, Format::Rgba8),
        (LSEG_FORMAT_BGRA8 as i32, Format::Bgra8),
        (LSEG_FORMAT_MONO8 as i32, Format::Mono8),
        (LSEG_FORMAT_NV12 as i32, Format::Nv12(video)),
        (LSEG_FORMAT_NV12_FULL as i32, Format::Nv12(full)),
        (LSEG_FORMAT_NV12_BT709 as i32, Format::Nv12(video_709)),
        (LSEG_FORMAT_NV12_BT709_FULL as i32, Format::Nv12(full_709)),
        (LSEG_FORMAT_YUYV as i32, Format::Yuyv(video)),
        (LSEG_FORMAT_YUYV_FULL as i32, Format::Yuyv(full)),
        (LSEG_FORMAT_YUYV_BT709 as i32, Format::Yuyv(video_709)),
        (LSEG_FORMAT_YUYV_BT709_FULL as i32, Format::Yuyv(full_709)),
        (LSEG_FORMAT_RGB_F32 as i32, Format::RgbF32),
        (LSEG_FORMAT_RGB_F16 as i32, Format::RgbF16),
    ];
    choice(code, &known, argument, "format", "lseg_format")
}

pub fn memory(code: i32, argument: &str) -> Result<lseg_memory, Failure> {
    use lseg_memory::*;
    let known = [LSEG_MEMORY_HOST, LSEG_MEMORY_CUDA].map(|memory| (memory as i32, memory));
    choice(code, &known, argument, "memory", "lseg_memory")
}

pub fn kind(code: i32, argument: &str) -> Result<lseg_kind, Failure> {
    choice(code, &lseg_kind::ALL.map(|kind| (kind as i32, kind)), argument, "kind", "lseg_kind")
}

pub fn layout(code: i32, argument: &str) -> Result<Layout, Failure> {
    use lseg_layout::*;
    let known = [(LSEG_LAYOUT_HWC as i32, Layout::Hwc), (LSEG_LAYOUT_CHW as i32, Layout::Chw)];
    choice(code, &known, argument, "layout", "lseg_layout")
}

pub fn at(code: i32, argument: &str) -> Result<MapSize, Failure> {
    use lseg_at::*;
    let known = [
        (LSEG_AT_HALF as i32, MapSize::Half),
        (LSEG_AT_FULL as i32, MapSize::Full),
        (LSEG_AT_PHOTO as i32, MapSize::Photo),
    ];
    choice(code, &known, argument, "at", "lseg_at")
}

pub fn context(code: i32, argument: &str) -> Result<ContextKind, Failure> {
    use lseg_context::*;
    let known = [(LSEG_CONTEXT_PRIMARY as i32, ContextKind::Primary), (LSEG_CONTEXT_OWN as i32, ContextKind::Own)];
    choice(code, &known, argument, "context", "lseg_context")
}

pub fn wait(code: i32, argument: &str) -> Result<Wait, Failure> {
    use lseg_wait::*;
    let known = [(LSEG_WAIT_DRIVER as i32, Wait::Driver), (LSEG_WAIT_BLOCK as i32, Wait::Block)];
    choice(code, &known, argument, "wait", "lseg_wait")
}

/// Of LSEG_EVERY so many frames may wait.
pub fn policy(code: i32, queue: usize, argument: &str) -> Result<Policy, Failure> {
    use lseg_policy::*;
    let known = [(LSEG_NEWEST as i32, Policy::Newest), (LSEG_EVERY as i32, Policy::Every { queue })];
    choice(code, &known, argument, "policy", "lseg_policy")
}

pub fn waiting(code: i32, argument: &str) -> Result<Waiting, Failure> {
    use lseg_waiting::*;
    let known = [
        (LSEG_WAITING_BLOCK as i32, Waiting::Block),
        (LSEG_WAITING_YIELD as i32, Waiting::Yield),
        (LSEG_WAITING_SPIN as i32, Waiting::Spin),
    ];
    choice(code, &known, argument, "wait", "lseg_waiting")
}
