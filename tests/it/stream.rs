//! Streams: every frame is computed or counted, answers are what `segment` gives, words change whole, nobody waits for anybody.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lseg_fast::stream::{Answer, Policy, Pushed, Realtime, Stats, Stream, StreamOptions, Waiting};
use lseg_fast::{Alpha, DeviceChoice, Error, Format, Image, Labels, Network, Options, Output, Results, Size, Wanted};

const SIZE: Size = Size::Exact { height: 32, width: 32 };
const LONG: Duration = Duration::from_secs(60);
const WORDS: [&[&str]; 3] = [&["cat", "dog"], &["sky", "cat", "sea"], &["a", "b", "c", "d", "e"]];
/// What `Stats` says without times: (pushed, done, replaced, stale, failed, in flight).
type Counts = (u64, u64, u64, u64, u64, u64);

fn network() -> Network {
    let options = Options { device: DeviceChoice::Cpu, threads: Some(1), ..Options::default() };
    Network::load(&testing::network::Network::varied().write(), &options).unwrap()
}

fn options(policy: Policy) -> StreamOptions {
    StreamOptions { policy, size: Some(SIZE), ..StreamOptions::default() }
}

fn every(queue: usize) -> StreamOptions {
    options(Policy::Every { queue })
}

fn start(network: &Network, options: StreamOptions) -> Stream {
    Stream::start(network, Some(&network.labels(WORDS[0]).unwrap()), options).unwrap()
}

/// Bytes of a frame, which tell its number.
fn bytes(format: Format, width: usize, height: usize, seed: usize) -> Vec<u8> {
    (0..format.bytes(width, height).unwrap()).map(|i| ((i * (2 * seed + 1)) * 7919 % 251) as u8).collect()
}

fn push(stream: &Stream, seed: usize) -> Pushed {
    let rgb = bytes(Format::Rgb8, 24, 20, seed);
    stream.push(&Image::rgb8(24, 20, &rgb), seed as i64).unwrap()
}

fn counts(stats: &Stats) -> Counts {
    let Stats { pushed, done, replaced, stale, failed, in_flight, .. } = *stats;
    assert_eq!(pushed, done + replaced + stale + failed + in_flight);
    (pushed, done, replaced, stale, failed, in_flight)
}

fn next(stream: &Stream) -> Answer {
    stream.recv(LONG).unwrap().expect("an answer comes")
}

/// What a lane of its own makes of a frame.
fn right(network: &Network, labels: &Labels, image: &Image<'_>, wanted: Wanted<'_>) -> Results {
    let mut lane = network.lane().unwrap();
    lane.set_size(SIZE);
    lane.set_labels(labels).unwrap();
    lane.run(&[*image], wanted).unwrap()
}

#[test]
fn answers_are_what_segment_gives_in_any_format() {
    let network = network();
    let labels = network.labels(WORDS[1]).unwrap();
    let stream = Stream::start(&network, Some(&labels), every(3)).unwrap();
    let formats =
        ["rgb8", "bgr8", "rgba8", "mono8", "nv12", "yuyv", "rgb_f16"].map(|name| name.parse::<Format>().unwrap());
    for (seed, format) in formats.into_iter().cycle().take(20).enumerate() {
        let (width, height) = [(24, 20), (33, 17), (20, 31)][seed % 3];
        let packed = if format == Format::RgbF16 {
            let half = |i: usize| half::f16::from_f32((i * 31 % 97) as f32 / 97.0).to_le_bytes();
            (0..3 * width * height).flat_map(half).collect()
        } else {
            bytes(format, width, height, seed)
        };
        let image = Image::packed(format, width, height, &packed);
        let stamp = 1_700_000_000_000_000_000 + seed as i64;
        if seed % 2 == 0 {
            assert_eq!(stream.push(&image, stamp).unwrap(), Pushed::Accepted(seed as u64));
        } else {
            let mut slot = stream.slot(format, width, height).unwrap().unwrap();
            slot.bytes().copy_from_slice(&packed);
            assert_eq!(slot.push(stamp).unwrap(), Pushed::Accepted(seed as u64));
        }
        let answer = next(&stream);
        assert_eq!((answer.sequence, answer.stamp, answer.epoch), (seed as u64, stamp, 1));
        let results = answer.results().unwrap();
        assert_eq!(results.mask(0), right(&network, &labels, &image, Wanted::MASK).mask(0), "{format:?}");
        assert_eq!(results.labels().unwrap().names(), WORDS[1]);
        assert!(answer.times.age >= answer.times.computed && answer.times.computed > Duration::ZERO);
    }
    assert_eq!(counts(&stream.stop().unwrap()), (20, 20, 0, 0, 0, 0));
}

