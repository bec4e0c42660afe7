//! What something takes.

use std::time::{Duration, Instant};

/// The time that this thread's processor takes for something: other tests beside it do not count. (Where the system does
/// not tell, the time that passes.)
pub fn cpu_time<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let (cpu, started) = (thread_time(), Instant::now());
    let result = work();
    let took = cpu.zip(thread_time()).map_or(started.elapsed(), |(before, after)| after - before);
    (result, took)
}

/// In steps of a hundredth second.
fn thread_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").ok()?;
    // The name, in parentheses, may have spaces.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(10 * ticks))
}
