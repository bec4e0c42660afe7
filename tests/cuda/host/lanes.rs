//! Lanes of one network on the virtual GPU: in every order of its streams, beside calls of the driver that fail, after the context is
//! lost, and in memory that the driver counts.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::process::Stdio;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use lseg_fast::device::cuda::Cuda;
use lseg_fast::device::{Device, Upload};
use lseg_fast::model::weights::Loader;
use lseg_fast::model::{FrameShape, Model, Outputs};
use lseg_fast::ops::Weight;
use lseg_fast::{
    DeviceChoice, Engine, Error, Image, Labels, Lane, Network, Options, Output, Result, Results, Size, Ticket, Wanted,
    plan,
};

use testing::files::root;
use testing::process::{alone, child};

use super::siblings::vitl16;
use super::small::Layers;
use super::{BOARDS, is_virtual, schedules};
use crate::gpu::ordinal;

/// Of 2, 3 and 40 words: their banks need more and more room.
pub fn words(list: usize) -> Vec<String> {
    match list {
        0 => ["cat", "other"].map(str::to_owned).to_vec(),
        1 => ["sky", "cat", "sea"].map(str::to_owned).to_vec(),
        _ => (0..40).map(|i| format!("{i}")).collect(),
    }
}

pub const LISTS: usize = 3;
pub const SIZES: [Size; 2] = [Size::Exact { height: 32, width: 32 }, Size::Exact { height: 32, width: 64 }];
/// (width, height); the last needs more page-locked memory than the others.
pub const PHOTOS: [(usize, usize); 3] = [(24, 20), (24, 20), (60, 40)];

pub fn all() -> Wanted<'static> {
    Wanted::MASK.and(Output::Scores)
}

pub fn network(ordinal: usize) -> Result<Network> {
    let options = Options { device: DeviceChoice::Cuda(Some(ordinal)), threads: Some(1), ..Options::default() };
    Network::load(&root().join("tests/golden/vit16/model.ckpt"), &options)
}

pub fn rgb(photo: usize) -> Vec<u8> {
    let (width, height) = PHOTOS[photo];
    (0..width * height * 3).map(|i| ((i * (2 * photo + 3)) * 7919 % 251) as u8).collect()
}

pub fn frame(photo: usize, rgb: &[u8]) -> Image<'_> {
    let (width, height) = PHOTOS[photo];
    Image::rgb8(width, height, rgb)
}

/// Of mask and scores, every bit.
pub fn bits(results: &Results) -> u64 {
    let mut hasher = DefaultHasher::new();
    results.mask(0).unwrap().hash(&mut hasher);
    let scores = results.values(Output::Scores, 0).unwrap().iter().map(|value| value.to_bits());
    scores.collect::<Vec<u32>>().hash(&mut hasher);
    hasher.finish()
}

/// List of words, size, photo.
pub type Question = (usize, usize, usize);

/// What engines of their own answer, one for each list of words: their programs and their banks never saw another.
pub struct Right {
    ordinal: usize,
    engines: HashMap<usize, Engine>,
    known: HashMap<Question, u64>,
}

impl Right {
    pub fn on(ordinal: usize) -> Right {
        Right { ordinal, engines: HashMap::new(), known: HashMap::new() }
    }

    pub fn of(&mut self, question: Question) -> u64 {
        let Right { ordinal, engines, known } = self;
        let (list, size, photo) = question;
        *known.entry(question).or_insert_with(|| {
            let engine = engines.entry(list).or_insert_with(|| {
                let mut engine = Engine::over(network(*ordinal).unwrap()).unwrap();
                engine.set_labels(&words(list)).unwrap();
                engine
            });
            engine.set_size(SIZES[size]);
            bits(&engine.run(&[frame(photo, &rgb(photo))], all()).unwrap())
        })
    }
}

/// A lane with what it is about, and what it has in flight.
struct Flow {
    lane: Lane,
    list: usize,
    size: usize,
    flights: Vec<(Ticket, Question)>,
}

impl Flow {
    fn new(network: &Network, labels: &Labels) -> Result<Flow> {
        let mut lane = network.lane()?;
        lane.set_labels(labels)?;
        lane.set_size(SIZES[0]);
        Ok(Flow { lane, list: 0, size: 0, flights: Vec::new() })
    }

