//! A device belongs to the process that made it. A forked child has its memory, but neither the threads of its pool nor a way to
//! its GPU: whatever waits for them there waits for ever.

use std::ops::{Deref, DerefMut};
use std::process;

use crate::device::Device;
use crate::error::{Error, Result};

pub struct ForkGuard {
    /// Until it is dropped.
    device: Option<Box<dyn Device>>,
    made_in: u32,
}

impl ForkGuard {
    pub fn new(device: Box<dyn Device>) -> ForkGuard {
        ForkGuard { device: Some(device), made_in: process::id() }
    }

    /// To be called before the device is asked to do anything.
    ///
    /// # Errors
    /// This is another process.
    pub fn check(&self) -> Result<()> {
        check(self.made_in)
    }

    fn is_here(&self) -> bool {
        process::id() == self.made_in
    }
}

/// # Errors
/// This is another process than `made_in`.
pub fn check(made_in: u32) -> Result<()> {
    if process::id() == made_in {
        return Ok(());
    }
    let what = "this engine was made in another process, from which this one was forked: make a new one in this process \
                (one on a GPU needs a process that was started by other means, such as Python's multiprocessing with the \
                start method spawn)";
    Err(Error::Device(what.to_owned()))
}

impl Deref for ForkGuard {
    type Target = dyn Device;

    fn deref(&self) -> &(dyn Device + 'static) {
        &**self.device.as_ref().expect("it is there until it is dropped")
    }
}

impl DerefMut for ForkGuard {
    fn deref_mut(&mut self) -> &mut (dyn Device + 'static) {
        &mut **self.device.as_mut().expect("it is there until it is dropped")
    }
}

impl Drop for ForkGuard {
    /// In another process it is left as it is: to give it back would wait for what is not there.
    fn drop(&mut self) {
        if !self.is_here() {
            std::mem::forget(self.device.take());
        }
    }
}
