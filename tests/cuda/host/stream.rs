//! Streams on a GPU: a frame is brought over while the one before is computed, results are those of a lane, and an engine that is lost
//! is made anew.

use std::time::Duration;

use lseg_fast::stream::{Answer, Policy, Pushed, Stream, StreamOptions, Waiting};
use lseg_fast::{Error, LabelOptions, Output, Wanted, labels};

use super::lanes::{LISTS, PHOTOS, Right, SIZES, all, bits, frame, network, rgb, words};
use super::{failing, is_virtual, schedules};

const LONG: Duration = Duration::from_secs(60);
const FRAMES: usize = 12;

fn every(wanted: Wanted<'static>) -> StreamOptions {
    StreamOptions { policy: Policy::Every { queue: 3 }, wanted, size: Some(SIZES[0]), ..StreamOptions::default() }
}

fn push(stream: &Stream, photo: usize, stamp: usize) {
    let pushed = stream.push(&frame(photo, &rgb(photo)), stamp as i64).unwrap();
    assert!(matches!(pushed, Pushed::Accepted(_)), "{pushed:?}");
}

fn next(stream: &Stream) -> Answer {
    stream.recv(LONG).unwrap().expect("an answer comes")
}

#[test]
fn answers_are_those_of_a_lane_in_every_schedule() {
    for ordinal in schedules() {
        let mut right = Right::on(ordinal);
        let network = network(ordinal).unwrap();
        for (overlap, wait) in [(true, Waiting::Block), (false, Waiting::Spin), (true, Waiting::Spin)] {
            let labels = network.labels(&words(0)).unwrap();
            let options = StreamOptions { overlap, wait, ..every(all()) };
            let stream = Stream::start(&network, Some(&labels), options).unwrap();
            for round in 0..2 {
                for list in 0..LISTS {
                    let epoch = stream.set_labels(&words(list)).unwrap();
                    // As many as may wait, so that two are in flight.
                    (0..3).for_each(|i| push(&stream, (round + i) % PHOTOS.len(), i));
                    for i in 0..3 {
                        let answer = next(&stream);
                        assert_eq!((answer.stamp, answer.epoch), (i as i64, epoch));
                        let question = (list, 0, (round + i) % PHOTOS.len());
                        assert_eq!(bits(answer.results().unwrap()), right.of(question), "{ordinal}, {question:?}");
                    }
                }
            }
            let stats = stream.stop().unwrap();
            assert_eq!((stats.pushed, stats.done, stats.failed), (6 * LISTS as u64, 6 * LISTS as u64, 0));
        }
    }
}

#[test]
fn the_newest_is_right_too_and_nothing_is_lost() {
    for ordinal in schedules().into_iter().take(2) {
        let mut right = Right::on(ordinal);
        let network = network(ordinal).unwrap();
        let labels = network.labels(&words(1)).unwrap();
        let options = StreamOptions { policy: Policy::Newest, ..every(all()) };
        let stream = Stream::start(&network, Some(&labels), options).unwrap();
        let (mut taken, mut last) = (0, -1);
        for i in 0..60 {
            let _ = stream.push(&frame(i % 3, &rgb(i % 3)), i as i64).unwrap();
            std::thread::sleep(Duration::from_millis(if i % 5 == 0 { 40 } else { 1 }));
            while let Some(answer) = stream.poll() {
                assert!(answer.stamp > last);
                last = answer.stamp;
                let question = (1, 0, answer.stamp as usize % 3);
                assert_eq!(bits(answer.results().unwrap()), right.of(question), "{ordinal}, {question:?}");
                taken += 1;
            }
        }
        stream.close();
        while let Some(answer) = stream.recv(LONG).unwrap() {
            last = answer.stamp;
            taken += 1;
        }
        let stats = stream.stats();
        assert_eq!((stats.pushed, stats.done + stats.replaced, last), (60, 60, 59));
        assert_eq!(stats.done, taken + stats.unread);
    }
}