    fn set(&mut self, list: usize, lists: &[Labels]) {
        self.lane.label_slot().set(lists[list].clone());
        self.list = list;
    }

    fn resize(&mut self, size: usize) {
        self.lane.set_size(SIZES[size]);
        self.size = size;
    }

    fn question(&self, photo: usize) -> Question {
        (self.list, self.size, photo)
    }

    fn run(&mut self, photo: usize) -> Result<Results> {
        self.lane.run(&[frame(photo, &rgb(photo))], all())
    }

    fn submit(&mut self, photo: usize) -> Result<()> {
        let ticket = self.lane.submit(&frame(photo, &rgb(photo)), all())?;
        self.flights.push((ticket, self.question(photo)));
        Ok(())
    }

    /// The flight of this place, with what it was about.
    fn wait(&mut self, at: usize) -> (Result<Results>, Question) {
        let (ticket, question) = self.flights.remove(at);
        (self.lane.wait(ticket), question)
    }
}

#[test]
fn interleaved_lanes_are_engines_in_every_schedule() {
    for ordinal in schedules() {
        let mut right = Right::on(ordinal);
        let network = network(ordinal).unwrap();
        let lists: Vec<Labels> = (0..LISTS).map(|list| network.labels(&words(list)).unwrap()).collect();
        let mut check = |results: Result<Results>, question: Question| {
            let results = results.unwrap();
            assert_eq!(results.labels().unwrap().epoch(), lists[question.0].epoch(), "device {ordinal}, {question:?}");
            assert_eq!(bits(&results), right.of(question), "device {ordinal}, {question:?}");
        };
        let [mut one, mut two] = [0, 1].map(|_| Flow::new(&network, &lists[0]).unwrap());
        for round in 0..2 {
            one.submit(0).unwrap();
            two.submit(1).unwrap();
            // Other words, which move the bank, while both have frames in flight.
            one.set(2, &lists);
            one.submit(1).unwrap();
            two.resize(1);
            check(two.run(0), two.question(0));
            let (results, question) = one.wait(1);
            check(results, question);
            two.set(1, &lists);
            two.submit(1).unwrap();
            let (results, question) = one.wait(0);
            check(results, question);
            // Back in a place that is large enough: the programs of both lists still serve.
            one.set(0, &lists);
            check(one.run(1), one.question(1));
            for at in [1, 0] {
                let (results, question) = two.wait(at);
                check(results, question);
            }
            two.resize(0);
            check(two.run(round), two.question(round));
            two.set(0, &lists);
        }
    }
}

const FAILING: &str = "LSEG_TEST_FAILING";
const RIGHT: &str = "LSEG_TEST_RIGHT";

/// Whether this process is a child of the test that [`in_child`] starts.
fn is_child() -> bool {
    std::env::var_os(FAILING).is_some()
}

/// The test of this name once more, with calls of the driver that fail; what it told. A child that hangs is ended.
#[track_caller]
fn in_child(test: &str, failures: &str, right: &str) -> String {
    let mut command = child(test);
    command.env(FAILING, "1").env("VGPU_FAIL", failures).env(RIGHT, right);
    let (out, errors) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
    let [stdout, stderr] = [&out, &errors].map(|file| Stdio::from(file.reopen().unwrap()));
    let mut child = command.stdout(stdout).stderr(stderr).spawn().unwrap();
    let begin = Instant::now();
    let ended = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if begin.elapsed() > Duration::from_secs(120) {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let told = std::fs::read_to_string(errors.path()).unwrap();
    let said = std::fs::read_to_string(out.path()).unwrap();
    let has_passed = ended.is_some_and(|status| status.success()) && said.contains("1 passed");
    assert!(has_passed, "{failures}: {ended:?} (none: it hung)\n{said}{told}");
    told
}

/// The board of the children: its streams' work is done in the other order than it was given in, where that is allowed.
fn board() -> usize {
    ordinal(BOARDS[1])
}

/// All questions.
fn questions() -> impl Iterator<Item = Question> {
    (0..LISTS)
        .flat_map(|list| (0..SIZES.len()).flat_map(move |size| (0..PHOTOS.len()).map(move |photo| (list, size, photo))))
}

/// The answers to all [`questions`], for children.
static ANSWERS: LazyLock<String> = LazyLock::new(|| {
    let mut right = Right::on(board());
    questions().map(|question| right.of(question).to_string()).collect::<Vec<_>>().join(",")
});

/// What the parent found out.
fn known() -> HashMap<Question, u64> {
    let answers = std::env::var(RIGHT).unwrap();
    questions().zip(answers.split(',').map(|answer| answer.parse().unwrap())).collect()
}

/// Until it is no error; calls that fail on order are errors, and the context lives.
#[track_caller]
fn at_last<T>(mut what: impl FnMut() -> Result<T>) -> T {
    for _ in 0..40 {
        match what() {
            Ok(done) => return done,
            Err(error) => assert!(is_of_a_call(&error), "{error}"),
        }
    }
    panic!("it fails again and again: {:?}", what().err());
}

/// An error of the driver that leaves the context as it is.
fn is_of_a_call(error: &Error) -> bool {
    matches!(error, Error::Device(_) | Error::Memory(_))
}

/// A network, its lists of words and two lanes, in spite of failures.
fn open() -> (Network, Vec<Labels>, [Flow; 2]) {
    let network = at_last(|| network(board()));
    let lists: Vec<Labels> = (0..LISTS).map(|list| at_last(|| network.labels(&words(list)))).collect();
    let flows = [0, 1].map(|_| at_last(|| Flow::new(&network, &lists[0])));
    (network, lists, flows)
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize * n) >> 31
    }
}

