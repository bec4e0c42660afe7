//! What streams and graphs carry out, and the carrying out.

use std::sync::Arc;
use std::time::Instant;

use super::boundary::{Callback, Host};
use super::context::Context;
use super::device::Device;
use super::error::{Code, Outcome, fail};
use super::event::Event;
use super::handle::Handle;
use super::launch::KernelLaunch;
use super::{IN_CALLBACK, Machine};
use crate::mem::MemoryError;

#[derive(Clone)]
pub enum Work {
    Launch(Arc<KernelLaunch>),
    /// Host to device; bytes of pageable memory are taken when the copy is asked for.
    Upload {
        to: u64,
        from: Source,
    },
    Download {
        to: Host,
        from: u64,
        bytes: usize,
    },
    Copy {
        to: u64,
        from: u64,
        bytes: usize,
    },
    HostCopy {
        to: Host,
        from: Host,
        bytes: usize,
    },
    /// `width` bytes of `pattern`, `count` times.
    Fill {
        address: u64,
        pattern: [u8; 4],
        width: usize,
        count: usize,
    },
    Free(u64),
    /// Memory that the stream allocated is there.
    Allocated,
    Call(Callback),
    /// The event's `recording`th record.
    Record {
        event: Handle<Event>,
        recording: u64,
    },
    /// Rows of a two-dimensional copy, one after the other.
    Rows(Arc<[Work]>),
    /// A graph's work, one after the other.
    Graph(Arc<[Step]>),
    /// Only waits for others.
    Nothing,
    /// Never ends.
    Hang,
}

/// A graph's work in the order of execution.
#[derive(Clone)]
pub struct Step {
    pub work: Work,
    /// Steps before it, kernels, that it may overlap: those of its programmatic edges.
    pub overlaps: Vec<usize>,
}

#[derive(Clone)]
pub enum Source {
    Bytes(Arc<[u8]>),
    Host(Host, usize),
}

impl Work {
    /// CUgraphNodeType.
    pub fn node_type(&self) -> u32 {
        match self {
            Work::Launch(_) => 0,
            Work::Upload { .. } | Work::Download { .. } | Work::Copy { .. } | Work::HostCopy { .. } | Work::Rows(_) => {
                1
            }
            Work::Fill { .. } => 2,
            Work::Call(_) => 3,
            Work::Graph(_) => 4,
            Work::Free(_) | Work::Allocated | Work::Record { .. } | Work::Nothing | Work::Hang => 5,
        }
    }
}

impl Machine {
    /// Does it now. A fault kills the context. `unfinished`: launches that it may overlap, where it is a launch itself; the
    /// answer: those that the next one may.
    pub(super) fn execute(&mut self, context: Handle<Context>, work: &Work, unfinished: &[u16]) -> Outcome<Vec<u16>> {
        match work {
            Work::Launch(launch) => return self.execute_launch(context, launch, unfinished),
            Work::Graph(steps) => self.execute_graph(context, steps)?,
            Work::Rows(parts) => parts.iter().try_for_each(|part| self.execute(context, part, &[]).map(drop))?,
            Work::Call(callback) => {
                IN_CALLBACK.set(true);
                callback.call();
                IN_CALLBACK.set(false);
            }
            Work::Record { event, recording } => {
                if let Some(event) = self.events.find_mut(*event) {
                    event.happened(*recording, Instant::now());
                }
            }
            Work::HostCopy { to, from, bytes } => to.write(&from.read(*bytes)?)?,
            Work::Nothing | Work::Allocated => {}
            Work::Hang => return Err(Code::HUNG.into()),
            Work::Free(_) | Work::Upload { .. } | Work::Download { .. } | Work::Copy { .. } | Work::Fill { .. } => {
                self.execute_on_memory(context, work)?;
            }
        }
        Ok(Vec::new())
    }

    fn execute_graph(&mut self, context: Handle<Context>, steps: &[Step]) -> Outcome {
        let mut left: Vec<Vec<u16>> = Vec::with_capacity(steps.len());
        for step in steps {
            let unfinished: Vec<u16> = step.overlaps.iter().flat_map(|&before| left[before].iter().copied()).collect();
            left.push(self.execute(context, &step.work, &unfinished)?);
        }
        Ok(())
    }

    fn execute_on_memory(&mut self, context: Handle<Context>, work: &Work) -> Outcome {
        match self.device_of(context)?.touch(work)? {
            Ok(()) => {
                if let Work::Free(address) = work {
                    self.allocations.remove(address);
                }
                Ok(())
            }
            Err(error @ MemoryError::Withheld { .. }) => {
                self.fault(context, Code::ILLEGAL_ADDRESS, format!("StreamOrder in a copy, fill or free: {error}"))
            }
            Err(error) => {
                let report = format!("a copy, fill or free found its memory gone when the stream got to it: {error}");
                self.fault(context, Code::ILLEGAL_ADDRESS, report)
            }
        }
    }
}

impl Device {
    /// The outer result: the host's side; the inner one: the device's.
    fn touch(&self, work: &Work) -> Outcome<Result<(), MemoryError>> {
        Ok(match work {
            Work::Upload { to, from: Source::Bytes(bytes) } => self.memory.write(*to, bytes),
            Work::Upload { to, from: Source::Host(host, bytes) } => self.memory.write(*to, &host.read(*bytes)?),
            Work::Download { to, from, bytes } => {
                let mut copy = vec![0; *bytes];
                match self.memory.read(*from, &mut copy) {
                    Ok(_) => {
                        to.write(&copy)?;
                        Ok(())
                    }
                    Err(error) => Err(error),
                }
            }
            Work::Copy { to, from, bytes } => self.memory.copy(*to, *from, *bytes),
            Work::Fill { address, pattern, width, count } => self.memory.fill(*address, &pattern[..*width], *count),
            Work::Free(address) => self.memory.free(*address),
            _ => return fail(Code::UNKNOWN, "work of another kind"),
        })
    }
}
