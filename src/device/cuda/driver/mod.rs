//! The CUDA driver: the part of its interface that the device uses, made safe. The device's `unsafe` is here, where the
//! functions are declared (`sys.rs`), and that for cuBLAS in `cublas.rs`. It is written here, and not taken from a library, because
//! a network may have a context of its own, so that an error ends that network and its lanes alone; because copies are queued from
//! memory that must outlive them; and because calls are counted. Memory and modules belong to a [`Context`], which the devices of a
//! network share, and which may be the GPU's primary one, shared with other libraries; what is queued goes to a [`Stream`] of it: a
//! device has one, and two more once it has submitted a pass.

mod calls;
mod context;
mod event;
mod explain;
mod flight;
mod foreign;
mod function;
mod graph;
mod info;
mod memory;
mod module;
mod pinned;
mod queue;
mod start;
mod stream;
mod tensor_map;
mod virtual_gpu;
mod wait;

pub use context::{Context, ContextKind, ContextOptions};
pub use event::Event;
pub use flight::Flight;
pub use foreign::{ForeignRows, ForeignStream};
pub use function::Function;
pub use graph::Executable;
pub use info::{Info, info};
pub use memory::Memory;
pub use module::{Image, Module};
pub use pinned::Pinned;
pub use start::{count, file, is_present, unusable};
pub use stream::Stream;
#[allow(unused_imports, reason = "for kernels of compute capability 9.0")]
pub use tensor_map::{EACH, L2Promotion, TensorElement, TensorMap, TensorMapSpec, encode};
#[cfg(feature = "bench")]
pub use virtual_gpu::{last_counts, set_virtual_devices};
pub use wait::Waiting;

use super::codes::{CallResult, Code};

/// What the driver writes to a place.
pub(super) fn out_param<T>(mut place: T, ask: impl FnOnce(&mut T) -> CallResult) -> Result<T, Code> {
    ask(&mut place)?;
    Ok(place)
}
