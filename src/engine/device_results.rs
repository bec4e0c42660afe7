//! Results that stay on the GPU: for kernels of the caller's, or for the host later.

#![allow(unsafe_code)]

use std::fmt;

use super::label_set::Labels;
use super::places::User;
use super::{finite, fork_guard};
use crate::device::cuda::{Done, Place};
use crate::error::{Error, Result};
use crate::model::{FrameIo, Output};
use crate::ops::{Buf, Element};
use crate::plan::Plan;

/// What a value of a [`DeviceTensor`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TensorElement {
    /// A byte: a mask's index where that fits, a confidence, a channel of an overlay.
    U8,
    /// A mask's index where there are more labels than a byte tells apart.
    U16,
    /// float16.
    F16,
    /// float32.
    F32,
}

impl TensorElement {
    /// Bytes of one.
    pub fn bytes(self) -> usize {
        match self {
            TensorElement::U8 => 1,
            TensorElement::U16 | TensorElement::F16 => 2,
            TensorElement::F32 => 4,
        }
    }

    /// Of a GPU's buffer.
    fn of(element: Element) -> TensorElement {
        match element {
            Element::U8 => TensorElement::U8,
            Element::U16 => TensorElement::U16,
            Element::F16 | Element::Activation => TensorElement::F16,
            Element::F32 | Element::U32 => TensorElement::F32,
        }
    }
}

/// One output of some frames, in the GPU's memory. Copies are of the same memory, which no frame overwrites before the last of them
/// is dropped, together with the [`DeviceResults`] that it came from. It may be sent to other threads, and outlive its lane and its
/// network; dropping it waits for nothing while the lane is there.
#[derive(Clone, Debug)]
pub struct DeviceTensor {
    user: User,
    /// In the place, in bytes.
    at: usize,
    shape: [usize; 4],
    element: TensorElement,
}

/// What some frames yielded, on the GPU ([`Lane::run_on_device`](super::Lane::run_on_device)).
#[derive(Debug)]
pub struct DeviceResults {
    user: User,
    frames: usize,
    labels: Option<Labels>,
    tensors: [Option<DeviceTensor>; Output::ALL.len()],
}

/// How far some frames are whose results stay on the GPU. It holds none of them: where a later frame has taken their place, it tells
/// of that one, which is computed behind them.
#[derive(Clone)]
pub struct Progress {
    done: Done,
    /// The process that it is of.
    process: u32,
}

impl DeviceResults {
    /// Of a pass of this plan, which leaves its outputs with this user.
    pub(super) fn new(user: User, plan: &Plan, io: &FrameIo, labels: Option<Labels>) -> DeviceResults {
        let tensor = |buf: Buf| DeviceTensor {
            user: user.clone(),
            at: Place::at(plan, buf),
            shape: buf.shape,
            element: TensorElement::of(buf.element),
        };
        let mut tensors = [const { None }; Output::ALL.len()];
        for output in Output::ALL {
            tensors[output as usize] = io.output(output).map(tensor);
        }
        DeviceResults { frames: io.photo.buf.batch(), user, labels, tensors }
    }

    /// How many frames.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// The labels that the frames were asked about, where an output is about labels.
    pub fn labels(&self) -> Option<&Labels> {
        self.labels.as_ref()
    }

    /// All frames' values of an output; `None` where it was not wanted.
    pub fn tensor(&self, output: Output) -> Option<&DeviceTensor> {
        self.tensors[output as usize].as_ref()
    }

    /// Of these frames: when they are computed, the memory of their images is the caller's again.
    pub fn progress(&self) -> Progress {
        let place = self.user.place();
        Progress { done: place.memory.done().clone(), process: place.process }
    }

    /// Waits until the frames are computed.
    ///
    /// # Errors
    /// [`Error::NotFinite`] where a mask's winning score, or a value of embeddings, is no finite number; whatever went wrong in the pass.
    pub fn wait(&self) -> Result<()> {
        self.user.wait()
    }
}

impl Progress {
    /// Whether the frames are computed; waits for nothing.
    ///
    /// # Errors
    /// [`Error::Device`] where a GPU fails, and in a forked process; [`Error::Lost`].
    pub fn is_done(&self) -> Result<bool> {
        fork_guard::check(self.process)?;
        self.done.is_reached()
    }

    /// Waits until they are.
    ///
    /// # Errors
    /// As [`Progress::is_done`].
    pub fn wait(&self) -> Result<()> {
        fork_guard::check(self.process)?;
        self.done.wait()
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").field("is_done", &self.is_done()).finish()
    }
}

impl DeviceTensor {
    /// Of its first byte, in the GPU's memory; the last dimension's values follow each other. What is there before the frame is
    /// computed is nothing: a stream that [`DeviceTensor::follow`] told reads it right, and so does the host once it has waited.
    pub fn address(&self) -> u64 {
        self.user.place().memory.address() + self.at as u64
    }

    /// How many it has.
    pub fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.element.bytes()
    }

    /// The frames first, then as [`Output`] tells: a mask has `[frames, height, width, 1]`.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// What a value is. Those of [`Output::Mask`] are bytes where the labels are at most 256, with a threshold 255, and unlabelled
    /// pixels are then [`UNLABELLED_8`](crate::UNLABELLED_8).
    pub fn element(&self) -> TensorElement {
        self.element
    }

    /// The number of its GPU.
    pub fn ordinal(&self) -> usize {
        self.user.place().memory.ordinal()
    }

    /// What is queued on this CUDA stream (a handle; 0 or 1 the legacy default stream, 2 the calling thread's) from now on finds the
    /// result. When the last holder has been dropped, its memory is used again only behind what is queued there by then. No host
    /// waits.
    ///
    /// # Errors
    /// [`Error::Device`] for a stream that is being captured; [`Error::Lost`].
    ///
    /// # Safety
    /// It is a stream of the engine's context, and lives until the last holder has been dropped.
    pub unsafe fn follow(&self, stream: u64) -> Result<()> {
        self.user.check()?;
        self.user.place().memory.follow(stream)
    }

    /// As [`DeviceResults::wait`].
    ///
    /// # Errors
    /// As [`DeviceResults::wait`].
    pub fn wait(&self) -> Result<()> {
        self.user.wait()
    }

    /// Waits, and copies it to the host.
    ///
    /// # Errors
    /// As [`DeviceResults::wait`]; [`Error::Size`] for more or less room than [`DeviceTensor::bytes`].
    pub fn read(&self, room: &mut [u8]) -> Result<()> {
        let bytes = self.bytes();
        if room.len() != bytes {
            return Err(Error::Size(format!("room for {} bytes: a result of {bytes} is copied there", room.len())));
        }
        self.wait()?;
        self.user.place().memory.read(self.at, room)
    }
}

impl User {
    fn check(&self) -> Result<()> {
        fork_guard::check(self.place().process)
    }

    fn wait(&self) -> Result<()> {
        self.check()?;
        let place = self.place();
        place.memory.done().wait()?;
        place.counts().iter().flatten().try_for_each(|(at, count)| {
            let mut found = [0u32];
            place.memory.read(*at, bytemuck::cast_slice_mut(&mut found))?;
            // A GPU computes in float16.
            finite::check_count(true, count, found[0])
        })
    }
}
