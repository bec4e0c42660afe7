//! What is asked of a camera's driver, apart from how: the kernel answers in `device.rs`, a script in the tests.

use std::io;
use std::time::Duration;

use super::abi::PixFormat;
use crate::video::rate::Rate;

/// A camera that was opened.
pub trait Driver: Send {
    /// Its name.
    fn card(&self) -> &str;

    /// The formats that it gives, as four letters each.
    fn formats(&mut self) -> Result<Vec<u32>, Refusal>;

    /// Its format and size as they are.
    fn format(&mut self) -> Result<PixFormat, Refusal>;

    /// Asks for a format and size; the driver answers with what it has made of them.
    fn set_format(&mut self, wanted: PixFormat) -> Result<PixFormat, Refusal>;

    /// Asks for frames a second where some are wanted; what the driver says they are, if it does.
    fn set_rate(&mut self, wanted: Option<Rate>) -> Result<Option<Rate>, Refusal>;

    /// Maps so many buffers, or as many as the driver gives, hands them over and begins.
    fn start(&mut self, buffers: u32) -> Result<(), Refusal>;

    /// Waits until there is something to dequeue; whether there was in this time.
    fn wait(&mut self, timeout: Duration) -> Result<bool, Refusal>;

    /// Takes the buffer that was filled first, if one is.
    fn dequeue(&mut self) -> Result<Option<Filled>, Refusal>;

    /// All bytes of a buffer that was dequeued.
    fn bytes(&self, index: u32) -> &[u8];

    /// Gives a buffer back.
    fn enqueue(&mut self, index: u32) -> Result<(), Refusal>;

    /// How far the time of day is ahead of the monotonic clock, in nanoseconds.
    fn ahead(&self) -> i64;
}

/// A buffer with a frame in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filled {
    pub index: u32,
    /// Bytes of the frame.
    pub bytes: usize,
    /// The driver says that they are damaged.
    pub damaged: bool,
    /// Counts frames, lost ones too.
    pub sequence: u32,
    /// When it was taken, in nanoseconds of the monotonic clock; `None` where the driver has another one.
    pub taken: Option<i64>,
}

/// What was asked, and what the system said.
#[derive(Debug)]
pub struct Refusal {
    pub request: &'static str,
    pub error: io::Error,
}
