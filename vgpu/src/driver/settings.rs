//! The environment: which GPU is played, and how.

use std::path::PathBuf;

use super::inject::{Order, orders};
use crate::exec::{Options, TensorMode};
use crate::profile::{PROFILES, Profile};

#[derive(Clone, Debug)]
pub struct Settings {
    pub profile: Profile,
    pub options: Options,
    /// Where each launch's counts are appended as a line of JSON.
    pub counts: Option<PathBuf>,
    /// Calls that fail on order.
    pub fail: Vec<Order>,
}

impl Settings {
    /// From VGPU_*. `read` is [`std::env::var`] but for tests.
    pub fn from_environment(read: impl Fn(&str) -> Option<String>) -> Result<Settings, String> {
        let device = read("VGPU_DEVICE").unwrap_or_else(|| "rtx4090".into());
        let profile = Profile::named(&device).ok_or_else(|| {
            let names: Vec<&str> = PROFILES.iter().map(|p| p.name).collect();
            format!("VGPU_DEVICE={device} is not known; choose one of {}", names.join(", "))
        })?;
        let tensor = match read("VGPU_TENSOR").as_deref() {
            None | Some("fast") => TensorMode::Fast,
            Some("hw") => TensorMode::Hardware,
            Some(other) => return Err(format!("VGPU_TENSOR={other} is not known; choose fast or hw")),
        };
        let flag = |name: &str| match read(name).as_deref() {
            None | Some("0") => Ok(false),
            Some("1") => Ok(true),
            Some(other) => Err(format!("{name}={other} is not known; choose 0 or 1")),
        };
        let number = |name: &str, default: u64| match read(name) {
            None => Ok(default),
            Some(text) => {
                text.parse().map_err(|_| format!("{name}={text} is not a whole number such as {}", default.max(1)))
            }
        };
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get()) as u64;
        Ok(Settings {
            profile,
            options: Options {
                schedule: number("VGPU_SCHED", 0)?,
                tensor,
                jitter: flag("VGPU_JITTER")?,
                trace: flag("VGPU_TRACE")?,
                threads: number("VGPU_THREADS", cores)?.clamp(1, 1024) as usize,
                // About ten minutes of one core.
                limit: number("VGPU_LIMIT", 20_000_000_000)?,
            },
            counts: read("VGPU_COUNTS").map(PathBuf::from),
            fail: orders(&read("VGPU_FAIL").unwrap_or_default())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &'static str) -> Result<Settings, String> {
        Settings::from_environment(|asked| (asked == name).then(|| value.to_string()))
    }

    #[test]
    fn every_profile_can_be_chosen() {
        for profile in PROFILES {
            assert_eq!(with("VGPU_DEVICE", profile.name).map(|s| s.profile.name), Ok(profile.name));
        }
    }

    #[test]
    fn each_value_reaches_its_option() {
        let options = |name, value| with(name, value).map(|s| s.options).expect("known");
        assert_eq!(options("VGPU_TENSOR", "hw").tensor, TensorMode::Hardware);
        assert_eq!(options("VGPU_TENSOR", "fast").tensor, TensorMode::Fast);
        assert_eq!(options("VGPU_SCHED", "7").schedule, 7);
        assert_eq!(options("VGPU_LIMIT", "9").limit, 9);
        assert_eq!(options("VGPU_THREADS", "3").threads, 3);
        assert!(options("VGPU_JITTER", "1").jitter && !options("VGPU_JITTER", "0").jitter);
        assert!(options("VGPU_TRACE", "1").trace && !options("VGPU_TRACE", "0").trace);
        assert_eq!(with("VGPU_COUNTS", "a.json").map(|s| s.counts), Ok(Some(PathBuf::from("a.json"))));
    }

    #[test]
    fn an_unknown_value_names_the_choices() {
        let error = with("VGPU_DEVICE", "v100").expect_err("no such profile");
        assert!(
            error.contains("VGPU_DEVICE=v100") && error.contains("a100, h100, rtx4090, orin, blackwell"),
            "{error}"
        );
        assert!(with("VGPU_TENSOR", "slow").is_err_and(|e| e.contains("fast or hw")));
        assert!(with("VGPU_JITTER", "yes").is_err_and(|e| e.contains("0 or 1")));
        assert!(with("VGPU_SCHED", "-1").is_err_and(|e| e.contains("whole number")));
        for wrong in ["700", "cuLaunchKernel:3", "cuLaunchKernel:0:700", "cuLaunchKernel:1:often", "cuInit:1:2,x"] {
            assert!(with("VGPU_FAIL", wrong).is_err_and(|e| e.contains("FUNCTION:CALL:CODE")), "{wrong}");
        }
        assert_eq!(
            with("VGPU_FAIL", "cuLaunchKernel:3:700!,cuMemAlloc_v2:1:2,cuGraphLaunch:1:hang").unwrap().fail.len(),
            3
        );
    }
}
