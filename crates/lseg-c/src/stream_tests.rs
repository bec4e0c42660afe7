//! What C gets of a stream is what the Rust library gives, bit for bit: of the engine's words, size, threshold and templates.

#![allow(unsafe_code)] // Calls as C makes them.

use std::ffi::{CStr, c_char};
use std::ptr;

use lseg_fast::image::npy::Dtype;
use lseg_fast::image::palette::Palette;
use lseg_fast::{Alpha, EmbeddingForm, Engine, Image, Layout, MapSize, Output, Results, Threshold, Wanted};

use crate::answer::*;
use crate::codes::lseg_kind::{self, *};
use crate::codes::{lseg_policy, lseg_waiting};
use crate::engine::{lseg_engine, lseg_set_templates, lseg_set_threshold};
use crate::output::lseg_output;
use crate::status::lseg_error;
use crate::status::lseg_status::*;
use crate::stream::*;
use crate::tests::{HEIGHT, Handle, LABELS, WIDTH, both, bytes, image, output, rgb};

struct Flow(*mut lseg_stream);

impl Drop for Flow {
    fn drop(&mut self) {
        // SAFETY: it is there.
        unsafe { lseg_stream_free(self.0) };
    }
}

struct Held(*mut lseg_answer);

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: it is there.
        unsafe { lseg_answer_release(self.0) };
    }
}

fn options() -> lseg_stream_options {
    lseg_stream_options {
        size: size_of::<lseg_stream_options>(),
        policy: lseg_policy::LSEG_EVERY as i32,
        wait: lseg_waiting::LSEG_WAITING_BLOCK as i32,
        queue: 0,
        pool: 0,
        stale_after_ms: 0,
        priority: 0,
        lock_memory: 0,
        realtime_required: 0,
        no_overlap: 0,
        on_device: 0,
        cpus: ptr::null(),
        cpu_count: 0,
    }
}

fn started(engine: *const lseg_engine, options: &lseg_stream_options, outputs: &[lseg_output]) -> Flow {
    let mut stream = ptr::null_mut();
    // SAFETY: all of it is there.
    let status = unsafe { lseg_stream_start(engine, options, outputs.as_ptr(), outputs.len(), &mut stream) };
    assert_eq!(status, LSEG_OK, "{}", last());
    Flow(stream)
}

fn last() -> &'static str {
    // SAFETY: the library's own text, which this thread looks at before its next failure.
    unsafe { CStr::from_ptr(lseg_error()) }.to_str().unwrap()
}

/// A frame's answer.
fn answer(stream: &Flow, rgb: &[u8], stamp: i64) -> Held {
    let (mut number, mut answer) = (0, ptr::null_mut());
    // SAFETY: all of it is there.
    unsafe {
        assert_eq!(lseg_stream_push(stream.0, &image(rgb), stamp, &mut number), LSEG_OK, "{}", last());
        assert_eq!(lseg_stream_recv(stream.0, 60_000, &mut answer), LSEG_OK, "{}", last());
    }
    let held = Held(answer);
    let info = info(&held);
    assert_eq!((info.sequence, info.stamp_ns), (number, stamp));
    assert_eq!(info.age_ns, info.waited_ns + info.computed_ns);
    held
}

fn info(answer: &Held) -> lseg_answer_info {
    let mut info = lseg_answer_info {
        size: size_of::<lseg_answer_info>(),
        sequence: 0,
        stamp_ns: 0,
        epoch: 0,
        waited_ns: 0,
        computed_ns: 0,
        age_ns: 0,
        status: -1,
        reserved: 0,
    };
    // SAFETY: all of it is there.
    assert_eq!(unsafe { lseg_answer_describe(answer.0, &mut info) }, LSEG_OK);
    info
}

/// An output of an answer, in memory of the size that it tells.
fn read(answer: &Held, mut asked: lseg_output) -> (Vec<u8>, [usize; 3]) {
    // SAFETY: the answer is there, and room is made.
    unsafe {
        assert_eq!(lseg_answer_output_bytes(answer.0, &mut asked), LSEG_OK, "{}", last());
        let mut room = vec![0u8; asked.bytes];
        asked.data = room.as_mut_ptr().cast();
        assert_eq!(lseg_answer_read(answer.0, &asked, 1), LSEG_OK, "{}", last());
        (room, asked.shape)
    }
}

fn values(results: &Results, kind: lseg_kind) -> Vec<u8> {
    match kind {
        LSEG_MASK8 => results.mask8(0).unwrap().to_vec(),
        LSEG_MASK16 => bytes(results.mask(0).unwrap()),
        LSEG_CONFIDENCE => results.confidence(0).unwrap().to_vec(),
        LSEG_OVERLAY => results.overlay(0).unwrap().to_vec(),
        LSEG_SCORES => bytes(results.values(Output::Scores, 0).unwrap()),
        LSEG_PROBABILITIES => bytes(results.values(Output::Probabilities, 0).unwrap()),
        LSEG_BEST => bytes(results.values(Output::Best, 0).unwrap()),
        LSEG_EMBEDDING_F16 => bytes(results.halves(Output::Embedding, 0).unwrap()),
        LSEG_EMBEDDING_F32 => bytes(results.values(Output::Embedding, 0).unwrap()),
    }
}

fn set_labels(stream: &Flow, labels: &[&CStr]) -> u64 {
    let labels: Vec<*const c_char> = labels.iter().map(|text| text.as_ptr()).collect();
    let mut epoch = 0;
    // SAFETY: all of it is there.
    let status = unsafe { lseg_stream_set_labels(stream.0, labels.as_ptr(), labels.len(), &mut epoch) };
    assert_eq!(status, LSEG_OK, "{}", last());
    epoch
}

