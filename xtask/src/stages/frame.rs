//! Stage 4: a frame, ours and PyTorch's, in the same minutes on the same card: both programs are loaded and wait, and
//! are told in turn to go. The order is another one in each round.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::budget::Mode;
use super::child::Child;
use super::preparation::Subject;
use super::stage::{Stage, Step, TorchStep};
use super::torch::Task;
use crate::Outcome;
use crate::record::Record;

/// The name of the records that hold times.
pub const FRAME: &str = "frame";
pub const OURS: &str = "lseg-fast";
/// PyTorch's forms; the last is there only where it was compiled in time.
const THEIRS: [&str; 4] = ["eager", "graph", "compile", "compile-max"];
/// For every shuffle; any other number would do.
const SEED: u64 = 20_261_128;

/// How long each is driven.
struct Pace {
    rounds: u32,
    warm_seconds: f64,
    frames: u32,
    /// PyTorch without a graph is slow: fewer frames say the same.
    eager_frames: u32,
    /// Until a program is loaded, until a round is answered.
    ready_seconds: f64,
    answer_seconds: f64,
}

impl Pace {
    fn of(mode: Mode) -> Pace {
        match mode {
            // The first answer of a form includes its making.
            Mode::Real => Pace {
                rounds: 3,
                warm_seconds: 1.0,
                frames: 300,
                eager_frames: 60,
                ready_seconds: 60.0,
                answer_seconds: 45.0,
            },
            // On the CPU a compiled form may have to be made first.
            Mode::Dry => Pace {
                rounds: 2,
                warm_seconds: 0.1,
                frames: 3,
                eager_frames: 2,
                ready_seconds: 120.0,
                answer_seconds: 60.0,
            },
            Mode::Quick => Pace {
                rounds: 1,
                warm_seconds: 0.0,
                frames: 3,
                eager_frames: 2,
                ready_seconds: 20.0,
                answer_seconds: 15.0,
            },
        }
    }
}

/// A program that computes frames when it is told to.
struct Side {
    name: &'static str,
    /// `None` once it has failed.
    child: Option<Child>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
struct Contender {
    who: &'static str,
    what: &'static str,
}

/// Every answer, as it was given.
pub fn race(stage: &mut Stage, subject: &Subject) -> Vec<Value> {
    let pace = Pace::of(stage.session.mode());
    let mut ours = Side { name: OURS, child: None };
    ours.start(stage, our_command(stage, subject), &pace);
    let mut theirs = Side { name: "torch", child: None };
    match stage.session.torch(Task::Serve) {
        Ok(command) => theirs.start(stage, command, &pace),
        Err(reason) => stage.missing("frame torch", reason),
    }
    let mut race = Race { sides: [ours, theirs], pace, answers: Vec::new() };
    let mut masks: Vec<Contender> =
        [OURS].into_iter().chain(THEIRS).map(|who| Contender { who, what: "mask" }).collect();
    // From the engine's own frame buffer, where a camera would have written.
    masks.push(Contender { who: OURS, what: "mask-buffered" });
    race.run(stage, masks);
    let mut embeddings = vec![Contender { who: OURS, what: "embed" }];
    embeddings.extend(race.best_of_theirs().map(|who| Contender { who, what: "embed" }));
    race.run(stage, embeddings);
    race.close(stage);
    race.answers
}

fn our_command(stage: &Stage, subject: &Subject) -> Command {
    let mut command = stage.session.program();
    command.args(["bench", "frame", "--paced", "--json", "--model"]).arg(&subject.model);
    command.arg("--photo").arg(&subject.photo).arg("--labels").arg(format!("@{}", subject.labels.display()));
    command.args(["--size", &subject.size]);
    if !stage.session.is_real() {
        command.arg("--rehearse");
    }
    command
}

impl Side {
    /// Until it says that it is ready.
    fn start(&mut self, stage: &mut Stage, mut command: Command, pace: &Pace) {
        let name = format!("frame {} ready", self.name);
        let limit = stage.session.limit(pace.ready_seconds).min(stage.left());
        stage.session.log.say(&format!("stage 4, {name}\n  $ {}", super::log::words(&command)));
        let answer = Child::start(&mut command, Stdio::piped())
            .and_then(|mut child| child.ask(None, limit).and_then(|line| object(&line)).map(|answer| (child, answer)));
        match answer {
            Ok((child, answer)) if answer["ready"] == true => {
                self.child = Some(child);
                stage.record(Record::new(stage.number, name, true).with(answer));
            }
            Ok((_, answer)) if answer["absent"].is_string() => {
                stage.missing(&format!("frame {}", self.name), answer["absent"].as_str().unwrap_or_default());
            }
            Ok((_, answer)) => stage.fail(&name, format!("expected a line with \"ready\":true, found {answer}")),
            Err(reason) => stage.fail(&name, reason),
        }
    }
}

fn object(line: &str) -> Outcome<Value> {
    serde_json::from_str(line)
        .map_err(|e| format!("expected a line of JSON, found {:?} ({e})", super::tail::shortened(line)))
}

struct Race {
    sides: [Side; 2],
    pace: Pace,
    answers: Vec<Value>,
}

impl Race {
    fn run(&mut self, stage: &mut Stage, contenders: Vec<Contender>) {
        let mut here = contenders;
        for round in 1..=self.pace.rounds {
            for contender in shuffled(&here, SEED + u64::from(round)) {
                if !self.measure(stage, contender, round) {
                    here.retain(|other| *other != contender);
                }
            }
        }
    }

