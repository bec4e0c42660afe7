//! What something takes.

use std::time::{Duration, Instant};

/// The time that this thread's processor takes for something: other tests beside it do not count. (Where the system does
/// not tell, the time that passes.)
pub fn cpu_time<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    measured("/proc/thread-self/stat", work)
}

/// As [`cpu_time`], on all threads: for tests that have their process for themselves.
pub fn process_time<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    measured("/proc/self/stat", work)
}

fn measured<T>(stat: &str, work: impl FnOnce() -> T) -> (T, Duration) {
    let (cpu, started) = (processor_time(stat), Instant::now());
    let result = work();
    let took = cpu.zip(processor_time(stat)).map_or(started.elapsed(), |(before, after)| after - before);
    (result, took)
}

/// In steps of a hundredth second.
fn processor_time(stat: &str) -> Option<Duration> {
    let stat = std::fs::read_to_string(stat).ok()?;
    // The name, in parentheses, may have spaces.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(10 * ticks))
}
