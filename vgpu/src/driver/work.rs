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
    Call(Callback),
    /// The event's `recording`th record.
    Record {
        event: Handle<Event>,
        recording: u64,
    },
    /// Rows of a two-dimensional copy, one after the other.
    Rows(Arc<[Work]>),
    /// A graph's work, one after the other.
    Graph(Arc<[Work]>),
    /// Only waits for others.
    Nothing,
    /// Never ends.
    Hang,
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
            Work::Free(_) | Work::Record { .. } | Work::Nothing | Work::Hang => 5,
        }
    }
}

impl Machine {
    /// Does it now. A fault kills the context.
    pub(super) fn execute(&mut self, context: Handle<Context>, work: &Work) -> Outcome {
        match work {
            Work::Launch(launch) => return self.execute_launch(context, launch),
            Work::Rows(parts) | Work::Graph(parts) => {
                return parts.iter().try_for_each(|part| self.execute(context, part));
            }
            Work::Call(callback) => {
                IN_CALLBACK.set(true);
                callback.call();
                IN_CALLBACK.set(false);
                return Ok(());
            }
            Work::Record { event, recording } => {
                if let Some(event) = self.events.find_mut(*event) {
                    event.happened(*recording, Instant::now());
                }
                return Ok(());
            }
            Work::HostCopy { to, from, bytes } => return to.write(&from.read(*bytes)?),
            Work::Nothing => return Ok(()),
            Work::Hang => return Err(Code::HUNG.into()),
            Work::Free(address) => {
                self.allocations.remove(address);
            }
            Work::Upload { .. } | Work::Download { .. } | Work::Copy { .. } | Work::Fill { .. } => {}
        }
        self.device_of(context)?.touch(work)?.map_err(|error| {
            let report = format!("a copy, fill or free found its memory gone when the stream got to it: {error}");
            eprintln!("vgpu: {report}");
            self.kill(context, Code::ILLEGAL_ADDRESS, report);
            Code::ILLEGAL_ADDRESS.into()
        })
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
