//! How a stream works.

use std::time::Duration;

use crate::engine::{Alpha, Wanted};
use crate::image::palette::Palette;
use crate::pixels::Format;
use crate::protocol::{Normalisation, Size};

/// Which frames are computed, where more come than can be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The newest: whoever pushes never waits, and a frame that waits is replaced by the next.
    #[default]
    Newest,
    /// Every one. So many may wait; then a push is told that it is full.
    Every {
        /// One at least.
        queue: usize,
    },
}

/// How the engine's thread waits: for a frame, and for a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Waiting {
    /// Asleep, and woken; for a GPU as [`Options::wait`](crate::Options::wait) says. Some tens of microseconds.
    #[default]
    Block,
    /// Asking again and again, and in between letting other threads run.
    Yield,
    /// Asking again and again: the least jitter, and a core of its own.
    Spin,
}

/// What the system shall do for the engine's thread. What it refuses is told ([`Stream::notes`](super::Stream::notes)), or is an error
/// where it is `required`. The threads on which a CPU computes stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Realtime {
    /// SCHED_FIFO with this priority, 1 to 99; none if zero.
    pub priority: u8,
    /// The processors that it may run on; all if empty.
    pub cpus: Vec<usize>,
    /// Whether the process's memory is kept from being paged out (`mlockall`).
    pub lock_memory: bool,
    /// Whether a refusal is an error.
    pub required: bool,
}

/// How a stream works; the default is masks of the newest frame.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    /// Which frames are computed.
    pub policy: Policy,
    /// What each frame is asked for; points and colours come by the two below.
    pub wanted: Wanted<'static>,
    /// [`Output::Points`](crate::Output::Points) too, at these (x, y).
    pub points: Vec<[f32; 2]>,
    /// [`Output::Overlay`](crate::Output::Overlay) too, in these colours.
    pub overlay: Option<(Palette, Alpha)>,
    /// Whether results stay on the GPU ([`Answer::on_device`](super::Answer::on_device)).
    pub on_device: bool,
    /// The network's input size; the model's own if none.
    pub size: Option<Size>,
    /// The mean and standard deviation of frames; the model's own if none.
    pub normalisation: Option<Normalisation>,
    /// How the engine's thread waits.
    pub wait: Waiting,
    /// What the system shall do for it.
    pub realtime: Option<Realtime>,
    /// A frame that has waited for longer is not computed.
    pub stale_after: Option<Duration>,
    /// Answers that may be held or wait to be taken; of more the engine waits for one to be dropped. One at least.
    pub pool: usize,
    /// On a GPU, whether a frame is brought over while the one before is computed.
    pub overlap: bool,
    /// Frames of this format, width and height are computed at the start: what a first frame takes longer is over.
    pub warm: Option<(Format, usize, usize)>,
}

impl Default for StreamOptions {
    fn default() -> StreamOptions {
        StreamOptions {
            policy: Policy::default(),
            wanted: Wanted::MASK,
            points: Vec::new(),
            overlay: None,
            on_device: false,
            size: None,
            normalisation: None,
            wait: Waiting::default(),
            realtime: None,
            stale_after: None,
            pool: 2,
            overlap: true,
            warm: None,
        }
    }
}
