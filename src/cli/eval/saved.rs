//! The counts, kept in a file from time to time, and when a signal ends the process.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::Result;
use crate::eval::confusion::Confusion;
use crate::eval::dataset::Item;
use crate::eval::state::State;
use crate::termination::before_signals_end;

/// The most work that is lost where a process is killed.
const EVERY: Duration = Duration::from_secs(30);

/// A state and its file.
pub struct Saved {
    state: Arc<Mutex<State>>,
    path: Option<PathBuf>,
    written: Instant,
}

impl Saved {
    /// Without a file, nothing is kept.
    pub fn new(state: State, path: Option<&Path>) -> Saved {
        let state = Arc::new(Mutex::new(state));
        if let Some(path) = path {
            let (state, path) = (state.clone(), path.to_owned());
            // There is nobody left to tell that it failed.
            before_signals_end(move || drop(locked(&state).write(&path)));
        }
        Saved { state, path: path.map(Path::to_owned), written: Instant::now() }
    }

    /// What was counted.
    pub fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Adds a photo, whole: a signal finds it in the counts and in the list, or in neither.
    pub fn add(&mut self, item: &Item, counted: Result<Confusion, String>) -> Result<()> {
        self.state().add(item.name.clone(), item.list, counted);
        if self.written.elapsed() < EVERY { Ok(()) } else { self.write() }
    }

    /// Writes the file, where there is one.
    pub fn write(&mut self) -> Result<()> {
        self.written = Instant::now();
        self.path.as_deref().map_or(Ok(()), |path| self.state().write(path))
    }
}

/// Its numbers are whole whenever it is let go.
fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
