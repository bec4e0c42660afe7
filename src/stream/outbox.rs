//! Answers on their way to whoever asked: a few places for results, which go round.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::waker::Waker;
use crate::engine::{DeviceResults, Results};
use crate::error::{Error, Result};

/// What one frame's results lie in.
#[derive(Default)]
pub struct Place {
    pub results: Results,
    pub on_device: Option<DeviceResults>,
}

/// What became of one frame. Dropping it frees its results' place for another.
pub struct Answer {
    /// How many frames were pushed before this one.
    pub sequence: u64,
    /// As it was pushed.
    pub stamp: i64,
    /// Which list of labels it was asked about: [`Stream::set_labels`](super::Stream::set_labels) tells the number of each.
    pub epoch: u64,
    /// How long it took.
    pub times: AnswerTimes,
    pub(super) outcome: Result<()>,
    pub(super) place: Option<Box<Place>>,
    pub(super) outbox: Arc<Outbox>,
}

/// How long a frame took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerTimes {
    /// From its push until the engine took it.
    pub waited: Duration,
    /// From then until its results were there.
    pub computed: Duration,
    /// The sum: how old the frame is, from its push.
    pub age: Duration,
}

impl Answer {
    /// Its results.
    ///
    /// # Errors
    /// Why nothing could be computed of it. Where results stay on the GPU: ask [`Answer::on_device`].
    pub fn results(&self) -> std::result::Result<&Results, &Error> {
        self.outcome.as_ref().map(|()| &self.place().results)
    }

    /// Its results on the GPU, where the stream leaves them there.
    ///
    /// # Errors
    /// Why nothing could be computed of it.
    pub fn on_device(&self) -> std::result::Result<Option<&DeviceResults>, &Error> {
        self.outcome.as_ref().map(|()| self.place().on_device.as_ref())
    }

    fn place(&self) -> &Place {
        self.place.as_ref().expect("it is there until the answer is dropped")
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Answer { sequence, stamp, epoch, times, outcome, .. } = self;
        write!(f, "Answer {{ sequence: {sequence}, stamp: {stamp}, epoch: {epoch}, {times:?}, {outcome:?} }}")
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.outbox.give_back(place);
        }
    }
}

pub struct Outbox {
    state: Mutex<State>,
    arrived: Condvar,
    /// Only the newest answer waits.
    is_newest: bool,
    /// The engine's thread, which may wait for a place.
    engine: Arc<Waker>,
}

struct State {
    ready: VecDeque<Answer>,
    /// That which was free for longest comes first: each has had its memory after as many frames as there are.
    free: VecDeque<Box<Place>>,
    unread: u64,
    /// Nothing comes any more; and why, where that is an error.
    ended: Option<Option<String>>,
}

impl Outbox {
    pub fn new(places: usize, is_newest: bool, engine: Arc<Waker>) -> Outbox {
        let free = (0..places).map(|_| Box::default()).collect();
        let state = State { ready: VecDeque::with_capacity(places + 1), free, unread: 0, ended: None };
        Outbox { state: Mutex::new(state), arrived: Condvar::new(), is_newest, engine }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // It is whole whenever it is let go.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Engine: a place for the results of a frame; where none is free, that of an answer which nobody has taken and a newer one
    /// replaces.
    pub fn claim(&self) -> Option<Box<Place>> {
        let mut state = self.state();
        let free = state.free.pop_front();
        if free.is_some() || !self.is_newest {
            return free;
        }
        let mut old = state.ready.pop_front()?;
        state.unread += 1;
        old.place.take()
    }

    /// A place that is not needed.
    pub fn give_back(&self, mut place: Box<Place>) {
        // Whoever holds a tensor of it still has its own part of it.
        place.on_device = None;
        self.state().free.push_back(place);
        self.engine.wake();
    }

    /// Engine: an answer is there.
    pub fn deliver(&self, answer: Answer) {
        let mut state = self.state();
        let old = if self.is_newest { state.ready.pop_front() } else { None };
        state.unread += u64::from(old.is_some());
        state.ready.push_back(answer);
        drop(state);
        self.arrived.notify_one();
        // Its place is given back, for which the lock is taken again.
        drop(old);
    }

    /// Nothing comes any more.
    pub fn end(&self, why: Option<String>) {
        self.state().ended.get_or_insert(why);
        self.arrived.notify_all();
    }

    pub fn unread(&self) -> u64 {
        self.state().unread
    }

    /// Whether nothing is there and nothing comes any more.
    pub fn is_over(&self) -> bool {
        let state = self.state();
        state.ended.is_some() && state.ready.is_empty()
    }

    /// Why the engine ended by itself.
    pub fn failure(&self) -> Option<String> {
        self.state().ended.clone().flatten()
    }

    pub fn poll(&self) -> Option<Answer> {
        self.state().ready.pop_front()
    }

    /// Waits for so long at most; `None` where nothing came, or nothing comes any more.
    ///
    /// # Errors
    /// [`Error::Lost`]: the engine has ended by an error, and all answers are taken.
    pub fn recv(&self, timeout: Duration) -> Result<Option<Answer>> {
        let until = Instant::now().checked_add(timeout);
        let mut state = self.state();
        loop {
            if let Some(answer) = state.ready.pop_front() {
                return Ok(Some(answer));
            }
            match &state.ended {
                Some(Some(why)) => return Err(Error::Lost(why.clone())),
                Some(None) => return Ok(None),
                None => {}
            }
            let left = match until {
                Some(until) => until.saturating_duration_since(Instant::now()),
                None => Duration::MAX,
            };
            if left.is_zero() {
                return Ok(None);
            }
            state = self.arrived.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
