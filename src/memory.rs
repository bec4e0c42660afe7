//! One budget for all that a network and its lanes hold and make. It is asked before memory is taken, so that a file or a photo that
//! wants too much is answered with a sentence: what is needed, what is free, what to do.

mod free;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::plan::Plan;

/// What to do about each kind of need.
pub(crate) const FOR_MODEL: &str = "take a smaller model, or allow more with --max-memory";
pub(crate) const FOR_PASS: &str = "choose a smaller --size, or allow more with --max-memory";
pub(crate) const FOR_LABELS: &str = "give fewer labels, or allow more with --max-memory";
const FOR_PHOTO: &str = "make the photo smaller, or allow more with --max-memory";

/// Bytes that something takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// Of the device's memory, to be held.
    pub device: u64,
    /// Of the host's, to be held.
    pub host: u64,
    /// Of the host's, only while it is made or used.
    pub transient: u64,
}

impl Need {
    /// So many times as much.
    pub(crate) fn times(self, count: u64) -> Need {
        let times = |bytes: u64| bytes.saturating_mul(count);
        Need { device: times(self.device), host: times(self.host), transient: times(self.transient) }
    }

    /// Bytes in all, of device and host.
    pub fn total(self) -> u64 {
        self.device.saturating_add(self.host).saturating_add(self.transient)
    }
}

/// The memory that a device has for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// The device's.
    pub name: String,
    /// Bytes that are free.
    pub free: u64,
}

/// How much memory a network may have with all its lanes, and what of it is held. Copies share what they count.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Mutex<Pools>>);

#[derive(Debug)]
struct Pools {
    host: Pool,
    /// Where the device has memory of its own.
    device: Option<Pool>,
}

/// Bytes of one memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The most that may be held; `u64::MAX` where nothing limits it.
    pub limit: u64,
    /// By weights, arenas and labels.
    pub held: u64,
}

#[derive(Debug)]
struct Pool {
    limit: u64,
    /// Where the limit comes from, in words.
    origin: String,
    held: u64,
}

/// What one of them (weights, an arena, a list of labels) holds of a budget, until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    budget: Budget,
    host: u64,
    device: u64,
}

impl Budget {
    /// As many bytes as are `allowed`, of the host's memory and of the device's `own`; else three quarters of what is free
    /// now. Where a system does not say what is free (other than Linux), nothing limits the host's.
    pub fn new(allowed: Option<u64>, own: Option<DeviceMemory>) -> Budget {
        let pool = |free: Option<u64>, whose: &str| match (allowed, free) {
            (Some(limit), _) => Pool { limit, origin: format!("of the {} allowed", shown(limit)), held: 0 },
            (None, free) => Pool {
                limit: free.map_or(u64::MAX, |free| free / 4 * 3),
                origin: format!("three quarters of what {whose} has left"),
                held: 0,
            },
        };
        let host = pool(free::free(), "this machine");
        Budget(Arc::new(Mutex::new(Pools { host, device: own.map(|own| pool(Some(own.free), &own.name)) })))
    }

    fn pools(&self) -> MutexGuard<'_, Pools> {
        // Its numbers are whole whenever it is let go.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host's memory, which is the device's too where that has none of its own.
    pub fn host(&self) -> Usage {
        self.pools().host.usage()
    }

    /// A GPU's memory.
    pub fn device(&self) -> Option<Usage> {
        self.pools().device.as_ref().map(Pool::usage)
    }

    /// Whether the host has so many bytes for `what`, beside what is held; `ways` say what to do where it has not.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn ask(&self, what: &str, bytes: u64, ways: &str) -> Result<()> {
        self.pools().host.check(0, what, bytes, ways)
    }

    /// Whether a photo can be read that takes so many bytes.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn ask_photo(&self, bytes: u64) -> Result<()> {
        self.ask("reading this photo", bytes, FOR_PHOTO)
    }

    /// Nothing is held by it yet.
    pub(crate) fn holder(&self) -> Held {
        Held { budget: self.clone(), host: 0, device: 0 }
    }
}

impl Held {
    /// Of which it is a part.
    pub(crate) fn budget(&self) -> Budget {
        self.budget.clone()
    }

    /// Holds what `what` needs from now on, in the place of what it held.
    ///
    /// # Errors
    /// [`Error::Memory`], and what it held it holds.
    pub(crate) fn hold(&mut self, what: &str, need: Need, ways: &str) -> Result<()> {
        self.take(what, need, ways, (0, 0))
    }

    /// As [`Held::hold`], of what never shrinks.
    ///
    /// # Errors
    /// As [`Held::hold`].
    pub(crate) fn grow(&mut self, what: &str, need: Need, ways: &str) -> Result<()> {
        self.take(what, need, ways, (self.host, self.device))
    }

    /// At `least` so many bytes of (host, device).
    fn take(&mut self, what: &str, need: Need, ways: &str, least: (u64, u64)) -> Result<()> {
        let mut pools = self.budget.pools();
        let (host, device) = pools.split(need);
        if let Some(pool) = &pools.device {
            pool.check(self.device, what, device, ways)?;
        }
        pools.host.check(self.host, what, host.saturating_add(need.transient), ways)?;
        let after = (host.max(least.0), device.max(least.1));
        pools.exchange((self.host, self.device), after);
        drop(pools);
        (self.host, self.device) = after;
        Ok(())
    }

    /// Whether it holds as much already.
    pub(crate) fn covers(&self, need: Need) -> bool {
        let (host, device) = self.budget.pools().split(need);
        host <= self.host && device <= self.device
    }

    pub(crate) fn is_empty(&self) -> bool {
        (self.host, self.device) == (0, 0)
    }

