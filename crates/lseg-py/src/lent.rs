//! Images in a GPU's memory, of frames that are still queued: whoever lent them may use that memory again as soon as it is let go.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lseg_fast::{Error, Progress};
use pyo3::prelude::*;

use crate::array::Keep;

/// Frames whose images are kept before the oldest is waited for.
const MOST: usize = 8;

type Frame = (Progress, Arc<Vec<Keep>>);

/// Those of an engine, the oldest frame's first. They are let go when a later frame comes, or with the engine.
#[derive(Default)]
pub struct Lent(Mutex<VecDeque<Frame>>);

impl Lent {
    /// Keeps a frame's images until it is computed, and lets go those of frames that are. Waits only where there are too many.
    pub fn keep(&self, py: Python<'_>, progress: Progress, images: Arc<Vec<Keep>>) {
        let mut done = Vec::new();
        let mut frames = self.frames();
        frames.push_back((progress, images));
        while frames.front().is_some_and(|(progress, _)| is_done(progress)) {
            done.extend(frames.pop_front());
        }
        let oldest = if frames.len() > MOST { frames.pop_front() } else { None };
        // What an image's owner does when it is let go may lead here again.
        drop(frames);
        if let Some(oldest) = oldest {
            wait(py, &[oldest]);
        }
    }

    fn frames(&self) -> MutexGuard<'_, VecDeque<Frame>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let frames = std::mem::take(&mut *self.frames());
        if frames.is_empty() {
            return;
        }
        let mut frames = Some(Vec::from(frames));
        let let_go = Python::try_attach(|py| {
            let frames = frames.take().unwrap_or_default();
            wait(py, &frames);
        });
        if let_go.is_none() {
            // The interpreter is at its end, and so is what they keep.
            std::mem::forget(frames);
        }
    }
}

/// A GPU that is lost reads nothing any more. One that cannot be asked now (while somebody captures a graph) is asked at the next frame.
fn is_done(progress: &Progress) -> bool {
    matches!(progress.is_done(), Ok(true) | Err(Error::Lost(_)))
}

/// What went wrong is told to whoever asks for the result.
fn wait(py: Python<'_>, frames: &[Frame]) {
    let progress: Vec<&Progress> = frames.iter().map(|(progress, _)| progress).collect();
    py.detach(|| {
        progress.iter().for_each(|progress| {
            let _ = progress.wait();
        })
    });
}
