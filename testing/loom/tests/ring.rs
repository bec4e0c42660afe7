//! The ring of `src/stream` in every order in which two threads can meet there, which loom tries one after the other.

/// In the place of the standard library's.
mod sync {
    pub use loom::sync::Mutex;
    pub use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
}

#[path = "../../../src/stream/ring.rs"]
#[allow(dead_code, reason = "what one of both kinds does not use")]
mod ring;

use std::sync::atomic::AtomicUsize as Count;
use std::sync::atomic::Ordering::Relaxed;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use ring::{Ring, Spares};

/// Frames that the writer pushes.
const FRAMES: usize = 3;
/// How often the reader looks.
const READS: usize = 4;

/// What a stream is to two threads. Loom tells where both are at one slot at once.
struct Shared {
    ring: Ring,
    frames: Vec<UnsafeCell<usize>>,
}

// SAFETY: whether the ring makes this true is what is tested: loom looks at each access of a cell.
#[allow(unsafe_code)]
unsafe impl Sync for Shared {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Send for Shared {}

/// Writes frames 0, 1, 2. How many were replaced, how many found no room, how many were left behind.
fn write(shared: &Shared, mut slot: Option<usize>) -> [usize; 3] {
    let [mut replaced, mut full, mut left] = [0; 3];
    for frame in 0..FRAMES {
        slot = slot.or_else(|| shared.ring.free());
        let Some(number) = slot else {
            full += 1;
            continue;
        };
        // SAFETY: the slot is the writer's.
        #[allow(unsafe_code)]
        shared.frames[number].with_mut(|at| unsafe { *at = frame });
        let filled = shared.ring.fill(number);
        slot = filled.next;
        replaced += usize::from(filled.is_replaced);
        left += shared.ring.left_behind();
    }
    [replaced, full, left]
}

fn read(shared: &Shared, spares: &mut Spares, tries: usize) -> Vec<usize> {
    let mut frames = Vec::new();
    for _ in 0..tries {
        let Some(number) = shared.ring.take(spares) else {
            // Else loom would seldom let the writer come first.
            thread::yield_now();
            continue;
        };
        // SAFETY: the slot is the reader's.
        #[allow(unsafe_code)]
        frames.push(shared.frames[number].with(|at| unsafe { *at }));
        shared.ring.give_back(spares, number);
    }
    frames
}

/// Every frame is read, replaced, refused or left behind, each once; they are read in their order; and no slot is in two hands.
fn all_orders(make: impl Fn() -> (Ring, Option<usize>, Spares) + Send + Sync + 'static, slots: usize) {
    let (orders, most) = (std::sync::Arc::new(Count::new(0)), std::sync::Arc::new(Count::new(0)));
    let (all, read_at_most) = (orders.clone(), most.clone());
    loom::model(move || {
        let (ring, slot, mut spares) = make();
        let frames = (0..slots).map(|_| UnsafeCell::new(usize::MAX)).collect();
        let shared = Arc::new(Shared { ring, frames });
        let writer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || write(&shared, slot))
        };
        let frames = read(&shared, &mut spares, READS);
        let left = shared.ring.end();
        let [replaced, full, left_behind] = writer.join().unwrap();
        assert!(frames.is_sorted_by(|a, b| a < b) && frames.iter().all(|frame| *frame < FRAMES), "{frames:?}");
        assert_eq!(frames.len() + replaced + full + left + left_behind, FRAMES, "{frames:?} {replaced} {full} {left}");
        orders.fetch_add(1, Relaxed);
        most.fetch_max(frames.len(), Relaxed);
    });
    let (orders, most) = (all.load(Relaxed), read_at_most.load(Relaxed));
    assert!(orders > 100 && most >= 2, "{orders} orders, {most} frames read");
    eprintln!("{orders} orders");
}

#[test]
fn the_newest_is_taken_or_replaced() {
    all_orders(|| Ring::newest(1), 3);
}

#[test]
fn every_frame_is_taken_or_refused() {
    all_orders(|| Ring::every(2), 2);
}