/// Frames, words, sizes and flights in any order: each result is right, or an error of a call; how many errors there were.
fn operations(known: &HashMap<Question, u64>, lists: &[Labels], flows: &mut [Flow; 2], count: usize) -> usize {
    let (mut random, mut errors) = (Random(7), 0);
    let mut check = |(got, question): (Result<Results>, Question)| match got {
        Ok(results) => {
            assert_eq!(results.labels().unwrap().epoch(), lists[question.0].epoch(), "{question:?}");
            assert_eq!(bits(&results), known[&question], "{question:?} after {errors} errors");
        }
        Err(error) => {
            assert!(is_of_a_call(&error), "{question:?}: {error}");
            eprintln!("{error}");
            errors += 1;
        }
    };
    for _ in 0..count {
        let flow = &mut flows[random.below(2)];
        let photo = random.below(PHOTOS.len());
        match random.below(10) {
            0 => flow.set(random.below(LISTS), lists),
            1 => flow.resize(random.below(SIZES.len())),
            2..=4 => check((flow.run(photo), flow.question(photo))),
            5..=7 if flow.flights.len() < 2 => {
                if let Err(error) = flow.submit(photo) {
                    check((Err(error), flow.question(photo)));
                }
            }
            _ if flow.flights.is_empty() => {}
            _ => check(flow.wait(random.below(flow.flights.len()))),
        }
    }
    // Then each works, with words of either size.
    for flow in flows {
        while !flow.flights.is_empty() {
            check(flow.wait(0));
        }
        for list in [0, 2, 0] {
            flow.set(list, lists);
            let results = at_last(|| flow.run(1));
            check((Ok(results), flow.question(1)));
        }
    }
    errors
}

/// Orders for failures of a function: the first at call `from`, later ones further and further apart, so that whoever tries again
/// comes through.
fn ever_rarer(function: &str, from: u64, code: u32) -> String {
    let calls = std::iter::successors(Some(from), |call| Some(call + 3 + (call - from) / 8)).take(80);
    calls.map(|call| format!("{function}:{call}:{code}")).collect::<Vec<_>>().join(",")
}

/// Runs [`operations`] in a child in which these functions fail again and again.
#[track_caller]
fn survives(test: &str, failing: &[(&str, u64, u32)], least: usize) {
    if is_child() {
        let (_network, lists, mut flows) = open();
        let errors = operations(&known(), &lists, &mut flows, 60);
        eprintln!("{errors} errors");
        assert!(errors >= least, "{errors} errors");
    } else if is_virtual() {
        let failures: Vec<String> =
            failing.iter().map(|(function, from, code)| ever_rarer(function, *from, *code)).collect();
        in_child(&format!("host::lanes::{test}"), &failures.join(","), &ANSWERS);
    }
}

/// 701 is a launch that is refused, which leaves the context as it was.
#[test]
fn copies_that_fail_cost_their_frame_alone() {
    let failing =
        [("cuMemcpyHtoDAsync_v2", 500, 701), ("cuMemcpyDtoHAsync_v2", 3, 701), ("cuMemcpyDtoDAsync_v2", 3, 701)];
    survives("copies_that_fail_cost_their_frame_alone", &failing, 5);
}