    /// All of it is given back.
    pub(crate) fn release(&mut self) {
        self.budget.pools().exchange((self.host, self.device), (0, 0));
        (self.host, self.device) = (0, 0);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release();
    }
}

impl Pools {
    /// What of a need is the host's and what the device's own memory, to be held.
    fn split(&self, need: Need) -> (u64, u64) {
        match self.device {
            Some(_) => (need.host, need.device),
            None => (need.host.saturating_add(need.device), 0),
        }
    }

    /// (host, device) that were held, and that are from now on.
    fn exchange(&mut self, before: (u64, u64), after: (u64, u64)) {
        self.host.held = self.host.held.saturating_sub(before.0).saturating_add(after.0);
        if let Some(device) = &mut self.device {
            device.held = device.held.saturating_sub(before.1).saturating_add(after.1);
        }
    }
}

impl Pool {
    fn usage(&self) -> Usage {
        Usage { limit: self.limit, held: self.held }
    }

    /// `own` bytes of what is held are given back for this.
    fn check(&self, own: u64, what: &str, bytes: u64, ways: &str) -> Result<()> {
        let free = self.limit.saturating_sub(self.held.saturating_sub(own));
        if bytes <= free {
            return Ok(());
        }
        let (need, free) = (shown_up(bytes), shown(free));
        Err(Error::Memory(format!("{what} needs {need}, {free} are free ({}); {ways}", self.origin)))
    }
}

/// What a pass takes: what its device says, and the caller's photos and results beside it.
pub(crate) fn of_pass(plan: &Plan, device: Need) -> Need {
    let buffers = plan.inputs.iter().chain(&plan.outputs).map(|index| &plan.buffers[*index]);
    // A mask comes out as u16, whatever it is on the device.
    let bytes =
        buffers.map(|b| if b.name == "mask" { b.bytes.max(2 * b.shape.iter().product::<usize>()) } else { b.bytes });
    Need { transient: device.transient.saturating_add(bytes.map(|bytes| bytes as u64).sum()), ..device }
}

/// As users read it, rounded down: what is free.
fn shown(bytes: u64) -> String {
    in_units(bytes, f64::floor)
}

/// Rounded up: what is needed.
fn shown_up(bytes: u64) -> String {
    in_units(bytes, f64::ceil)
}

fn in_units(bytes: u64, round: impl Fn(f64) -> f64) -> String {
    let tenths = |unit: f64| round(10.0 * bytes as f64 / unit) / 10.0;
    match bytes {
        1_000_000_000.. => format!("{:.1} GB", tenths(1e9)),
        1_000_000.. => format!("{:.1} MB", tenths(1e6)),
        _ => format!("{:.1} kB", tenths(1e3)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(asked: Result<()>) -> String {
        match asked {
            Err(Error::Memory(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    fn on_the_host(bytes: u64) -> Need {
        Need { host: bytes, ..Need::default() }
    }

    #[test]
    fn a_refusal_says_what_is_needed_what_is_free_and_what_to_do() {
        let budget = Budget::new(Some(2_000_000_000), None);
        let need = Need { device: 800_000_000, host: 100_000_000, transient: 50_000_000 };
        let mut weights = budget.holder();
        weights.hold("loading this model", need, FOR_MODEL).unwrap();
        assert_eq!(budget.host(), Usage { limit: 2_000_000_000, held: 900_000_000 });
        assert_eq!(
            message(budget.holder().grow("this model at 480×480", on_the_host(5_430_000_001), FOR_PASS)),
            "this model at 480×480 needs 5.5 GB, 1.1 GB are free (of the 2.0 GB allowed); choose a smaller --size, or allow \
             more with --max-memory"
        );
        assert_eq!(budget.host().held, 900_000_000, "what is refused is not held");
        assert!(
            message(budget.ask_photo(1_800_000_000)).starts_with("reading this photo needs 1.8 GB, 1.1 GB are free")
        );
        budget.ask_photo(1_100_000_000).unwrap();
    }

    /// An arena is one for all passes of a lane, a list of labels takes the last one's place; each gives back what is its own.
    #[test]
    fn what_is_held_again_takes_the_place_of_what_was() {
        let budget = Budget::new(Some(1000), None);
        let (mut pass, mut labels) = (budget.holder(), budget.holder());
        for (bytes, held) in [(600, 600), (900, 900), (100, 900)] {
            pass.grow("it", on_the_host(bytes), "").unwrap();
            assert_eq!(budget.host().held, held, "{bytes}");
        }
        for (bytes, held) in [(100, 1000), (40, 940)] {
            labels.hold("it", on_the_host(bytes), "").unwrap();
            assert_eq!(budget.host().held, held, "{bytes}");
        }
        message(labels.hold("it", on_the_host(101), ""));
        message(budget.clone().holder().hold("it", on_the_host(61), ""));
        pass.release();
        assert_eq!(budget.host().held, 40);
        drop(labels);
        assert_eq!(budget.host().held, 0);
    }

    #[test]
    fn a_device_with_memory_of_its_own_has_a_pool_of_its_own() {
        let budget = Budget::new(None, Some(DeviceMemory { name: "GPU 7".into(), free: 4000 }));
        let need = Need { device: 2500, host: 500, transient: 0 };
        let mut weights = budget.holder();
        weights.hold("it", need, "").unwrap();
        assert_eq!((budget.device(), budget.host().held), (Some(Usage { limit: 3000, held: 2500 }), 500));
        let refusal = message(budget.holder().grow("it", Need { device: 501, ..need }, "go"));
        assert_eq!(refusal, "it needs 0.6 kB, 0.5 kB are free (three quarters of what GPU 7 has left); go");
        message(Budget::new(Some(2999), None).holder().hold("it", need, ""));
        drop(weights);
        assert_eq!((budget.device().unwrap().held, budget.host().held), (0, 0));
    }
}
