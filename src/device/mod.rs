//! What runs a plan: [`cpu`] computes in float32 on threads, [`cuda`] in float16 on a GPU.

pub mod calls;
pub mod choice;
pub mod cpu;
pub mod cuda;
pub mod frame_memory;

use std::ops::Range;
use std::sync::Arc;

pub use self::calls::Calls;
pub use self::choice::DeviceChoice;
pub use self::frame_memory::{FrameAllocator, FrameMemory};
use crate::error::{Error, Result};
use crate::memory::{DeviceMemory, Need};
pub use crate::ops::Upload;
use crate::ops::{Buf, Linear, Stage, Weight};
use crate::pixels::{HostRows, Image};
use crate::plan::Plan;

/// Frames of one device in flight at most: one computed, one brought over.
pub const SLOTS: usize = 2;

/// A device: weights, which siblings share, an arena, and programs that run on them.
pub trait Device: Upload + Send {
    /// "cpu, 2 threads"
    fn describe(&self) -> String;

    /// Bytes of one activation.
    fn activation_bytes(&self) -> usize;

    /// The device's own memory, where that is not the host's.
    fn own_memory(&self) -> Option<DeviceMemory> {
        None
    }

    /// Bytes that weights take at most in the device's memory.
    fn weight_bytes(&self, weights: &[Weight]) -> u64;

    /// What passes of a plan take beside weights.
    fn pass_need(&self, plan: &Plan) -> Need;

    /// Makes a plan ready to run: passes of it need no further memory. Where there is too little, what other programs had may be
    /// given up; they take it again when they run.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory); an operation that this device does not compute at these sizes.
    fn compile(&mut self, plan: Plan) -> Result<Program>;

    /// One pass.
    fn run(&mut self, program: &mut Program) -> Result<()>;

    /// Part of a pass: what the steps before it left is still there, as long as no other program runs or is written. A part that
    /// begins with the plan takes its inputs; one that ends with it makes its outputs readable. The last may run again and again.
    fn run_steps(&mut self, program: &mut Program, steps: Range<usize>) -> Result<()>;

    /// Host to arena, before a pass: `bytes` go to the buffer's byte `first` and on. An input of the plan may be brought over
    /// only when the pass begins.
    fn write(&mut self, program: &mut Program, buf: Buf, first: usize, bytes: &[u8]) -> Result<()>;

    /// As [`Device::write`], rows without what pads them.
    fn write_rows(&mut self, program: &mut Program, buf: Buf, first: usize, rows: &HostRows<'_>) -> Result<()> {
        rows.each().enumerate().try_for_each(|(i, row)| self.write(program, buf, first + i * rows.size.row, row))
    }

    /// Where the device takes an image from that lies in its own memory; `None` for one of the host's. It is asked before anything
    /// is done with one.
    ///
    /// # Errors
    /// [`Error::Device`]: why it cannot.
    fn locate(&self, image: &Image<'_>) -> Result<Option<cuda::Located>> {
        match image.in_cuda() {
            None => Ok(None),
            Some(_) => Err(Error::Device(format!(
                "this engine is on {}, which takes no image from CUDA memory: copy it to the host, or choose a GPU",
                self.describe()
            ))),
        }
    }

    /// As [`Device::write`], of images in the device's own memory, one behind the other, which are all of an input.
    fn write_images(&mut self, _program: &mut Program, _buf: Buf, _images: &[cuda::Located]) -> Result<()> {
        unreachable!("no image is located on a device without memory of its own")
    }

    /// Arena to host, after a pass: the buffer's bytes from `first` on.
    fn read(&mut self, program: &Program, buf: Buf, first: usize, bytes: &mut [u8]) -> Result<()>;

    /// The memory of the host that passes take the input `buf` from, to be filled in the place of [`Device::write`]; `None`
    /// where they take it from none. It holds what was written until another plan's inputs are.
    fn input_memory(&mut self, program: &mut Program, buf: Buf) -> Result<Option<&mut [u8]>>;

    /// The memory of the host that the last pass left the output `buf` in; `None` where it left it in none.
    fn output_memory(&self, program: &Program, buf: Buf) -> Result<Option<&[u8]>>;

    /// Another of this device over the same weights, with an arena, programs and a flow of its own. What either takes in later is
    /// its own.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory), or whatever a GPU answers.
    fn sibling(&self) -> Result<Box<dyn Device>>;

    /// A bank of labels made ready for this device and its siblings: `rows` are `[n, k]`, `offsets` `[n]`.
    ///
    /// # Errors
    /// [`Error::Memory`](crate::Error::Memory); a device that is lost.
    fn bank(&self, n: usize, k: usize, rows: &[f32], offsets: &[f32]) -> Result<Bank>;

    /// From the next pass on the bank lies where `old`, which an earlier call returned, did. No pass in flight sees it.
    ///
    /// # Errors
    /// As [`Device::bank`].
    fn set_bank(&mut self, old: Option<Linear>, bank: &Bank) -> Result<Linear>;

    /// What a slot takes for passes of a plan, beside what [`Device::pass_need`] tells. `is_left`: what they give out stays on the
    /// device.
    fn slot_need(&self, plan: &Plan, is_left: bool) -> Need;

