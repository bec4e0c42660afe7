//! A camera as the kernel has it: requests, memory that it shares, clocks.

#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use bytemuck::{Pod, Zeroable};

use super::abi::{
    self, Buffer, Capability, FormatDescription, FormatOf, PixFormat, Request, RequestBuffers, StreamParameters,
};
use super::driver::{Driver, Filled, Refusal};
use crate::checkpoint::printable;
use crate::video::rate::Rate;

/// Formats that a driver is asked for at most.
const MOST_FORMATS: u32 = 256;

/// A camera's file, with the buffers that are mapped from it.
pub struct Device {
    card: String,
    /// The buffers' memory is the driver's; it ends before the file.
    buffers: Vec<Mapped>,
    streams: bool,
    /// The last wait ended because of an error.
    failing: bool,
    file: File,
}

impl Device {
    /// Opens it; whether it is a camera that can stream is the driver's to say.
    pub fn open(path: &Path) -> Result<Device, Refusal> {
        let refused = |error| Refusal { request: "open", error };
        // Without O_NONBLOCK an empty queue would make DQBUF wait.
        let file =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(refused)?;
        let mut capability = Capability::zeroed();
        ask(&file, abi::QUERYCAP, &mut capability)?;
        let has_own = capability.capabilities & abi::CAP_DEVICE_CAPS != 0;
        let can = if has_own { capability.device_caps } else { capability.capabilities };
        let needs = abi::CAP_VIDEO_CAPTURE | abi::CAP_STREAMING;
        if can & needs != needs {
            let what = match can & abi::CAP_VIDEO_CAPTURE_MPLANE {
                0 => {
                    "it gives no frames that can be streamed (a node for metadata or output; the camera's other node is another)"
                }
                _ => "it gives frames in several planes of memory, which are not read here",
            };
            return Err(Refusal { request: abi::QUERYCAP.1, error: io::Error::new(io::ErrorKind::Unsupported, what) });
        }
        let end = capability.card.iter().position(|c| *c == 0).unwrap_or(capability.card.len());
        let card = printable(&String::from_utf8_lossy(&capability.card[..end]));
        Ok(Device { card, buffers: Vec::new(), streams: false, failing: false, file })
    }

    fn map(&self, index: u32) -> Result<Mapped, Refusal> {
        let mut buffer = Buffer { index, ..buffer() };
        ask(&self.file, abi::QUERYBUF, &mut buffer)?;
        Mapped::of(&self.file, buffer.offset, buffer.length as usize)
            .map_err(|error| Refusal { request: "mmap", error })
    }

