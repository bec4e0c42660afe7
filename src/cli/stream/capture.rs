//! The thread that reads the source, straight into the stream's memory.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::pixels::Format;
use crate::stream::{Policy, Slot, Stream};
use crate::video::{Next, Opened, Rate, Reconnect, Room, Source, SourceOptions};

use super::super::{Failure, message};
use super::arguments::{Arguments, CameraFormat, OnLoss, Pixels};

/// How long a full queue is waited for before an end is looked for.
const GLANCE: Duration = Duration::from_millis(50);
/// How long an ended stream waits for its source, which may never tell.
const PATIENCE: Duration = Duration::from_millis(500);

/// What the source has lost.
#[derive(Default)]
pub struct Counted {
    corrupt: AtomicU64,
    missed: AtomicU64,
    last: Mutex<String>,
    reconnections: Mutex<Option<Arc<AtomicU64>>>,
}

impl Counted {
    pub fn corrupt(&self) -> u64 {
        self.corrupt.load(Ordering::Acquire)
    }

    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Acquire)
    }

    pub fn reconnections(&self) -> u64 {
        let count = self.reconnections.lock().unwrap_or_else(PoisonError::into_inner);
        count.as_ref().map_or(0, |count| count.load(Ordering::Acquire))
    }

    /// What was wrong with the last frame that was damaged.
    pub fn last_damage(&self) -> String {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_damage(&self, what: String) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = what;
        self.corrupt.fetch_add(1, Ordering::AcqRel);
    }
}
