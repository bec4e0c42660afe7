//! How long each stage may take.
//!
//! A stage's deadline is the sum of the budgets up to its own, counted from the start: what one leaves unused is the
//! next one's, and the whole keeps to the sum whatever happens.

use std::time::Duration;

/// How a run is meant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// On a GPU.
    Real,
    /// A rehearsal on the virtual GPU.
    Dry,
    /// The part of it that the test command runs.
    Quick,
}

/// One stage of a run.
pub struct Budget {
    pub stage: u8,
    pub name: &'static str,
    /// Seconds on a GPU, in a rehearsal, in a quick one.
    real: u64,
    dry: u64,
    quick: u64,
    /// Whether its failure fails the run.
    pub decides: bool,
}

pub const STAGES: [Budget; 9] = [
    Budget { stage: 0, name: "env", real: 20, dry: 60, quick: 10, decides: false },
    Budget { stage: 1, name: "micro", real: 45, dry: 150, quick: 20, decides: false },
    Budget { stage: 2, name: "correct", real: 81, dry: 280, quick: 100, decides: true },
    Budget { stage: 3, name: "sanitizer", real: 62, dry: 10, quick: 1, decides: true },
    Budget { stage: 4, name: "frame", real: 125, dry: 180, quick: 15, decides: false },
    Budget { stage: 5, name: "kernels", real: 60, dry: 100, quick: 8, decides: false },
    Budget { stage: 6, name: "sweep", real: 95, dry: 80, quick: 8, decides: false },
    Budget { stage: 7, name: "ncu", real: 42, dry: 10, quick: 1, decides: false },
    Budget { stage: 8, name: "fault", real: 10, dry: 30, quick: 10, decides: false },
];

impl Budget {
    pub fn seconds(&self, mode: Mode) -> u64 {
        match mode {
            Mode::Real => self.real,
            Mode::Dry => self.dry,
            Mode::Quick => self.quick,
        }
    }
}

/// From the start of a run of `chosen` stages until `stage` has to be over; limits are multiplied by `patience`.
pub fn deadline(stage: u8, chosen: &[u8], mode: Mode, patience: f64) -> Duration {
    let before = STAGES.iter().filter(|b| b.stage <= stage && chosen.contains(&b.stage));
    let seconds: u64 = before.map(|budget| budget.seconds(mode)).sum();
    Duration::from_secs(seconds).mul_f64(patience)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stages_fit_into_the_minutes_that_a_machine_is_lent() {
        for (mode, most) in [(Mode::Real, 540), (Mode::Dry, 900), (Mode::Quick, 180)] {
            let sum: u64 = STAGES.iter().map(|budget| budget.seconds(mode)).sum();
            assert!(sum <= most, "{mode:?}: {sum} s of {most}");
        }
    }

    #[test]
    fn unused_time_is_the_next_stage_s() {
        let all: Vec<u8> = STAGES.iter().map(|budget| budget.stage).collect();
        let whole = deadline(8, &all, Mode::Real, 1.0);
        assert_eq!(whole.as_secs(), STAGES.iter().map(|b| b.real).sum::<u64>());
        assert_eq!(deadline(4, &[4, 6], Mode::Real, 1.0).as_secs(), 125);
        assert_eq!(deadline(6, &[4, 6], Mode::Real, 0.5).as_secs(), 110);
    }
}
