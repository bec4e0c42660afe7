//! The CUDA driver: the part of its interface that the device uses, made safe. The device's `unsafe` is here, where the
//! functions are declared (`sys.rs`), and that for cuBLAS in `cublas.rs`. It is written here, and not taken from a library, because
//! each engine has a context of its own, so that an error ends one engine alone; because copies are queued from memory that must
//! outlive them; and because calls are counted.

mod calls;
mod context;
mod event;
mod explain;
mod function;
mod gpu;
mod graph;
mod info;
mod memory;
mod module;
mod pinned;
mod start;
mod stream;
mod virtual_gpu;
mod wait;

pub use event::Event;
pub use function::Function;
pub use gpu::Gpu;
pub use graph::Executable;
pub use info::{Info, info};
pub use memory::Memory;
pub use module::{Image, Module};
pub use pinned::Pinned;
pub use start::{count, file, is_present, unusable};
#[cfg(feature = "bench")]
pub use virtual_gpu::{last_counts, set_virtual_devices};
pub use wait::Waiting;

use super::codes::{CallResult, Code};

/// What the driver writes to a place.
pub(super) fn out_param<T>(mut place: T, ask: impl FnOnce(&mut T) -> CallResult) -> Result<T, Code> {
    ask(&mut place)?;
    Ok(place)
}