#[test]
fn launches_that_fail_cost_their_frame_alone() {
    let failing = [
        ("cuLaunchKernel", 200, 701),
        ("cuGraphLaunch", 1, 701),
        ("cuStreamBeginCapture_v2", 1, 701),
        ("cuGraphGetNodes", 2, 701),
        ("cuGraphInstantiateWithFlags", 1, 701),
    ];
    survives("launches_that_fail_cost_their_frame_alone", &failing, 5);
}

#[test]
fn waits_that_fail_cost_their_frame_alone() {
    let failing = [
        ("cuEventRecord", 20, 701),
        ("cuStreamWaitEvent", 2, 701),
        ("cuEventSynchronize", 2, 701),
        ("cuEventQuery", 2, 701),
        ("cuEventElapsedTime", 20, 701),
        ("cuStreamSynchronize", 30, 701),
    ];
    survives("waits_that_fail_cost_their_frame_alone", &failing, 5);
}

#[test]
fn memory_that_is_refused_costs_its_frame_alone() {
    let failing =
        [("cuMemAlloc_v2", 8, 2), ("cuMemHostAlloc", 2, 701), ("cuEventCreate", 12, 2), ("cuStreamCreate", 4, 2)];
    survives("memory_that_is_refused_costs_its_frame_alone", &failing, 3);
}

/// Whichever of a bank's two copies to a larger place fails: programs of the words before do not point to where these lay.
#[test]
fn words_that_fail_on_their_way_leave_programs_of_others_right() {
    if is_child() {
        let (known, (_network, lists, [mut one, _])) = (known(), open());
        let right = |flow: &mut Flow| assert_eq!(bits(&flow.run(0).unwrap()), known[&flow.question(0)]);
        (0..3).for_each(|_| right(&mut one));
        one.set(2, &lists);
        let error = one.run(0).unwrap_err();
        assert!(is_of_a_call(&error), "{error}");
        for list in [0, 2, 0] {
            one.set(list, &lists);
            right(&mut one);
        }
    } else if is_virtual() {
        for call in [3, 4] {
            let test = "host::lanes::words_that_fail_on_their_way_leave_programs_of_others_right";
            in_child(test, &format!("cuMemcpyDtoDAsync_v2:{call}:701"), &ANSWERS);
        }
    }
}

/// The driver copies what it does not lend page-locked memory for: every other block, either way, in passes that are run and that are
/// submitted.
#[test]
fn without_page_locked_memory_frames_are_the_same() {
    if is_child() {
        let (_network, lists, mut flows) = open();
        assert_eq!(operations(&known(), &lists, &mut flows, 60), 0);
    } else if is_virtual() {
        for first in [1, 2] {
            let refused: Vec<String> = (0..40).map(|i| format!("cuMemHostAlloc:{}:2", first + 2 * i)).collect();
            let told =
                in_child("host::lanes::without_page_locked_memory_frames_are_the_same", &refused.join(","), &ANSWERS);
            let count = told.lines().filter(|line| line.contains("cuMemHostAlloc: fails on order")).count();
            assert!(count > 8, "{count} refused: {told}");
        }
    }
}

/// The context of all lanes ends while each has a frame in flight.
#[test]
fn a_lost_context_is_told_to_every_lane() {
    if is_child() {
        let known = known();
        let (network, lists, [mut one, mut two]) = open();
        one.submit(0).unwrap();
        two.submit(1).unwrap();
        let lost = [
            one.submit(1).unwrap_err(),
            one.wait(0).0.unwrap_err(),
            two.wait(0).0.unwrap_err(),
            one.run(0).unwrap_err(),
            two.run(0).unwrap_err(),
            two.submit(0).unwrap_err(),
            two.lane.frame_buffer(lseg_fast::Format::Rgb8, 24, 20).unwrap_err(),
            network.lane().err().unwrap(),
            network.labels(&words(0)).unwrap_err(),
            network.labels(&["new"]).unwrap_err(),
        ];
        for (i, error) in lost.iter().enumerate() {
            assert!(matches!(error, Error::Lost(_)), "{i}: {error}");
        }
        one.set(2, &lists);
        assert!(matches!(one.run(0), Err(Error::Lost(_))));
        // In flight when they are dropped, of a context that is gone, and a new one beside it.
        drop((one, lists));
        let (_new, _, [mut flow, _]) = open();
        assert_eq!(bits(&flow.run(1).unwrap()), known[&flow.question(1)]);
        drop((network, two));
        assert_eq!(bits(&flow.run(0).unwrap()), known[&flow.question(0)]);
    } else if is_virtual() {
        for code in [700, 719] {
            in_child(
                "host::lanes::a_lost_context_is_told_to_every_lane",
                &format!("cuGraphLaunch:1:{code}!"),
                &ANSWERS,
            );
        }
    }
}