    /// False if there is nothing more to ask it for.
    fn measure(&mut self, stage: &mut Stage, contender: Contender, round: u32) -> bool {
        let Contender { who, what } = contender;
        let side = &mut self.sides[usize::from(who != OURS)];
        let Some(child) = &mut side.child else { return false };
        let frames = if who == "eager" { self.pace.eager_frames } else { self.pace.frames };
        let question = format!("round {who} {what} {:.1} {frames}", self.pace.warm_seconds);
        let limit = stage.session.limit(self.pace.answer_seconds).min(stage.left());
        match child.ask(Some(&question), limit).and_then(|line| object(&line)) {
            Ok(mut answer) => {
                answer["round"] = round.into();
                let is_there = answer["absent"].is_null();
                stage.note(FRAME, answer.clone());
                stage.session.log.say(&format!("stage 4, {question}: {answer}"));
                self.answers.push(answer);
                is_there
            }
            Err(reason) => {
                side.child = None;
                stage.fail(&format!("frame {who} {what}"), reason);
                false
            }
        }
    }

    /// The form of PyTorch whose fastest median is the least.
    fn best_of_theirs(&self) -> Option<&'static str> {
        let fastest = |who: &str| {
            let medians = self.answers.iter().filter(|a| a["who"] == who).filter_map(median);
            medians.min_by(f64::total_cmp)
        };
        let timed = THEIRS.into_iter().filter_map(|who| Some((who, fastest(who)?)));
        timed.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(who, _)| who)
    }

    /// Records whether each side gave times at all.
    fn close(&mut self, stage: &mut Stage) {
        for (side, is_ours) in self.sides.iter_mut().zip([true, false]) {
            let Some(mut child) = side.child.take() else { continue };
            child.close();
            let timed = self.answers.iter().filter(|a| (a["who"] == OURS) == is_ours && a["absent"].is_null()).count();
            let why = (timed == 0).then(|| "it gave no times".to_owned());
            let data = json!({ "rounds": timed });
            let record = Record::new(stage.number, format!("frame {}", side.name), true).with(data);
            stage.record(Record { why, ..record });
        }
    }
}

/// By the GPU's clock; a CPU has the host's alone.
fn median(answer: &Value) -> Option<f64> {
    answer["gpu"]["p50"].as_f64().or_else(|| answer["host"]["p50"].as_f64())
}

/// Fisher–Yates with a generator of 64 bits.
fn shuffled(contenders: &[Contender], seed: u64) -> Vec<Contender> {
    let mut order = contenders.to_vec();
    let mut state = seed;
    for last in (1..order.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(last, (state >> 33) as usize % (last + 1));
    }
    order
}

/// Our scores against PyTorch's in float32: what was found, and what is wrong with it.
pub struct Agreement {
    pub found: Option<Value>,
    pub failure: Option<String>,
}

pub fn agreement(stage: &mut Stage, subject: &Subject) -> Agreement {
    let session = stage.session;
    let folder = session.scratch.file("scores");
    let mut run = session.program();
    run.arg("run").arg(&subject.photo).arg("--model").arg(&subject.model);
    run.args(["--labels", &format!("@{}", subject.labels.display()), "--size", "native", "--save", "scores"]);
    run.args(["--device", "cuda", "--out"]).arg(&folder);
    if let Some(reason) = stage.step(Step::new("scores", run, 60.0)).failure() {
        return Agreement { found: None, failure: Some(reason) };
    }
    let agree = session.torch(Task::Agree).map(|mut command| {
        command.arg("--scores").arg(folder.join("photo.scores.npy"));
        command
    });
    match stage.torch(agree, TorchStep { name: "agreement", limit: 60.0, lines: None }) {
        Ok(output) => Agreement { found: output.json.last().cloned(), failure: output.failure() },
        Err(reason) => Agreement { found: None, failure: Some(reason) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_has_all_in_an_order_of_its_own() {
        let all: Vec<Contender> = THEIRS.map(|who| Contender { who, what: "mask" }).to_vec();
        let orders: Vec<Vec<&str>> =
            (1..=3).map(|round| shuffled(&all, SEED + round).iter().map(|contender| contender.who).collect()).collect();
        for order in &orders {
            assert!(THEIRS.iter().all(|who| order.contains(who)), "{order:?}");
        }
        assert!(orders[0] != orders[1] || orders[1] != orders[2], "{orders:?}");
    }
}