/// Results stay on the GPU, in places of their own.
#[test]
fn results_stay_on_the_gpu_where_they_are_wanted() {
    for ordinal in schedules().into_iter().take(3) {
        let mut right = Right::on(ordinal);
        let network = network(ordinal).unwrap();
        let labels = network.labels(&words(1)).unwrap();
        let options = StreamOptions { on_device: true, pool: 3, ..every(Wanted::MASK) };
        let stream = Stream::start(&network, Some(&labels), options).unwrap();
        let expected: Vec<Vec<u8>> = (0..3)
            .map(|photo| {
                right.of((1, 0, photo));
                let mut lane = network.lane().unwrap();
                lane.set_size(SIZES[0]);
                lane.set_labels(&labels).unwrap();
                let results = lane.run(&[frame(photo, &rgb(photo))], Wanted::MASK).unwrap();
                results.mask(0).unwrap().iter().map(|label| *label as u8).collect()
            })
            .collect();
        let read = |answer: &Answer| {
            let tensor = answer.on_device().unwrap().expect("it is there").tensor(Output::Mask).unwrap();
            let mut bytes = vec![0; tensor.bytes()];
            tensor.read(&mut bytes).unwrap();
            bytes
        };
        for round in 0..4 {
            (0..3).for_each(|i| push(&stream, (round + i) % 3, i));
            let held: Vec<Answer> = (0..3).map(|_| next(&stream)).collect();
            for (i, answer) in held.iter().enumerate() {
                assert_eq!(read(answer), expected[(round + i) % 3], "{ordinal}, {round}");
            }
        }
    }
}

/// In a process of its own, in which the context is lost twice.
#[test]
fn an_engine_that_is_lost_is_made_anew() {
    if !is_virtual() {
        return;
    }
    let test = "host::stream::an_engine_that_is_lost_is_made_anew";
    failing(test, "cuGraphLaunch:3:700!,cuGraphLaunch:12:719!", || {
        let list = labels::checked(&words(1)).unwrap();
        let make = || network(0);
        let stream = Stream::start_with(make, Some(&list), &LabelOptions::default(), every(all())).unwrap();
        let (mut right, mut lost) = (Vec::new(), 0);
        for i in 0..FRAMES + 8 {
            push(&stream, 1, i);
            let answer = next(&stream);
            assert_eq!(answer.epoch, if answer.results().is_ok() { 1 } else { answer.epoch });
            match answer.results() {
                Ok(results) => right.push(bits(results)),
                Err(Error::Lost(_)) => lost += 1,
                // It waited in memory of the engine that was lost.
                Err(error) => assert!(matches!(error, Error::Device(_)), "{error}"),
            }
        }
        let stats = stream.stop().unwrap();
        assert!(lost == 2 && stats.restarts == 2, "{lost} lost, {stats:?}");
        assert_eq!((stats.done + stats.failed, stats.done), (FRAMES as u64 + 8, right.len() as u64));
        assert!(right.len() > FRAMES && right.iter().all(|bits| *bits == right[0]), "{right:?}");
    });
}

#[test]
fn without_a_factory_a_stream_ends_with_its_engine() {
    if !is_virtual() {
        return;
    }
    let test = "host::stream::without_a_factory_a_stream_ends_with_its_engine";
    failing(test, "cuGraphLaunch:1:700!", || {
        let network = network(0).unwrap();
        let labels = network.labels(&words(1)).unwrap();
        let stream = Stream::start(&network, Some(&labels), every(all())).unwrap();
        let mut answers = Vec::new();
        let ended = loop {
            if let Err(error) = stream.push(&frame(1, &rgb(1)), 0) {
                break error;
            }
            match stream.recv(LONG) {
                Ok(answer) => answers.extend(answer),
                Err(error) => break error,
            }
        };
        assert!(matches!(ended, Error::Lost(_)), "{ended}");
        assert!(answers.iter().any(|answer| matches!(answer.results(), Err(Error::Lost(_)))), "{answers:?}");
        drop(answers);
        assert!(matches!(stream.stop(), Err(Error::Lost(_))));
        assert!(matches!(stream.recv(LONG), Err(Error::Lost(_))));
        let stats = stream.stats();
        assert_eq!(stats.in_flight, 0, "{stats:?}");
    });
}