    fn stop(&mut self) {
        if self.streams {
            // Of a camera that was unplugged it fails, and nothing streams any more.
            let _ = ask(&self.file, abi::STREAMOFF, &mut (abi::VIDEO_CAPTURE as i32));
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Driver for Device {
    fn card(&self) -> &str {
        &self.card
    }

    fn formats(&mut self) -> Result<Vec<u32>, Refusal> {
        let mut formats = Vec::new();
        for index in 0..MOST_FORMATS {
            let mut description = FormatDescription { index, kind: abi::VIDEO_CAPTURE, ..Zeroable::zeroed() };
            match ask(&self.file, abi::ENUM_FMT, &mut description) {
                Ok(()) => formats.push(description.pixelformat),
                // Behind the last.
                Err(refusal) if refusal.error.raw_os_error() == Some(libc::EINVAL) => break,
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(formats)
    }

    fn format(&mut self) -> Result<PixFormat, Refusal> {
        let mut format = FormatOf { kind: abi::VIDEO_CAPTURE, ..Zeroable::zeroed() };
        ask(&self.file, abi::G_FMT, &mut format)?;
        Ok(format.pix)
    }

    fn set_format(&mut self, wanted: PixFormat) -> Result<PixFormat, Refusal> {
        let mut format = FormatOf { kind: abi::VIDEO_CAPTURE, pix: wanted, ..Zeroable::zeroed() };
        ask(&self.file, abi::S_FMT, &mut format)?;
        Ok(format.pix)
    }

    fn set_rate(&mut self, wanted: Option<Rate>) -> Result<Option<Rate>, Refusal> {
        let mut now = StreamParameters { kind: abi::VIDEO_CAPTURE, ..Zeroable::zeroed() };
        match ask(&self.file, abi::G_PARM, &mut now) {
            Ok(()) => {}
            // Drivers of cameras without a rate do not know the request.
            Err(refusal) if matches!(refusal.error.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL)) => {
                return Ok(None);
            }
            Err(refusal) => return Err(refusal),
        }
        if let Some(rate) = wanted.filter(|_| now.capability & abi::CAP_TIMEPERFRAME != 0) {
            (now.numerator, now.denominator) = (rate.seconds(), rate.frames());
            ask(&self.file, abi::S_PARM, &mut now)?;
        }
        Ok(Rate::new(now.denominator, now.numerator))
    }

    fn start(&mut self, buffers: u32) -> Result<(), Refusal> {
        let mut wanted =
            RequestBuffers { count: buffers, kind: abi::VIDEO_CAPTURE, memory: abi::MEMORY_MMAP, ..Zeroable::zeroed() };
        ask(&self.file, abi::REQBUFS, &mut wanted)?;
        for index in 0..wanted.count {
            let mapped = self.map(index)?;
            self.buffers.push(mapped);
        }
        for index in 0..wanted.count {
            self.enqueue(index)?;
        }
        ask(&self.file, abi::STREAMON, &mut (abi::VIDEO_CAPTURE as i32))?;
        self.streams = true;
        Ok(())
    }

    fn wait(&mut self, timeout: Duration) -> Result<bool, Refusal> {
        let start = Instant::now();
        loop {
            let left = timeout.saturating_sub(start.elapsed());
            // Rounded up: a wait of 0 would ask again and again.
            let milliseconds = left.as_micros().div_ceil(1000).min(i32::MAX as u128) as i32;
            let mut poll = libc::pollfd { fd: self.file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd, of a file that is open.
            let ready = unsafe { libc::poll(&mut poll, 1, milliseconds) };
            if ready > 0 {
                self.failing = poll.revents & libc::POLLIN == 0;
                return Ok(true);
            }
            let error = io::Error::last_os_error();
            if ready < 0 && error.kind() != io::ErrorKind::Interrupted {
                return Err(Refusal { request: "poll", error });
            }
            if left.is_zero() {
                return Ok(false);
            }
        }
    }

    fn dequeue(&mut self) -> Result<Option<Filled>, Refusal> {
        let mut buffer = buffer();
        match ask(&self.file, abi::DQBUF, &mut buffer) {
            Ok(()) => {}
            // Else an error that the driver does not name would be waited for, again and again.
            Err(refusal) if refusal.error.kind() == io::ErrorKind::WouldBlock && self.failing => {
                return Err(Refusal { error: io::Error::from_raw_os_error(libc::EIO), ..refusal });
            }
            Err(refusal) if refusal.error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(refusal) => return Err(refusal),
        }
        self.failing = false;
        if buffer.index as usize >= self.buffers.len() {
            let error = io::Error::other(format!("buffer {} of {}", buffer.index, self.buffers.len()));
            return Err(Refusal { request: abi::DQBUF.1, error });
        }
        let monotonic = buffer.flags & abi::BUF_FLAG_TIMESTAMP_MASK == abi::BUF_FLAG_TIMESTAMP_MONOTONIC;
        let taken =
            buffer.seconds.saturating_mul(1_000_000_000).saturating_add(buffer.microseconds.saturating_mul(1000));
        Ok(Some(Filled {
            index: buffer.index,
            bytes: buffer.bytesused as usize,
            damaged: buffer.flags & abi::BUF_FLAG_ERROR != 0,
            sequence: buffer.sequence,
            taken: monotonic.then_some(taken),
        }))
    }

    fn bytes(&self, index: u32) -> &[u8] {
        self.buffers.get(index as usize).map_or(&[], Mapped::bytes)
    }

    fn enqueue(&mut self, index: u32) -> Result<(), Refusal> {
        ask(&self.file, abi::QBUF, &mut Buffer { index, ..buffer() })
    }

    fn ahead(&self) -> i64 {
        // Somebody else may run between two looks: of three tries the quickest is right.
        let tries = (0..3).map(|_| {
            let before = clock(libc::CLOCK_MONOTONIC);
            let time = clock(libc::CLOCK_REALTIME);
            let after = clock(libc::CLOCK_MONOTONIC);
            (after - before, time - (before + (after - before) / 2))
        });
        tries.min().map_or(0, |(_, ahead)| ahead)
    }
}

fn buffer() -> Buffer {
    Buffer { kind: abi::VIDEO_CAPTURE, memory: abi::MEMORY_MMAP, ..Zeroable::zeroed() }
}

/// In nanoseconds.
fn clock(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both clocks are there on every Linux; it writes one timespec.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// Makes a request, again when a signal has interrupted it.
fn ask<T: Pod>(file: &File, Request(number, request): Request, argument: &mut T) -> Result<(), Refusal> {
    loop {
        // SAFETY: the request's number has the size of the struct behind the pointer in it (abi.rs asserts both), of which every
        // value of its bytes is one.
        let done = unsafe { libc::ioctl(file.as_raw_fd(), number as _, std::ptr::from_mut(argument)) };
        if done == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(Refusal { request, error });
        }
    }
}

/// A buffer of the driver in this program's memory.
struct Mapped {
    start: *mut libc::c_void,
    length: usize,
}

// SAFETY: memory belongs to no thread.
unsafe impl Send for Mapped {}

impl Mapped {
    fn of(file: &File, offset: u64, length: usize) -> io::Result<Mapped> {
        let offset = libc::off_t::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        let (rights, kind) = (libc::PROT_READ, libc::MAP_SHARED);
        // SAFETY: where it lies is the kernel's choice; what was mapped is looked at below.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, rights, kind, file.as_raw_fd(), offset) };
        if start == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Mapped { start, length }) }
    }

    /// The driver writes there from QBUF to DQBUF alone; nobody looks at a buffer that is queued.
    fn bytes(&self) -> &[u8] {
        // SAFETY: so many bytes are mapped for reading until this is dropped. Between DQBUF and QBUF the driver leaves them alone.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.length) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and nobody borrows it any more.
        unsafe { libc::munmap(self.start, self.length) };
    }
}
