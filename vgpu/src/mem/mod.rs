//! Memory, with a shadow that knows what was written, by whom, and when.
//!
//! Every space is a window of one 64-bit address space, far from the others; a pointer into one is never valid in another.
//! A warp's access is a [`Request`]: 32 addresses, a mask of lanes, bytes a lane; data travels as [`Words`].

mod agents;
mod allocation;
pub(crate) mod atomics;
mod banks;
mod blocks;
mod bulk;
mod copies;
mod global;
mod inside;
mod lane_sets;
mod lanes;
mod launch;
mod lines;
mod local;
pub mod mbarriers;
mod operands;
mod order;
mod pins;
mod race_report;
mod shared;
mod sites;
pub mod tensor_map;
mod warps;
mod words;

pub use bulk::{Accessor, Life, Piece};
pub use global::{GlobalMemory, MemoryError};
pub use launch::{BlockMemory, LaunchMemory};
pub use local::LocalMemory;
pub use operands::Descriptor;
pub use pins::{Ended, LineSet};
pub use shared::{GlobalUse, SharedMemory};

/// Shared memory as seen by generic pointers; the shared-space address of its first byte is [`SHARED_START`].
pub const SHARED_WINDOW: u64 = 0x0000_7a00_0000_0000;
pub const LOCAL_WINDOW: u64 = 0x0000_7b00_0000_0000;
/// A kernel's parameters as seen by generic pointers.
pub const PARAM_WINDOW: u64 = 0x0000_7c00_0000_0000;
/// The bank of `.const` variables, in the same way.
pub const CONST_WINDOW: u64 = 0x0000_7d00_0000_0000;
/// Length of a block's part of the shared window, and of the local window.
pub const WINDOW_BYTES: u64 = 1 << 24;
/// Of the shared window: the block's own part, then one for each rank of its cluster.
pub const SHARED_WINDOW_BYTES: u64 = 17 << 24;
/// First byte of a block's static shared memory, in shared-space addresses: not 0, so that a pointer that lost its base shows.
pub const SHARED_START: u64 = 0x400;
/// First byte of a thread's local memory, in local-space addresses.
pub const LOCAL_START: u64 = 0x100;
/// Allocations of the first device's memory lie from here on.
pub const GLOBAL_WINDOW: u64 = 0x0000_7f00_0000_0000;
/// From one device's first address to the next one's: more than a program will ever ask for, as no address comes twice.
pub const DEVICE_STRIDE: u64 = 1 << 44;

/// One access of a warp. Only lanes of `mask` count.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// In the addresses of the space that is asked.
    pub addresses: &'a [u64; 32],
    pub mask: u32,
    /// A lane's bytes: 1, 2, 4, 8 or 16.
    pub bytes: usize,
}

/// What 32 lanes load or store: word w of lane l is `bits[w][l]`; 1- and 2-byte values are zero-extended in word 0.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    pub bits: [[u32; 32]; 4],
    /// Which are undefined: bit l, the low half of lane l's word; bit 32 + l, the high half. Of values narrower than a
    /// word both bits are set together.
    pub undef: [u64; 4],
}

impl Words {
    pub const ZERO: Words = Words { bits: [[0; 32]; 4], undef: [0; 4] };
}