#[test]
fn any_outputs_come_with_colours_and_points() {
    let network = network();
    let labels = network.labels(WORDS[1]).unwrap();
    let palette: lseg_fast::image::palette::Palette = lseg_fast::image::palette::Palette::parse("default").unwrap();
    let points = vec![[3.0, 4.5], [18.0, 0.0]];
    let wanted = Wanted::of(&[Output::Mask8, Output::Confidence, Output::Scores]);
    let overlay = Some((palette.clone(), Alpha::default()));
    let options = StreamOptions { wanted, overlay, points: points.clone(), ..options(Policy::Newest) };
    let stream = Stream::start(&network, Some(&labels), options).unwrap();
    let rgb = bytes(Format::Rgb8, 24, 20, 7);
    let image = Image::rgb8(24, 20, &rgb);
    for (list, epoch) in [(1, 1), (2, 2)] {
        if list == 2 {
            assert_eq!(stream.set_labels(WORDS[2]).unwrap(), 2);
        }
        let labels = network.labels(WORDS[list]).unwrap();
        let colours = palette.colours(WORDS[list].len());
        let all = wanted.overlay(&colours, Alpha::default()).at_points(&points);
        let expected = right(&network, &labels, &image, all);
        stream.push(&image, 0).unwrap();
        let answer = next(&stream);
        assert_eq!(answer.epoch, epoch);
        let results = answer.results().unwrap();
        assert_eq!(results.mask8(0), expected.mask8(0));
        assert_eq!(results.overlay(0), expected.overlay(0));
        assert_eq!(results.confidence(0), expected.confidence(0));
        assert_eq!(results.values(Output::Scores, 0), expected.values(Output::Scores, 0));
        assert_eq!(results.values(Output::Points, 0), expected.values(Output::Points, 0));
    }
}

/// The first frame is being computed, or waits for a place: what is pushed meanwhile waits. The stream's only answers are held.
fn held_up(network: &Network, options: StreamOptions) -> (Stream, Vec<Answer>) {
    let places = options.pool + 1;
    let stream = start(network, options);
    let held = (0..places)
        .map(|seed| {
            push(&stream, seed);
            next(&stream)
        })
        .collect();
    (stream, held)
}

#[test]
fn the_newest_frame_wins_and_the_others_are_counted() {
    let network = network();
    let (stream, held) = held_up(&network, options(Policy::Newest));
    // Nothing is computed while all answers are held, and nobody waits.
    let first = held.len() as u64;
    assert_eq!(push(&stream, 10), Pushed::Accepted(first));
    for i in 1..100 {
        assert_eq!(push(&stream, 10 + i), Pushed::Replaced(first + i as u64, first + i as u64 - 1));
    }
    assert!(stream.poll().is_none());
    assert_eq!(counts(&stream.stats()), (first + 100, first, 99, 0, 0, 1));
    drop(held);
    let answer = next(&stream);
    assert_eq!((answer.sequence, answer.stamp), (first + 99, 109));
    assert_eq!(counts(&stream.stop().unwrap()), (first + 100, first + 1, 99, 0, 0, 0));
}

#[test]
fn an_answer_that_is_held_stays_as_it_is() {
    let network = network();
    let labels = network.labels(WORDS[0]).unwrap();
    let (stream, held) = held_up(&network, options(Policy::Newest));
    for seed in 10..20 {
        push(&stream, seed);
        thread::sleep(Duration::from_millis(2));
    }
    for (seed, answer) in held.iter().enumerate() {
        let rgb = bytes(Format::Rgb8, 24, 20, seed);
        let expected = right(&network, &labels, &Image::rgb8(24, 20, &rgb), Wanted::MASK);
        assert_eq!(answer.results().unwrap().mask(0), expected.mask(0), "frame {seed}");
    }
}

