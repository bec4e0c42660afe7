//! What the caller of run.sh asks for.

use std::path::PathBuf;

use super::budget::{self, Mode};
use super::date;
use crate::Outcome;

pub const HELP: &str = "\
Everything that can be learnt of lseg-fast on this machine's GPU, in nine minutes.

Usage: run.sh [--dry [--quick]] [--out DIR]

  --dry        rehearse on the virtual GPU, with small shapes, PyTorch on the CPU: no number means anything
  --quick      with --dry: the part that takes at most 3 minutes, without PyTorch
  --out DIR    where the results go [default: $OUT, else ./results-<date>]

Stages: 0 env, 1 micro, 2 correct, 3 sanitizer, 4 frame, 5 kernels, 6 sweep, 7 ncu, 8 fault.
STAGES=\"4 6\" runs these alone (and 0). LSEG_PYTHON and LSEG_NVCC name the interpreter and the compiler.
LSEG_PATIENCE=2 doubles every time limit. Exit code: 0, 1 if something is not correct, 2 for a wrong call, 130 if
interrupted. The GPU's settings are never changed.";

#[derive(Debug, PartialEq)]
pub struct Arguments {
    pub mode: Mode,
    pub out: PathBuf,
    pub stages: Vec<u8>,
    /// Every limit is multiplied by it.
    pub patience: f64,
}

/// What the environment says.
#[derive(Default)]
pub struct Variables {
    pub out: Option<PathBuf>,
    pub stages: Option<String>,
    pub patience: Option<String>,
}

impl Variables {
    pub fn read() -> Variables {
        Variables {
            out: std::env::var_os("OUT").filter(|out| !out.is_empty()).map(PathBuf::from),
            stages: std::env::var("STAGES").ok(),
            patience: std::env::var("LSEG_PATIENCE").ok(),
        }
    }
}

/// `None` where help is asked for.
pub fn parse(words: &[String], variables: Variables) -> Outcome<Option<Arguments>> {
    let (mut dry, mut quick, mut out) = (false, false, variables.out);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--dry" => dry = true,
            "--quick" => quick = true,
            "--out" => out = Some(words.next().ok_or("--out: the folder is missing")?.into()),
            "-h" | "--help" => return Ok(None),
            unknown => return Err(format!("there is no option {unknown:?}; run.sh --help lists them")),
        }
    }
    let mode = match (dry, quick) {
        (false, false) => Mode::Real,
        (true, false) => Mode::Dry,
        (true, true) => Mode::Quick,
        (false, true) => return Err("--quick is a part of the rehearsal: give --dry too".into()),
    };
    let out = out.unwrap_or_else(|| format!("results-{}", date::stamp(date::now())).into());
    let patience = variables.patience.map_or(Ok(1.0), |text| patience(&text))?;
    Ok(Some(Arguments { mode, out, stages: stages(variables.stages.as_deref())?, patience }))
}

fn patience(text: &str) -> Outcome<f64> {
    let factor: Option<f64> = text.parse().ok().filter(|factor| (0.0..=100.0).contains(factor));
    factor.ok_or(format!("LSEG_PATIENCE={text}: expected a factor of at most 100"))
}

/// Without a choice all; stage 0 always.
fn stages(chosen: Option<&str>) -> Outcome<Vec<u8>> {
    let all: Vec<u8> = budget::STAGES.iter().map(|budget| budget.stage).collect();
    let words: Vec<&str> = chosen.unwrap_or_default().split([' ', ',']).filter(|word| !word.is_empty()).collect();
    if words.is_empty() {
        return Ok(all);
    }
    let number = |word: &&str| {
        let number = word.parse().ok().filter(|number| all.contains(number));
        number.ok_or(format!("STAGES: there is no stage {word:?}; they are 0 to 8"))
    };
    let mut numbers: Vec<u8> = words.iter().map(number).collect::<Outcome<_>>()?;
    numbers.push(0);
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str], variables: Variables) -> Outcome<Option<Arguments>> {
        parse(&words.iter().map(|word| word.to_string()).collect::<Vec<_>>(), variables)
    }

    #[test]
    fn a_subset_keeps_the_environment_s_stage() {
        let variables = Variables { stages: Some("6, 4 4".into()), ..Variables::default() };
        let arguments = parsed(&["--dry", "--out", "there"], variables).unwrap().unwrap();
        assert_eq!(arguments.stages, [0, 4, 6]);
        assert_eq!((arguments.mode, arguments.out), (Mode::Dry, "there".into()));
    }

    #[test]
    fn a_wrong_call_is_told() {
        let said = |words: &[&str], stages: &str| {
            parsed(words, Variables { stages: Some(stages.into()), ..Variables::default() }).unwrap_err()
        };
        assert!(said(&["--fast"], "").contains("--fast"));
        assert!(said(&["--quick"], "").contains("--dry"));
        assert!(said(&[], "4 9").contains("\"9\""));
    }
}
