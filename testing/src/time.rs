//! What something takes.

use std::fmt::Display;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Whose work counts. (Where the system does not tell, the time that passes counts.)
#[derive(Clone, Copy)]
pub enum Clock {
    /// This thread's processor: other tests beside it do not count.
    Thread,
    /// The processors of all threads: for tests that have their process for themselves.
    Process,
}

/// A limit is held if one of so many tries holds it: a busy machine is slow once, work in the square of its input always.
const TRIES: usize = 3;

/// What [`yardstick`] takes at most on the machine that limits are meant for (an AMD EPYC Milan of 2 cores).
const YARDSTICK: Duration = Duration::from_millis(60);

/// The result of work that takes no longer than `limit`, on the machine that limits are meant for; a slower machine, or
/// one whose cores others share, has as much more as it takes for a fixed piece of work.
#[track_caller]
pub fn soon<T>(what: impl Display, clock: Clock, limit: Duration, work: impl Fn() -> T) -> T {
    let mut tries = Vec::new();
    while tries.len() < TRIES {
        let (result, took) = clock.measured(&work);
        if took <= limit {
            return result;
        }
        let slower = slowness();
        if took <= limit.mul_f64(slower) {
            return result;
        }
        tries.push(format!("{took:?} on a machine slower by {slower:.1}"));
    }
    panic!("{what}: at most {limit:?} are allowed, and it took {}", tries.join(", "))
}

/// How many times longer than [`YARDSTICK`] this machine takes now; at least 1.
fn slowness() -> f64 {
    let (_, took) = Clock::Thread.measured(yardstick);
    (took.as_secs_f64() / YARDSTICK.as_secs_f64()).max(1.0)
}

/// Dependent loads all over a table larger than a core's own caches, and arithmetic between them.
fn yardstick() -> u64 {
    let mut table = vec![1u64; 1 << 19];
    let mut at = 1u64;
    for i in 0..3_000_000 {
        at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(i | 1);
        let place = &mut table[(at >> 45) as usize];
        at ^= *place;
        *place = at;
    }
    black_box(at)
}

impl Clock {
    fn measured<T>(self, work: impl FnOnce() -> T) -> (T, Duration) {
        let (cpu, started) = (self.now(), Instant::now());
        let result = work();
        let took = cpu.zip(self.now()).map_or(started.elapsed(), |(before, after)| after - before);
        (result, took)
    }

    /// In steps of a hundredth second.
    fn now(self) -> Option<Duration> {
        let stat = match self {
            Clock::Thread => "/proc/thread-self/stat",
            Clock::Process => "/proc/self/stat",
        };
        let stat = std::fs::read_to_string(stat).ok()?;
        // The name, in parentheses, may have spaces.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
        Some(Duration::from_millis(10 * ticks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(milliseconds: u64) -> impl Fn() {
        move || {
            let mut spent = Duration::ZERO;
            while spent < Duration::from_millis(milliseconds) {
                spent += Clock::Thread.measured(yardstick).1;
            }
        }
    }

    #[test]
    fn what_is_soon_over_passes_and_what_never_is_does_not() {
        soon("short", Clock::Thread, Duration::from_millis(200), takes(0));
        let never = std::panic::catch_unwind(|| soon("long", Clock::Thread, Duration::from_millis(10), takes(300)));
        let message = *never.unwrap_err().downcast::<String>().unwrap();
        assert!(
            message.starts_with("long: at most 10ms are allowed, and it took ")
                && message.matches("slower by").count() == TRIES
        );
    }

    #[test]
    fn one_try_of_three_is_enough() {
        let tries = std::cell::Cell::new(0);
        soon("slow at first", Clock::Thread, Duration::from_millis(50), || {
            tries.set(tries.get() + 1);
            takes(if tries.get() < TRIES { 1000 } else { 0 })();
        });
        assert_eq!(tries.get(), TRIES);
    }
}
