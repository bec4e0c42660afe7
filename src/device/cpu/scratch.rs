//! Each thread's own working memory, kept from frame to frame.

use std::cell::RefCell;

thread_local! {
    static PACK: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    static WORK: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

fn with<R>(cell: &RefCell<Vec<f32>>, len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut memory = cell.borrow_mut();
    if memory.len() < len {
        memory.resize(len, 0.0);
    }
    f(&mut memory[..len])
}

/// Memory for the packed rows of a product. Its old values are still in it.
pub fn pack<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    PACK.with(|cell| with(cell, len, f))
}

/// Memory for everything else; may be held while a product runs.
pub fn work<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    WORK.with(|cell| with(cell, len, f))
}
