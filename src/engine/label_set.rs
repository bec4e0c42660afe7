//! A list of labels as a network compares pixels with it: made once, then never changed; and the place where a lane finds the
//! labels of its next frame.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::device::Bank;
use crate::memory::Held;
use crate::unit_vector::unit;

/// A list of labels, encoded by a network's text tower ([`Network::labels`](super::Network::labels)). It is made beside running
/// frames and serves any lane of its network; copies are cheap.
#[derive(Clone)]
pub struct Labels(Arc<Inner>);

pub(super) struct Inner {
    /// The network that made it.
    pub network: u64,
    pub epoch: u64,
    pub names: Vec<String>,
    pub notes: Vec<String>,
    /// `[labels, embed_dim]`: what the bank was made of, of any length.
    pub features: Vec<f32>,
    /// These are what pixels are compared with, as long as they are.
    pub keeps_length: bool,
    pub embed_dim: usize,
    pub bank: Bank,
    pub text_time: Duration,
    /// What the bank and the features take.
    pub _held: Held,
}

impl Labels {
    pub(super) fn new(inner: Inner) -> Labels {
        Labels(Arc::new(inner))
    }

    /// The labels in the order of a mask's values.
    pub fn names(&self) -> &[String] {
        &self.0.names
    }

    /// A number that no other list of this network has; later lists have higher ones.
    pub fn epoch(&self) -> u64 {
        self.0.epoch
    }

    /// Which of the labels are cut, and where; one line each.
    pub fn notes(&self) -> &[String] {
        &self.0.notes
    }

    /// The labels' embeddings as the pixels are compared with them, `[labels, embed_dim]`: unit vectors (a zero vector
    /// stays zero), or means that keep their length.
    pub fn embeddings(&self) -> Vec<f32> {
        if self.0.keeps_length {
            return self.0.features.clone();
        }
        self.0.features.chunks_exact(self.0.embed_dim).flat_map(unit).collect()
    }

    /// Wall time of the text tower; zero where every label was known.
    pub fn text_time(&self) -> Duration {
        self.0.text_time
    }

    /// Whether these are those.
    pub(super) fn is_same(&self, other: &Labels) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether nobody else has them.
    pub(super) fn is_last(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    pub(super) fn network(&self) -> u64 {
        self.0.network
    }

    pub(super) fn bank(&self) -> &Bank {
        &self.0.bank
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Labels").field("epoch", &self.0.epoch).field("names", &self.0.names).finish_non_exhaustive()
    }
}

/// Where a lane looks for its labels before each frame: whoever holds it gives a running lane other words. They are taken whole,
/// between two frames.
#[derive(Clone, Debug, Default)]
pub struct LabelSlot(Arc<Mutex<Option<Labels>>>);

impl LabelSlot {
    /// From the lane's next frame on.
    pub fn set(&self, labels: Labels) {
        // The old ones go behind the lock: their memory may be given back here, for which no frame shall wait.
        let _old = self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(labels);
    }

    /// What the next frame is asked about.
    pub fn get(&self) -> Option<Labels> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