#[test]
fn answers_are_what_the_rust_engine_gives() {
    let (mut engine, handle) = both("64x96");
    let rgb = rgb();
    let frame = Image::rgb8(WIDTH, HEIGHT, &rgb);
    // SAFETY: the handle is open.
    assert_eq!(unsafe { lseg_set_threshold(handle.0, 0.4) }, LSEG_OK);
    let own = [[1, 2, 3], [200, 100, 50], [9, 250, 0]];
    let kinds = [LSEG_MASK8, LSEG_MASK16, LSEG_CONFIDENCE, LSEG_SCORES, LSEG_PROBABILITIES, LSEG_BEST];
    let mut outputs = kinds.map(output).to_vec();
    let form = EmbeddingForm { at: MapSize::Full, dtype: Dtype::F16, layout: Layout::Chw, normalise: true };
    outputs.push(lseg_output { colours: own.as_ptr().cast(), alpha: 0.25, ..output(LSEG_OVERLAY) });
    outputs.push(lseg_output { layout: 1, at: 1, normalise: 1, ..output(LSEG_EMBEDDING_F16) });
    let stream = started(handle.0, &options(), &outputs);
    // What is set in the engine later is not the stream's.
    // SAFETY: the handle is open.
    assert_eq!(unsafe { lseg_set_threshold(handle.0, 0.9) }, LSEG_OK);

    for (turn, labels) in [&LABELS[..], &["a cat", "a dog", "sea", "sky"]].into_iter().enumerate() {
        if turn == 1 {
            assert_eq!(set_labels(&stream, &[c"a cat", c"a dog", c"sea", c"sky"]), 2);
            engine.set_labels(labels).unwrap();
        }
        let colours = Palette::of(&own).colours(labels.len());
        let wanted = Wanted::of(&[Output::Mask, Output::Mask8, Output::Confidence, Output::Scores])
            .and(Output::Probabilities)
            .and(Output::Best)
            .overlay(&colours, Alpha::new(0.25).unwrap())
            .embedding(form)
            .threshold(Threshold::new(0.4).unwrap());
        let expected = engine.run(&[frame], wanted).unwrap();
        let answer = answer(&stream, &rgb, 1_700_000_000_000_000_000 - turn as i64);
        assert_eq!((info(&answer).epoch, info(&answer).status), (turn as u64 + 1, LSEG_OK as i32));
        for asked in &outputs {
            let kind = crate::codes::kind(asked.kind, "").unwrap();
            assert!(
                read(&answer, *asked).0 == values(&expected, kind),
                "{kind:?} of list {turn} is another than Rust's"
            );
        }
        let (mut names, mut count) = (ptr::null(), 0);
        // SAFETY: all of it is there.
        unsafe {
            assert_eq!(lseg_answer_labels(answer.0, &mut names, &mut count), LSEG_OK);
            let names = std::slice::from_raw_parts(names, count);
            let names: Vec<&str> = names.iter().map(|name| CStr::from_ptr(*name).to_str().unwrap()).collect();
            assert_eq!(names, labels);
        }
    }
}

#[test]
fn words_are_changed_in_the_way_of_the_engines_templates() {
    let (mut engine, handle) = both("64x64");
    let templates = [c"a drawing of a {}".as_ptr(), c"{} in the rain".as_ptr()];
    // SAFETY: all of it is there.
    assert_eq!(unsafe { lseg_set_templates(handle.0, templates.as_ptr(), 2) }, LSEG_OK);
    let stream = started(handle.0, &options(), &[output(LSEG_SCORES)]);
    let scores = |engine: &mut Engine| {
        let rgb = rgb();
        let frame = Image::rgb8(WIDTH, HEIGHT, &rgb);
        bytes(engine.run(&[frame], Wanted::of(&[Output::Scores])).unwrap().values(Output::Scores, 0).unwrap())
    };
    // The words that were there before the templates.
    assert!(read(&answer(&stream, &rgb(), 0), output(LSEG_SCORES)).0 == scores(&mut engine));
    assert_eq!(set_labels(&stream, &[c"a cat", c"sea"]), 2);
    engine.set_templates(&["a drawing of a {}".to_owned(), "{} in the rain".to_owned()]).unwrap();
    engine.set_labels(&["a cat", "sea"]).unwrap();
    assert!(read(&answer(&stream, &rgb(), 0), output(LSEG_SCORES)).0 == scores(&mut engine));
}

#[test]
fn two_streams_of_one_engine_share_its_weights() {
    let (_, handle) = both("64x64");
    let rgb = rgb();
    let held = |handle: &Handle| {
        let mut held = 0;
        // SAFETY: the handle is open.
        let status = unsafe {
            crate::engine::with(handle.0, |open| {
                held = open.engine.memory().host().held;
                Ok(())
            })
        };
        assert_eq!(status, LSEG_OK);
        held
    };
    let before = held(&handle);
    let streams = [(); 2].map(|()| started(handle.0, &options(), &[output(LSEG_MASK8)]));
    let masks = streams.each_ref().map(|stream| read(&answer(stream, &rgb, 0), output(LSEG_MASK8)).0);
    assert!(masks[0] == masks[1]);
    // Two arenas of a small frame, and no second copy of the weights.
    assert!(held(&handle) - before < before, "{before} bytes, then {}", held(&handle));
    // It goes before its streams.
    drop(handle);
    assert!(read(&answer(&streams[0], &rgb, 0), output(LSEG_MASK8)).0 == masks[0]);
}
