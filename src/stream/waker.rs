//! One thread that waits, and those who wake it, for which nobody waits.

use std::hint;
use std::sync::OnceLock;
use std::thread::{self, Thread};
use std::time::Instant;

use super::options::Waiting;

/// Its thread is known once that has begun.
#[derive(Default)]
pub struct Waker(OnceLock<Thread>);

impl Waker {
    /// This thread is the one that waits.
    pub fn is_me(&self) {
        let _ = self.0.set(thread::current());
    }

    /// A wake-up before it sleeps is not lost.
    pub fn wake(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

impl Waiting {
    /// This thread pauses once: until it is woken, or for less.
    pub fn pause(self) {
        match self {
            Waiting::Block => thread::park(),
            Waiting::Yield => thread::yield_now(),
            Waiting::Spin => hint::spin_loop(),
        }
    }

    /// This thread does nothing until a time.
    pub fn until(self, time: Instant) {
        loop {
            let left = time.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            match self {
                Waiting::Block => thread::sleep(left),
                Waiting::Yield => thread::yield_now(),
                Waiting::Spin => hint::spin_loop(),
            }
        }
    }
}