#[test]
fn an_answer_that_nobody_takes_gives_way_to_a_newer_one() {
    let network = network();
    let stream = start(&network, options(Policy::Newest));
    for seed in 0..5 {
        push(&stream, seed);
        let begin = Instant::now();
        while stream.stats().done <= seed as u64 {
            assert!(begin.elapsed() < LONG);
            thread::yield_now();
        }
        // It is delivered just after it is counted.
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!((next(&stream).sequence, stream.stats().unread), (4, 4));
    assert!(stream.poll().is_none());
    assert_eq!(counts(&stream.stats()), (5, 5, 0, 0, 0, 0));
}

#[test]
fn every_frame_is_computed_in_its_order_and_a_full_queue_is_told() {
    let network = network();
    let (stream, held) = held_up(&network, every(3));
    let first = held.len() as u64;
    // One more than may wait: the engine would have it, had it a place.
    let pushed: Vec<Pushed> = (0..6).map(|seed| push(&stream, 10 + seed)).collect();
    let accepted = (first..first + 4).map(Pushed::Accepted);
    assert_eq!(pushed, accepted.chain([Pushed::Full; 2]).collect::<Vec<_>>());
    assert!(stream.slot(Format::Rgb8, 24, 20).unwrap().is_none());
    let begin = Instant::now();
    assert!(stream.slot_within(Format::Rgb8, 24, 20, Duration::from_millis(30)).unwrap().is_none());
    assert!(begin.elapsed() >= Duration::from_millis(30));
    thread::scope(|scope| {
        let pushes = scope.spawn(|| {
            for seed in 14..40 {
                let mut slot = stream.slot_within(Format::Rgb8, 24, 20, LONG).unwrap().expect("there will be room");
                slot.bytes().copy_from_slice(&bytes(Format::Rgb8, 24, 20, seed));
                slot.push(seed as i64).unwrap();
            }
            stream.close();
        });
        drop(held);
        for seed in 10..40 {
            assert_eq!(next(&stream).stamp, seed);
        }
        pushes.join().unwrap();
    });
    // Closed, and all is taken.
    assert!(stream.recv(LONG).unwrap().is_none());
    assert!(stream.is_over());
    assert_eq!(counts(&stream.stats()), (first + 30, first + 30, 0, 0, 0, 0));
    let error = stream.push(&Image::rgb8(1, 1, &[1, 2, 3]), 0).unwrap_err();
    assert!(matches!(error, Error::Busy(_)), "{error}");
}

/// One writes a frame and takes its time, another waits for its turn: what waits in the queue is computed meanwhile.
#[test]
fn whoever_waits_for_room_holds_up_nobody() {
    let network = network();
    let (stream, held) = held_up(&network, every(3));
    push(&stream, 10);
    let slow = stream.slot(Format::Rgb8, 24, 20).unwrap().unwrap();
    thread::scope(|scope| {
        let second = scope.spawn(|| {
            let slot = stream.slot_within(Format::Rgb8, 24, 20, LONG).unwrap().expect("its turn comes");
            slot.push(12).unwrap()
        });
        // It waits for the first one's slot.
        thread::sleep(Duration::from_millis(50));
        drop(held);
        assert_eq!(next(&stream).stamp, 10);
        slow.push(11).unwrap();
        assert_eq!((next(&stream).stamp, next(&stream).stamp), (11, 12));
        second.join().unwrap();
    });
}

#[test]
fn a_frame_that_has_waited_for_too_long_is_not_computed() {
    let network = network();
    let stale_after = Some(Duration::from_millis(20));
    let (stream, held) = held_up(&network, StreamOptions { stale_after, ..every(3) });
    let first = held.len() as u64;
    for seed in 0..3 {
        push(&stream, seed);
    }
    thread::sleep(Duration::from_millis(30));
    drop(held);
    push(&stream, 77);
    assert_eq!(next(&stream).stamp, 77);
    assert_eq!(counts(&stream.stop().unwrap()), (first + 4, first + 1, 0, 3, 0, 0));
}

#[test]
fn what_cannot_be_computed_is_told_and_the_next_frame_runs() {
    let network = network();
    // No labels yet.
    let stream = Stream::start(&network, None, every(2)).unwrap();
    push(&stream, 1);
    let answer = next(&stream);
    let error = answer.results().unwrap_err().to_string();
    assert!(error.contains("no labels"), "{error}");
    assert_eq!(answer.epoch, 0);
    drop(answer);
    assert_eq!(stream.set_labels(WORDS[0]).unwrap(), 1);
    push(&stream, 2);
    let answer = next(&stream);
    assert!(answer.results().is_ok() && answer.epoch == 1);
    // A frame that is none is refused where it is pushed.
    for (image, word) in [
        (Image::rgb8(24, 20, &[0; 7]), "7 bytes"),
        (Image::rgb8(0, 20, &[]), "no pixels"),
        (Image::packed(Format::Rgb8, usize::MAX, 9, &[]), "larger than memory"),
    ] {
        let error = stream.push(&image, 0).unwrap_err();
        assert!(matches!(&error, Error::Size(_)) && error.to_string().contains(word), "{error}");
    }
    // One that no memory holds.
    let error = stream.slot(Format::Rgb8, 1 << 31, 1 << 20).map(drop).unwrap_err();
    assert!(matches!(error, Error::Memory(_)), "{error}");
    // A slot that is not pushed is as if it had never been.
    drop(stream.slot(Format::Rgb8, 24, 20).unwrap());
    assert_eq!(counts(&stream.stop().unwrap()), (2, 1, 0, 0, 1, 0));
}

#[test]
fn words_change_whole_and_bad_ones_change_nothing() {
    let network = network();
    let stream = start(&network, every(4));
    for round in 0..30 {
        let list = round % 3;
        let epoch = stream.set_labels(WORDS[list]).unwrap();
        assert_eq!((epoch, stream.epoch()), (round as u64 + 2, epoch));
        push(&stream, round);
        let answer = next(&stream);
        assert_eq!(answer.epoch, epoch);
        assert_eq!(answer.results().unwrap().labels().unwrap().names(), WORDS[list]);
    }
    let before = stream.epoch();
    for wrong in [&[][..], &["cat", "cat"], &["cat", ""]] {
        let error = stream.set_labels(wrong).unwrap_err();
        assert!(matches!(error, Error::Labels(_)), "{error}");
    }
    push(&stream, 9);
    assert_eq!((stream.epoch(), next(&stream).epoch), (before, before));
}

#[test]
fn stopping_finishes_what_is_computed_and_counts_what_waits() {
    let network = network();
    let (stream, held) = held_up(&network, every(4));
    let first = held.len() as u64;
    for seed in 0..4 {
        push(&stream, seed);
    }
    assert_eq!(counts(&stream.stop().unwrap()), (first + 4, first, 0, 4, 0, 0));
    assert!(stream.recv(LONG).unwrap().is_none());
    assert!(stream.push(&Image::rgb8(1, 1, &[1, 2, 3]), 0).is_err());
    // Again it is the same, and answers outlive the stream.
    assert_eq!(counts(&stream.stop().unwrap()), (first + 4, first, 0, 4, 0, 0));
    drop(stream);
    assert!(held[0].results().unwrap().mask(0).is_some());
}

#[test]
fn two_streams_share_the_weights() {
    let network = Network::load_demo(&Options { device: DeviceChoice::Cpu, ..Options::default() }).unwrap();
    let held = || network.memory().host().held;
    drop(network.labels(WORDS[0]).unwrap());
    let before = held();
    let streams: Vec<Stream> = (0..2).map(|_| start(&network, every(2))).collect();
    let labels = network.labels(WORDS[0]).unwrap();
    for seed in 0..10 {
        let rgb = bytes(Format::Rgb8, 24, 20, seed);
        let expected = right(&network, &labels, &Image::rgb8(24, 20, &rgb), Wanted::MASK);
        for stream in &streams {
            push(stream, seed);
            assert_eq!(next(stream).results().unwrap().mask(0), expected.mask(0));
        }
    }
    assert!(held() - before < before / 2, "{before} bytes of weights, {} with two streams", held());
    drop((streams, labels));
    assert!(held() <= before + (1 << 16), "{} of {before}: what streams took is given back", held());
}

#[test]
fn each_way_to_wait_and_a_warm_start_work() {
    let network = network();
    for wait in [Waiting::Block, Waiting::Yield, Waiting::Spin] {
        let warm = Some((Format::Rgb8, 24, 20));
        let stream = start(&network, StreamOptions { wait, warm, ..every(2) });
        assert_eq!(counts(&stream.stats()), (0, 0, 0, 0, 0, 0), "frames that warm are not counted");
        (0..20).for_each(|seed| {
            push(&stream, seed);
            assert_eq!(next(&stream).stamp, seed as i64);
        });
    }
    let error = Stream::start(&network, None, StreamOptions { warm: Some((Format::Rgb8, 24, 20)), ..every(2) });
    assert!(error.err().unwrap().to_string().contains("no labels"));
}

/// What a system refuses is told, or is an error where it is required.
#[test]
fn what_the_system_refuses_is_told() {
    let network = network();
    let realtime = Realtime { cpus: vec![1000], ..Realtime::default() };
    let stream = start(&network, StreamOptions { realtime: Some(realtime.clone()), ..every(2) });
    assert!(stream.notes().len() == 1 && stream.notes()[0].contains("1000"), "{:?}", stream.notes());
    push(&stream, 1);
    next(&stream);
    let required = StreamOptions { realtime: Some(Realtime { required: true, ..realtime }), ..every(2) };
    let error = Stream::start(&network, None, required).err().unwrap();
    assert!(matches!(error, Error::Device(_)), "{error}");
    let first = StreamOptions { realtime: Some(Realtime { cpus: vec![0], ..Realtime::default() }), ..every(2) };
    assert_eq!(start(&network, first).notes(), [""; 0]);
    let on_device = Stream::start(&network, None, StreamOptions { on_device: true, ..every(2) });
    assert!(on_device.err().unwrap().to_string().contains("a GPU"));
}

/// One pushes as fast as it can, one takes answers, one changes the words, one looks: all frames are accounted for, each answer is about
/// the words of its number, and is what a lane of its own gives.
fn threads(options: StreamOptions, frames: usize) {
    let network = network();
    let is_newest = options.policy == Policy::Newest;
    let lists = WORDS.map(|words| network.labels(words).unwrap());
    let expected: HashMap<(usize, usize), Vec<u16>> = (0..3)
        .flat_map(|list| (0..8).map(move |seed| (list, seed)))
        .map(|(list, seed)| {
            let rgb = bytes(Format::Rgb8, 24, 20, seed);
            let results = right(&network, &lists[list], &Image::rgb8(24, 20, &rgb), Wanted::MASK);
            ((list, seed), results.mask(0).unwrap().to_vec())
        })
        .collect();
    let stream = start(&network, options);
    let is_over = AtomicBool::new(false);
    let taken = thread::scope(|scope| {
        scope.spawn(|| {
            let mut slots = 0;
            while slots < frames {
                let rgb = bytes(Format::Rgb8, 24, 20, slots % 8);
                let Some(mut slot) = stream.slot_within(Format::Rgb8, 24, 20, LONG).unwrap() else { continue };
                slot.bytes().copy_from_slice(&rgb);
                slot.push(slots as i64).unwrap();
                slots += 1;
                if is_newest && slots % 3 == 0 {
                    thread::sleep(Duration::from_micros(300));
                }
            }
            stream.close();
        });
        scope.spawn(|| {
            // The first was number 1, and each is about the next list.
            for list in (1..3).cycle().map(|i| i % 3).chain([0]) {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let _ = stream.set_labels(WORDS[list]).unwrap();
                thread::sleep(Duration::from_millis(1));
            }
        });
        scope.spawn(|| {
            let mut before = stream.stats();
            while !is_over.load(Ordering::Relaxed) {
                let now = stream.stats();
                counts(&now);
                assert!(now.pushed >= before.pushed && now.done >= before.done && now.replaced >= before.replaced);
                before = now;
                thread::sleep(Duration::from_micros(100));
            }
        });
        let (mut taken, mut last) = (0, None);
        while let Some(answer) = stream.recv(LONG).unwrap() {
            assert!(last.is_none_or(|last| last < answer.sequence), "answers are in the order of frames");
            last = Some(answer.sequence);
            let results = answer.results().unwrap();
            let names = results.labels().unwrap().names();
            let list = WORDS.iter().position(|words| names == *words).unwrap();
            let expects = if answer.epoch == 1 { 0 } else { 1 + (answer.epoch as usize % 2) };
            assert_eq!(list, expects, "epoch {}", answer.epoch);
            assert_eq!(results.mask(0).unwrap(), expected[&(list, answer.stamp as usize % 8)], "{answer:?}");
            taken += 1;
        }
        is_over.store(true, Ordering::Relaxed);
        taken
    });
    let stats = stream.stats();
    let (pushed, done, replaced, ..) = counts(&stats);
    assert_eq!((pushed, done + replaced, stats.in_flight), (frames as u64, frames as u64, 0));
    assert_eq!(done, taken + stats.unread);
    assert!(done > 10 && (is_newest || replaced == 0), "{stats:?}");
}

#[test]
fn threads_that_push_take_and_change_words_lose_nothing() {
    threads(every(4), 2_000);
    threads(options(Policy::Newest), 2_000);
}
