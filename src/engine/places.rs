//! Where a lane's results stay on a GPU: places that its frames take in turn, each for as long as somebody holds what is there.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::device::Device;
use crate::device::cuda;
use crate::error::{Error, Result};
use crate::memory::{self, Budget, Held};
use crate::model::{Count, FrameIo, Output};
use crate::plan::Plan;

/// Places of a lane until another number is chosen.
const PLACES: usize = 2;

/// A lane's places.
pub(super) struct Places {
    budget: Budget,
    most: usize,
    /// The one that was taken last is the last.
    list: Vec<Arc<LanePlace>>,
}

/// A place, and what it takes of the network's memory.
pub(super) struct LanePlace {
    pub memory: cuda::Place,
    /// How many hold what is there.
    users: AtomicUsize,
    /// None does, and the streams that read it are known.
    is_free: AtomicBool,
    /// What the pass whose outputs are there counted, and where that stands.
    counts: Mutex<Counts>,
    _held: Held,
    /// The process that made it.
    pub process: u32,
}

/// What a pass counts of its outputs, each with its place, in bytes.
pub(super) type Counts = [Option<(usize, Count)>; Output::ALL.len()];

/// One of those who hold what is in a place. With the last of them it is free, from whichever thread it is dropped, and waits for
/// nothing; but where the lane is gone, the memory is given back, which waits for what reads it.
pub(super) struct User(Arc<LanePlace>);

impl Places {
    pub fn new(budget: &Budget) -> Places {
        Places { budget: budget.clone(), most: PLACES, list: Vec::new() }
    }

    /// So many from now on, one at least.
    pub fn set_most(&mut self, most: usize) {
        self.most = most.max(1);
        self.give_up_surplus();
    }

    /// As many as they may be: those that are held go when they are free.
    fn give_up_surplus(&mut self) {
        while self.list.len() > self.most
            && let Some(at) = self.list.iter().position(|place| place.is_free())
        {
            self.list.remove(at);
        }
    }

    /// # Errors
    /// [`Error::Busy`] where none is free.
    pub fn check(&mut self) -> Result<()> {
        self.give_up_surplus();
        if self.list.len() < self.most || self.list.iter().any(|place| place.is_free()) {
            return Ok(());
        }
        let (most, s) = (self.most, if self.most == 1 { "" } else { "s" });
        Err(Error::Busy(format!(
            "all results on the GPU are held, {most} frame{s} of this lane: drop one, or allow more with set_device_places"
        )))
    }

    /// One for a pass of this plan, with these outputs: another where there may be more, else that which was free for longest. It is held until the
    /// user is dropped.
    ///
    /// # Errors
    /// As [`Places::check`]; [`Error::Memory`], or whatever the device answers, and then there is one less.
    pub fn take(&mut self, device: &mut dyn Device, plan: &Plan, io: &FrameIo) -> Result<User> {
        self.check()?;
        let place = match self.list.iter().position(|place| place.is_free()).filter(|_| self.list.len() >= self.most) {
            Some(at) => Some(self.list.remove(at)).filter(|place| place.memory.holds(plan)),
            None => None,
        };
        let place = match place {
            Some(place) => place,
            None => {
                let mut held = self.budget.holder();
                held.hold("a frame's results on the GPU", device.place_need(plan), memory::FOR_PASS)?;
                let (memory, users, is_free) = (device.place(plan)?, AtomicUsize::new(0), AtomicBool::new(true));
                let (counts, process) = (Mutex::default(), std::process::id());
                Arc::new(LanePlace { memory, users, is_free, counts, _held: held, process })
            }
        };
        self.list.push(Arc::clone(&place));
        place.is_free.store(false, Ordering::Relaxed);
        let mut counts = io.counts().map(|count| (cuda::Place::at(plan, count.place), count));
        place.locked_counts().fill_with(|| counts.next());
        Ok(User::of(place))
    }
}

impl LanePlace {
    fn is_free(&self) -> bool {
        self.is_free.load(Ordering::Acquire)
    }

    pub fn counts(&self) -> Counts {
        *self.locked_counts()
    }

    fn locked_counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl User {
    fn of(place: Arc<LanePlace>) -> User {
        place.users.fetch_add(1, Ordering::Relaxed);
        User(place)
    }

    pub fn place(&self) -> &LanePlace {
        &self.0
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a place at {:#x}", self.0.memory.address())
    }
}

impl Clone for User {
    fn clone(&self) -> User {
        User::of(Arc::clone(&self.0))
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let LanePlace { users, memory, is_free, .. } = &*self.0;
        if users.fetch_sub(1, Ordering::AcqRel) == 1 {
            memory.release();
            is_free.store(true, Ordering::Release);
        }
    }
}