    /// The memory of the host from which a submitted pass takes the input `buf`; to be filled before [`Device::submit`].
    ///
    /// # Errors
    /// As [`Device::compile`].
    fn slot_input(&mut self, program: &mut Program, slot: usize, buf: Buf) -> Result<&mut [u8]>;

    /// Queues a pass of what lies in the slot's inputs, and returns before it has ended. The slot must be free.
    ///
    /// # Errors
    /// As [`Device::run`]; nothing of the pass is left in flight.
    fn submit(&mut self, program: &mut Program, slot: usize, elsewhere: &Elsewhere<'_>) -> Result<()>;

    /// What a place for outputs of a plan takes.
    fn place_need(&self, _plan: &Plan) -> Need {
        Need::default()
    }

    /// A place for outputs of a plan on the device, of one that has a stream.
    ///
    /// # Errors
    /// [`Error::Memory`], or whatever a GPU answers.
    fn place(&mut self, _plan: &Plan) -> Result<cuda::Place> {
        unreachable!("a device without a stream has no places")
    }

    /// The CUDA stream that computes; `None` where there is none.
    fn stream_handle(&self) -> Option<u64> {
        None
    }

    /// Makes the memory that [`Elsewhere::host`] is of, for passes of this device.
    ///
    /// # Errors
    /// Whatever a GPU answers.
    fn frame_allocator(&mut self) -> Result<FrameAllocator> {
        Ok(FrameAllocator::Plain)
    }

    /// Whether the slot's pass has ended, its outputs with it, so that [`Device::finish`] waits for nothing. Where no pass runs
    /// by itself it computes none.
    ///
    /// # Errors
    /// A device that is lost.
    fn is_finished(&self, _slot: usize) -> Result<bool> {
        Ok(true)
    }

    /// Waits for the pass of this slot, and no other: its outputs are there, and [`Device::times`] tells of it.
    ///
    /// # Errors
    /// Whatever went wrong in the pass; the slot is free.
    fn finish(&mut self, slot: usize) -> Result<()>;

    /// What the slot's pass, of this plan, gave out: once it has been waited for, until something else is asked of the device.
    ///
    /// # Errors
    /// A device that is lost.
    fn slot_output(&self, plan: &Plan, slot: usize, buf: Buf) -> Result<&[u8]>;

    /// What a pass costs by the device's own model of itself, in units of its own; `None` where it has none.
    fn estimate(&self, _plan: &Plan) -> Option<f64> {
        None
    }

    /// Whether the passes to come measure each step; off at first.
    fn record_times(&mut self, on: bool);

    /// Of the last pass, or part of one.
    fn times(&self) -> Times<'_>;

    /// The clock of a GPU's multiprocessors in MHz, just after what was done before.
    fn clock_mhz(&mut self) -> Result<Option<f64>> {
        Ok(None)
    }

    /// None are counted where there is no driver.
    fn calls(&self) -> Calls {
        Calls::default()
    }
}

/// What a submitted pass takes and leaves elsewhere than in its slot.
#[derive(Clone, Copy, Default)]
pub struct Elsewhere<'a> {
    /// The plan's first input, and images in the device's memory that are all of it, one behind the other.
    pub images: Option<(Buf, &'a [cuda::Located])>,
    /// The plan's first input, and memory of the device's [`FrameAllocator`] with all of it. The device has read it when the pass is
    /// finished.
    pub host: Option<(Buf, &'a cuda::HostMemory)>,
    /// Where its outputs go, which the slot then does not have.
    pub place: Option<&'a cuda::Place>,
}

/// A plan as one device runs it.
pub struct Program {
    plan: Arc<Plan>,
    /// What a GPU needs beside it.
    cuda: Option<Box<cuda::GpuProgram>>,
}

impl Program {
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The plan, for longer than the program.
    pub fn shared_plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan)
    }
}

/// A bank of labels as devices of one kind hold it: made once, shared, never changed.
pub enum Bank {
    Cpu(cpu::CpuBank),
    Cuda(cuda::GpuBank),
}

/// Times of a pass, by the device's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times<'a> {
    /// Seconds of each [`Stage`].
    pub stages: [f64; Stage::ALL.len()],
    /// Seconds of a pass that ran as one piece, so that nothing is known of its stages.
    pub whole: Option<f64>,
    /// Seconds of each step; empty where they were not recorded.
    pub steps: &'a [f64],
}

/// One pass from the host to the host: compiles the plan, fills its inputs, runs it, and gives the bytes of `out`.
///
/// # Errors
/// As [`Device::compile`] and [`Device::run`].
pub fn run_once(device: &mut dyn Device, plan: Plan, inputs: &[(Buf, Vec<u8>)], out: Buf) -> Result<Vec<u8>> {
    let mut program = device.compile(plan)?;
    for (buf, bytes) in inputs {
        device.write(&mut program, *buf, 0, bytes)?;
    }
    device.run(&mut program)?;
    let mut result = vec![0; program.plan.buffers[out.index].bytes];
    device.read(&program, out, 0, &mut result)?;
    Ok(result)
}