/// What the driver says is free on the board.
fn free(cuda: &Cuda) -> u64 {
    cuda.own_memory().expect("the board has memory of its own").free
}

/// In a process of its own: other tests' memory would be counted.
#[test]
fn a_second_lane_takes_what_a_first_does() {
    if is_virtual() {
        alone("host::lanes::a_second_lane_takes_what_a_first_does", plan_two_lanes);
    }
}

fn plan_two_lanes() {
    let probe = Cuda::new(board()).unwrap();
    let empty = free(&probe);
    let network = network(board()).unwrap();
    let weights = empty - free(&probe);
    let labels = network.labels(&words(0)).unwrap();
    let taken = || {
        let before = free(&probe);
        let mut flow = Flow::new(&network, &labels).unwrap();
        flow.lane.frame_buffer(lseg_fast::Format::Rgb8, 24, 20).unwrap();
        (before - free(&probe), flow)
    };
    let ((first, one), (second, two)) = (taken(), taken());
    eprintln!("{weights} bytes of weights, {first} and {second} of lanes");
    assert!(first > 0 && second == first, "{first}, then {second}");
    assert!(second < weights / 4, "{second} beside {weights} of weights");
    let before = free(&probe);
    drop(two);
    assert_eq!(free(&probe), before + second, "a lane gives back what it took");
    drop((one, labels, network));
    assert_eq!(free(&probe), empty);
}

/// The real model's shapes, weights and all: what the driver gives for another lane is a twentieth of what one engine has, at most.
#[test]
fn a_second_lane_of_the_real_model_is_given_a_twentieth_of_the_memory() {
    if is_virtual() {
        let test = "host::lanes::a_second_lane_of_the_real_model_is_given_a_twentieth_of_the_memory";
        alone(test, give_to_the_real_model);
    }
}

fn give_to_the_real_model() {
    let (mut cuda, mut list) = (Cuda::new(board()).unwrap(), Loader::list());
    let model = Model::load(&vitl16(), &mut list).unwrap();
    let empty = free(&cuda);
    cuda.expect(list.weights()).unwrap();
    for weight in list.weights() {
        match *weight {
            Weight::Vector(len) => drop(cuda.vector(&vec![0.0; len]).unwrap()),
            // Rows that are not given are zeros.
            _ => drop(cuda.matrix(weight.size().0, weight.size().1, &[]).unwrap()),
        }
    }
    let weights = empty - free(&cuda);
    assert_eq!(weights, cuda.weight_bytes(list.weights()));
    let shape = FrameShape {
        batch: 1,
        photo: (480, 480),
        format: lseg_fast::Format::Rgb8,
        network: (480, 480),
        normalisation: None,
    };
    let bank = model.head.bank_shape(5);
    let (real, _) = plan::record(2, &[], |d| model.forward(d, shape, Some(&bank), Outputs::MASK));
    let layers = Layers::new(&mut cuda, 16);
    let mut lanes = Vec::new();
    let taken = [0, 1].map(|_| {
        let before = free(&cuda);
        let mut lane = cuda.another().unwrap();
        // The list's weights have no places: another pass, in an arena as large.
        let (mut plan, _) = layers.plan(&cuda, 20);
        plan.arena_bytes = real.arena_bytes;
        let program = lane.compile(plan).unwrap();
        lanes.push((lane, program));
        before - free(&cuda)
    });
    eprintln!("{weights} bytes of weights, {taken:?} of lanes");
    assert_eq!(taken[0], taken[1]);
    let share = taken[1] as f64 / (weights + taken[0]) as f64;
    assert!(share <= 0.05, "{taken:?} beside {weights} of weights are {share}");
}
