//! One budget for all that an engine holds and makes. It is asked before memory is taken, so that a file or a photo that
//! wants too much is answered with a sentence: what is needed, what is free, what to do.

mod free;

use crate::error::{Error, Result};
use crate::plan::Plan;

/// What to do about each kind of need.
pub(crate) const FOR_MODEL: &str = "take a smaller model, or allow more with --max-memory";
pub(crate) const FOR_PASS: &str = "choose a smaller --size, or allow more with --max-memory";
pub(crate) const FOR_LABELS: &str = "give fewer labels, or allow more with --max-memory";
const FOR_PHOTO: &str = "make the photo smaller, or allow more with --max-memory";

/// What an engine holds memory for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Weights,
    /// Passes share one arena, which never shrinks.
    Pass,
    Labels,
}

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

/// How much memory an engine may have, and what of it is held.
#[derive(Clone, Debug)]
pub struct Budget {
    host: Pool,
    /// Where the device has memory of its own.
    device: Option<Pool>,
}

/// Bytes of one memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The most that may be held; `u64::MAX` where nothing limits it.
    pub limit: u64,
    /// By weights, arena and labels.
    pub held: u64,
}

#[derive(Clone, Debug)]
struct Pool {
    limit: u64,
    /// Where the limit comes from, in words.
    origin: String,
    /// By [`Part`].
    held: [u64; 3],
}

impl Budget {
    /// As many bytes as are `allowed`, of the host's memory and of the device's `own`; else three quarters of what is free
    /// now. Where a system does not say what is free (other than Linux), nothing limits the host's.
    pub fn new(allowed: Option<u64>, own: Option<DeviceMemory>) -> Budget {
        let pool = |free: Option<u64>, whose: &str| match (allowed, free) {
            (Some(limit), _) => Pool { limit, origin: format!("of the {} allowed", shown(limit)), held: [0; 3] },
            (None, free) => Pool {
                limit: free.map_or(u64::MAX, |free| free / 4 * 3),
                origin: format!("three quarters of what {whose} has left"),
                held: [0; 3],
            },
        };
        Budget { host: pool(free::free(), "this machine"), device: own.map(|own| pool(Some(own.free), &own.name)) }
    }

    /// The host's memory, which is the device's too where that has none of its own.
    pub fn host(&self) -> Usage {
        self.host.usage()
    }

    /// A GPU's memory.
    pub fn device(&self) -> Option<Usage> {
        self.device.as_ref().map(Pool::usage)
    }

    /// Whether the host has so many bytes for `what`, beside what is held; `ways` say what to do where it has not.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn ask(&self, what: &str, bytes: u64, ways: &str) -> Result<()> {
        self.host.check(None, what, bytes, ways)
    }

    /// Whether a photo can be read that takes so many bytes.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn ask_photo(&self, bytes: u64) -> Result<()> {
        self.ask("reading this photo", bytes, FOR_PHOTO)
    }

    /// As [`Budget::ask`], of both memories; what is to be held counts from now on, in the place of what `part` held.
    pub(crate) fn hold(&mut self, part: Part, what: &str, need: Need, ways: &str) -> Result<()> {
        let host = match &self.device {
            Some(device) => {
                device.check(Some(part), what, need.device, ways)?;
                need.host
            }
            None => need.host.saturating_add(need.device),
        };
        self.host.check(Some(part), what, host.saturating_add(need.transient), ways)?;
        self.host.hold(part, host);
        if let Some(device) = &mut self.device {
            device.hold(part, need.device);
        }
        Ok(())
    }

    /// What `part` held is given back.
    pub(crate) fn release(&mut self, part: Part) {
        for pool in [Some(&mut self.host), self.device.as_mut()].into_iter().flatten() {
            pool.held[part as usize] = 0;
        }
    }
}

impl Pool {
    fn usage(&self) -> Usage {
        Usage { limit: self.limit, held: self.held.iter().fold(0, |sum, held| sum.saturating_add(*held)) }
    }

    /// `part` gives back what it holds for this.
    fn check(&self, part: Option<Part>, what: &str, bytes: u64, ways: &str) -> Result<()> {
        let Usage { limit, held } = self.usage();
        let free = limit.saturating_sub(held - part.map_or(0, |part| self.held[part as usize]));
        if bytes <= free {
            return Ok(());
        }
        let (need, free) = (shown_up(bytes), shown(free));
        Err(Error::Memory(format!("{what} needs {need}, {free} are free ({}); {ways}", self.origin)))
    }

    fn hold(&mut self, part: Part, bytes: u64) {
        let held = &mut self.held[part as usize];
        *held = if part == Part::Pass { bytes.max(*held) } else { bytes };
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
        let mut budget = Budget::new(Some(2_000_000_000), None);
        let need = Need { device: 800_000_000, host: 100_000_000, transient: 50_000_000 };
        budget.hold(Part::Weights, "loading this model", need, FOR_MODEL).unwrap();
        assert_eq!(budget.host(), Usage { limit: 2_000_000_000, held: 900_000_000 });
        assert_eq!(
            message(budget.hold(Part::Pass, "this model at 480×480", on_the_host(5_430_000_001), FOR_PASS)),
            "this model at 480×480 needs 5.5 GB, 1.1 GB are free (of the 2.0 GB allowed); choose a smaller --size, or allow \
             more with --max-memory"
        );
        assert_eq!(budget.host().held, 900_000_000, "what is refused is not held");
        assert!(
            message(budget.ask_photo(1_800_000_000)).starts_with("reading this photo needs 1.8 GB, 1.1 GB are free")
        );
        budget.ask_photo(1_100_000_000).unwrap();
    }

    /// An arena is one for all passes, a list of labels takes the last one's place.
    #[test]
    fn what_is_held_again_takes_the_place_of_what_was() {
        let mut budget = Budget::new(Some(1000), None);
        for (part, bytes, held) in [
            (Part::Pass, 600, 600),
            (Part::Pass, 900, 900),
            (Part::Pass, 100, 900),
            (Part::Labels, 100, 1000),
            (Part::Labels, 40, 940),
        ] {
            budget.hold(part, "it", on_the_host(bytes), "").unwrap();
            assert_eq!(budget.host().held, held, "{part:?} {bytes}");
        }
        message(budget.hold(Part::Labels, "it", on_the_host(101), ""));
        budget.release(Part::Pass);
        assert_eq!(budget.host().held, 40);
    }

    #[test]
    fn a_device_with_memory_of_its_own_has_a_pool_of_its_own() {
        let mut budget = Budget::new(None, Some(DeviceMemory { name: "GPU 7".into(), free: 4000 }));
        let need = Need { device: 2500, host: 500, transient: 0 };
        budget.hold(Part::Weights, "it", need, "").unwrap();
        assert_eq!((budget.device(), budget.host().held), (Some(Usage { limit: 3000, held: 2500 }), 500));
        let refusal = message(budget.hold(Part::Pass, "it", Need { device: 501, ..need }, "go"));
        assert_eq!(refusal, "it needs 0.6 kB, 0.5 kB are free (three quarters of what GPU 7 has left); go");
        let mut together = Budget::new(Some(2999), None);
        message(together.hold(Part::Weights, "it", need, ""));
    }
}
