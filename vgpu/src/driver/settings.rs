//! The environment: which GPUs are emulated, and how.

use std::path::PathBuf;

use super::inject::{Order, orders};
use crate::exec::{Options, TensorMode};
use crate::profile::{PROFILES, Profile};

#[derive(Clone, Debug)]
pub struct Settings {
    /// By ordinal; at least one.
    pub boards: Vec<Board>,
    /// Where each launch's counts are appended as a line of JSON.
    pub counts: Option<PathBuf>,
    /// Calls that fail on order.
    pub fail: Vec<Order>,
}

/// One device: the GPU that it emulates, and how its launches are run.
#[derive(Clone, Debug)]
pub struct Board {
    pub profile: Profile,
    pub options: Options,
}

/// What is emulated when nothing is said.
const USUAL: &str = "rtx4090";

/// Settings that a board of VGPU_DEVICES may have of its own, and the variable that holds for all others.
const OF_A_BOARD: [(&str, &str); 7] = [
    ("driver", "VGPU_DRIVER"),
    ("sched", "VGPU_SCHED"),
    ("tensor", "VGPU_TENSOR"),
    ("jitter", "VGPU_JITTER"),
    ("trace", "VGPU_TRACE"),
    ("threads", "VGPU_THREADS"),
    ("limit", "VGPU_LIMIT"),
];

/// A value, with the name under which it was given.
type Given = Option<(String, String)>;

impl Settings {
    /// From VGPU_*. `read` is [`std::env::var`] but for tests.
    pub fn from_environment(read: impl Fn(&str) -> Option<String>) -> Result<Settings, String> {
        let boards = match (read("VGPU_DEVICE"), read("VGPU_DEVICES")) {
            (Some(_), Some(_)) => {
                return Err(
                    "VGPU_DEVICE and VGPU_DEVICES are both set; keep one: the first names one GPU, the second \
                            one or more"
                        .into(),
                );
            }
            (_, Some(list)) => list.split(',').map(|entry| Board::of_entry(entry, &read)).collect::<Result<_, _>>()?,
            (one, None) => {
                let profile = profile("VGPU_DEVICE", one.as_deref().unwrap_or(USUAL))?;
                vec![Board::new(profile, |variable| given(variable, &read))?]
            }
        };
        Ok(Settings {
            boards,
            counts: read("VGPU_COUNTS").map(PathBuf::from),
            fail: orders(&read("VGPU_FAIL").unwrap_or_default())?,
        })
    }
}

impl Board {
    /// One of VGPU_DEVICES: "h100", "h100:sched=7:tensor=hw".
    fn of_entry(entry: &str, read: &impl Fn(&str) -> Option<String>) -> Result<Board, String> {
        let mut parts = entry.split(':');
        let profile = profile("VGPU_DEVICES", parts.next().unwrap_or_default().trim())?;
        let mut own = Vec::new();
        for part in parts {
            let known = part.split_once('=').and_then(|(key, value)| {
                let (_, variable) = OF_A_BOARD.into_iter().find(|(known, _)| *known == key.trim())?;
                Some((variable, (format!("VGPU_DEVICES: {}", key.trim()), value.trim().to_owned())))
            });
            own.push(known.ok_or_else(|| {
                let names: Vec<&str> = OF_A_BOARD.iter().map(|(name, _)| *name).collect();
                format!(
                    "VGPU_DEVICES: {part} of {entry} is not known; write NAME=VALUE with one of {}",
                    names.join(", ")
                )
            })?);
        }
        Board::new(profile, |variable| {
            let of_its_own = own.iter().find(|(known, _)| *known == variable).map(|(_, value)| value.clone());
            of_its_own.or_else(|| given(variable, read))
        })
    }

    /// `given` answers what was given for a variable.
    fn new(profile: Profile, given: impl Fn(&str) -> Given) -> Result<Board, String> {
        let driver_version = match given("VGPU_DRIVER") {
            None => profile.driver_version,
            Some((name, text)) => match text.parse() {
                Ok(version @ 11_000..=13_990) => version,
                _ => return Err(format!("{name}={text} is not a driver's version such as 12020, from 11000 on")),
            },
        };
        let ptx_version = profile.ptx_version.min(newest_ptx(driver_version));
        Ok(Board { profile: Profile { driver_version, ptx_version, ..profile }, options: options(given)? })
    }
}

/// The newest PTX that a driver of this version takes ("PTX ISA", release notes): CUDA 12.6 came with that of 12.5.
fn newest_ptx(driver: u32) -> (u32, u32) {
    let (major, minor) = (driver / 1000, driver % 1000 / 10);
    match major {
        12 if minor > 5 => (8, minor - 1),
        _ => (major - 4, minor),
    }
}

fn profile(variable: &str, name: &str) -> Result<Profile, String> {
    Profile::named(name).ok_or_else(|| {
        let names: Vec<&str> = PROFILES.iter().map(|p| p.name).collect();
        format!("{variable}={name} is not known; choose one of {}", names.join(", "))
    })
}

fn given(variable: &str, read: &impl Fn(&str) -> Option<String>) -> Given {
    Some((variable.to_owned(), read(variable)?))
}

