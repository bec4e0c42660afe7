//! This program's allocator: the system's, which in a process that asks for it counts, and refuses what it is told to.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering::Relaxed};

use lseg_fast::termination::Allocator;

#[global_allocator]
static ALLOCATOR: Allocator<Watched> = Allocator(Watched);

struct Watched;

static IS_WATCHED: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);
/// Below 0 where more is freed that was there before.
static LIVE: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);
static FIRST_REFUSED: AtomicUsize = AtomicUsize::new(usize::MAX);
static LAST_REFUSED: AtomicUsize = AtomicUsize::new(usize::MAX);

/// From here on all is counted: for tests that have their process for themselves.
pub fn watch() {
    IS_WATCHED.store(true, Relaxed);
}

/// From here on nothing is counted or refused.
pub fn unwatch() {
    IS_WATCHED.store(false, Relaxed);
}

/// Allocations that will be refused, by their number.
pub fn refuse(numbers: RangeInclusive<usize>) {
    FIRST_REFUSED.store(*numbers.start(), Relaxed);
    LAST_REFUSED.store(*numbers.end(), Relaxed);
}

/// Allocations so far.
pub fn count() -> usize {
    COUNT.load(Relaxed)
}

/// Allocations of all threads while `f` runs, and the largest's bytes.
pub fn allocations(f: impl FnOnce()) -> (usize, usize) {
    LARGEST.store(0, Relaxed);
    let before = count();
    f();
    (count() - before, LARGEST.load(Relaxed))
}

/// What `f` makes, the bytes that are live after it and were not before, and the most meanwhile.
pub fn taken<T>(f: impl FnOnce() -> T) -> (T, usize, usize) {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let made = f();
    let more = |bytes: &AtomicIsize| usize::try_from(bytes.load(Relaxed) - before).unwrap_or(0);
    (made, more(&LIVE), more(&PEAK))
}

/// Counts an allocation; whether it is to be made.
fn grants(bytes: usize) -> bool {
    if !IS_WATCHED.load(Relaxed) {
        return true;
    }
    let number = COUNT.fetch_add(1, Relaxed);
    LARGEST.fetch_max(bytes, Relaxed);
    let live = LIVE.fetch_add(bytes as isize, Relaxed) + bytes as isize;
    PEAK.fetch_max(live, Relaxed);
    !(FIRST_REFUSED.load(Relaxed)..=LAST_REFUSED.load(Relaxed)).contains(&number)
}

fn frees(bytes: usize) {
    if IS_WATCHED.load(Relaxed) {
        LIVE.fetch_sub(bytes as isize, Relaxed);
    }
}

// SAFETY: what is not refused goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promised.
        if grants(layout.size()) { unsafe { System.alloc(layout) } } else { std::ptr::null_mut() }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promised.
        if grants(layout.size()) { unsafe { System.alloc_zeroed(layout) } } else { std::ptr::null_mut() }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !grants(size) {
            return std::ptr::null_mut();
        }
        frees(layout.size());
        // SAFETY: as the caller promised.
        unsafe { System.realloc(place, layout, size) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        frees(layout.size());
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(place, layout) }
    }
}
