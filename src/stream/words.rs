//! The words that frames are asked about, which anybody may change while they run.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::engine::{LabelOptions, Labels, Network};
use crate::error::{Error, Result};
use crate::labels::{self, List};

/// The network whose words they are, and the words of the present.
pub struct Words {
    /// The number of the present list: looked at before each frame, without a lock.
    epoch: AtomicU64,
    present: Mutex<Present>,
    /// None while another is made. Who makes words has it for so long: others wait, frames do not.
    network: Mutex<Option<Network>>,
}

#[derive(Clone, Default)]
pub struct Present {
    pub labels: Option<Labels>,
    pub epoch: u64,
    options: LabelOptions,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each is whole whenever it is let go.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Words {
    pub fn new(network: &Network, labels: Option<&Labels>, options: &LabelOptions) -> Words {
        let epoch = u64::from(labels.is_some());
        Words {
            epoch: AtomicU64::new(epoch),
            present: Mutex::new(Present { labels: labels.cloned(), epoch, options: options.clone() }),
            network: Mutex::new(Some(network.clone())),
        }
    }

    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    pub fn present(&self) -> Present {
        locked(&self.present).clone()
    }

    pub fn network(&self) -> Result<Network> {
        locked(&self.network).clone().ok_or_else(no_network)
    }

    /// Other words from the next frame on, in the way of those before. Their number.
    pub fn set<S: AsRef<str>>(&self, words: &[S]) -> Result<u64> {
        let options = locked(&self.present).options.clone();
        self.set_list(&labels::checked(words)?, &options)
    }

    pub fn set_list(&self, list: &List, options: &LabelOptions) -> Result<u64> {
        let network = locked(&self.network);
        let labels = network.as_ref().ok_or_else(no_network)?.labels_of(list, options, &mut |_, _| ())?;
        let mut present = locked(&self.present);
        let epoch = present.epoch + 1;
        let old = std::mem::replace(&mut *present, Present { labels: Some(labels), epoch, options: options.clone() });
        self.epoch.store(epoch, Ordering::Release);
        drop(present);
        // They may be the last of their kind: their memory is given back while nobody waits for the lock.
        drop(old);
        Ok(epoch)
    }

    /// Another network has the same words, under the same number. The one before goes first, for its memory.
    pub fn renew(&self, make: impl FnOnce() -> Result<Network>) -> Result<Network> {
        let mut network = locked(&self.network);
        *network = None;
        let (names, options) = {
            let present = locked(&self.present);
            let names = present.labels.as_ref().map(|labels| labels.names().to_vec());
            (names, present.options.clone())
        };
        let new = make()?;
        if let Some(names) = names {
            let labels = new.labels_of(&labels::checked(&names)?, &options, &mut |_, _| ())?;
            locked(&self.present).labels = Some(labels);
        }
        *network = Some(new.clone());
        Ok(new)
    }
}

fn no_network() -> Error {
    Error::Lost("the engine was lost, and there is no other".to_owned())
}