/// `given` answers what was given for a variable.
fn options(given: impl Fn(&str) -> Given) -> Result<Options, String> {
    let tensor = match given("VGPU_TENSOR") {
        None => TensorMode::Fast,
        Some((_, text)) if text == "fast" => TensorMode::Fast,
        Some((_, text)) if text == "hw" => TensorMode::Hardware,
        Some((name, text)) => return Err(format!("{name}={text} is not known; choose fast or hw")),
    };
    let flag = |variable: &str| match given(variable) {
        None => Ok(false),
        Some((_, text)) if text == "0" => Ok(false),
        Some((_, text)) if text == "1" => Ok(true),
        Some((name, text)) => Err(format!("{name}={text} is not known; choose 0 or 1")),
    };
    let number = |variable: &str, default: u64| match given(variable) {
        None => Ok(default),
        Some((name, text)) => {
            text.parse().map_err(|_| format!("{name}={text} is not a whole number such as {}", default.max(1)))
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get()) as u64;
    Ok(Options {
        schedule: number("VGPU_SCHED", 0)?,
        tensor,
        jitter: flag("VGPU_JITTER")?,
        trace: flag("VGPU_TRACE")?,
        threads: number("VGPU_THREADS", cores)?.clamp(1, 1024) as usize,
        // About ten minutes of one core.
        limit: number("VGPU_LIMIT", 20_000_000_000)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(given: &[(&str, &str)]) -> Result<Settings, String> {
        let of = |asked: &str| given.iter().find(|(name, _)| *name == asked).map(|(_, value)| value.to_string());
        Settings::from_environment(of)
    }

    fn with(name: &str, value: &str) -> Result<Settings, String> {
        all(&[(name, value)])
    }

    fn names(settings: &Settings) -> Vec<&'static str> {
        settings.boards.iter().map(|board| board.profile.name).collect()
    }

    #[test]
    fn every_profile_can_be_chosen() {
        for profile in PROFILES {
            assert_eq!(with("VGPU_DEVICE", profile.name).map(|s| names(&s)), Ok(vec![profile.name]));
        }
        assert_eq!(all(&[]).map(|s| names(&s)), Ok(vec!["rtx4090"]));
    }

    #[test]
    fn a_list_gives_a_board_each_and_a_name_may_come_twice() {
        let boards = with("VGPU_DEVICES", "rtx4090, h100,orin,h100").map(|s| names(&s));
        assert_eq!(boards, Ok(vec!["rtx4090", "h100", "orin", "h100"]));
    }

    #[test]
    fn each_value_reaches_its_option() {
        let options = |name, value| with(name, value).map(|s| s.boards[0].options).expect("known");
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
    fn a_board_of_a_list_has_settings_of_its_own_and_the_variables_for_the_rest() {
        let list = "rtx4090,rtx4090:sched=7:limit=9,h100:tensor=hw:jitter=1:trace=1:threads=3";
        let boards = all(&[("VGPU_DEVICES", list), ("VGPU_SCHED", "2")]).expect("known").boards;
        let [plain, second, third] = [0, 1, 2].map(|i: usize| boards[i].options);
        assert_eq!((plain.schedule, plain.tensor, plain.limit), (2, TensorMode::Fast, 20_000_000_000));
        assert_eq!((second.schedule, second.tensor, second.limit), (7, TensorMode::Fast, 9));
        assert_eq!((third.schedule, third.tensor, third.threads), (2, TensorMode::Hardware, 3));
        assert!(third.jitter && third.trace && !second.jitter && !second.trace);
    }

    #[test]
    fn a_driver_may_be_older_than_its_board_has_it() {
        let versions =
            |list| with("VGPU_DEVICES", list).map(|s| s.boards.iter().map(|b| b.profile.driver_version).collect());
        assert_eq!(versions("h100:driver=12020,h100"), Ok(vec![12_020, 13_000]));
        assert_eq!(with("VGPU_DRIVER", "11040").map(|s| s.boards[0].profile.driver_version), Ok(11_040));
        let newest = ["11040", "11080", "12000", "12060", "12080", "13000"]
            .map(|text| with("VGPU_DRIVER", text).map(|s| s.boards[0].profile.ptx_version));
        assert_eq!(newest, [(7, 4), (7, 8), (8, 0), (8, 5), (8, 7), (9, 0)].map(Ok));
        for wrong in ["12.2", "470", "99000"] {
            assert!(with("VGPU_DRIVER", wrong).is_err_and(|e| e.contains("such as 12020")), "{wrong}");
        }
    }

    #[test]
    fn an_unknown_value_names_the_choices() {
        for (variable, value) in [("VGPU_DEVICE", "v100"), ("VGPU_DEVICES", "orin,v100,a100")] {
            let error = with(variable, value).expect_err("no such profile");
            let expected = format!("{variable}=v100 is not known; choose one of a100, h100, rtx4090, orin, blackwell");
            assert_eq!(error, expected);
        }
        assert!(with("VGPU_DEVICES", "").is_err_and(|e| e.contains("choose one of")));
        assert!(with("VGPU_DEVICE", "h100,orin").is_err_and(|e| e.contains("VGPU_DEVICE=h100,orin is not known")));
        for wrong in ["h100:sched", "h100:speed=1", "h100:"] {
            assert!(with("VGPU_DEVICES", wrong).is_err_and(|e| e.contains("driver, sched, tensor, jitter")), "{wrong}");
        }
        assert!(with("VGPU_DEVICES", "h100:tensor=slow").is_err_and(|e| e.contains("tensor=slow")));
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

    #[test]
    fn one_device_and_a_list_of_devices_are_not_given_together() {
        let error = all(&[("VGPU_DEVICE", "h100"), ("VGPU_DEVICES", "orin")]).expect_err("which one?");
        assert!(error.contains("VGPU_DEVICE and VGPU_DEVICES are both set"), "{error}");
    }
}
