//! Passes in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::context::Context;

/// A pass, from before its first call until it has been waited for. Passes of a context share the GPU, so a wait for one may be a
/// wait for all of them.
pub struct Flight(Arc<Context>);

impl Flight {
    pub fn begin(context: &Arc<Context>) -> Flight {
        context.flights.0.fetch_add(1, Ordering::AcqRel);
        Flight(Arc::clone(context))
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.flights.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How many there are.
#[derive(Default)]
pub(super) struct Flights(AtomicU32);

impl Flights {
    pub(super) fn count(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }
}
