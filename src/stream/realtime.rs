//! What the system shall do for the engine's thread: priority, processors, memory that stays.

#![allow(unsafe_code)]

use super::options::Realtime;
use crate::error::{Error, Result};

/// Asks for it, for this thread. What was refused, one line each.
///
/// # Errors
/// [`Error::Device`]: something was refused that is required.
pub fn apply(realtime: &Realtime) -> Result<Vec<String>> {
    let refused = ask(realtime);
    match refused.first() {
        Some(first) if realtime.required => Err(Error::Device(first.clone())),
        _ => Ok(refused),
    }
}

#[cfg(target_os = "linux")]
fn ask(realtime: &Realtime) -> Vec<String> {
    let Realtime { priority, cpus, lock_memory, .. } = realtime;
    let mut refused = Vec::new();
    let mut note = |what: &str, how: &str| {
        let error = std::io::Error::last_os_error();
        refused.push(format!("{what}: {error}; {how}"));
    };
    if *priority > 0 {
        // SAFETY: a structure of integers, for which zero is a value.
        let mut wanted: libc::sched_param = unsafe { std::mem::zeroed() };
        wanted.sched_priority = i32::from(*priority);
        // SAFETY: this thread, and a structure that lives until the call returns.
        if unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const wanted) } != 0 {
            let how =
                "allow it by `ulimit -r 99`, an rtprio line in /etc/security/limits.conf, or CAP_SYS_NICE (1 to 99)";
            note(&format!("no realtime priority {priority}"), how);
        }
    }
    if !cpus.is_empty() {
        // SAFETY: a set of bits, for which zero is empty.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        for cpu in cpus.iter().filter(|cpu| **cpu < libc::CPU_SETSIZE as usize) {
            // SAFETY: a number that the set has room for.
            unsafe { libc::CPU_SET(*cpu, &mut set) };
        }
        // SAFETY: this thread, and a set that lives until the call returns.
        if unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) } != 0 {
            note(&format!("no processors {cpus:?}"), "name some that this machine has and this process may use");
        }
    }
    // SAFETY: no memory is handed over.
    if *lock_memory && unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) } != 0 {
        note("memory is not locked", "allow it by `ulimit -l unlimited` or CAP_IPC_LOCK");
    }
    refused
}

#[cfg(not(target_os = "linux"))]
fn ask(realtime: &Realtime) -> Vec<String> {
    let asks = realtime.priority > 0 || !realtime.cpus.is_empty() || realtime.lock_memory;
    if asks {
        vec!["realtime priorities, processors and locked memory are for Linux alone".to_owned()]
    } else {
        Vec::new()
    }
}
