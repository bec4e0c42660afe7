//! What C gets is what the Rust library gives, bit for bit; and what a call costs over the Rust one.

#![allow(unsafe_code)] // Calls as C makes them.

use std::ffi::{CStr, CString, c_char, c_void};
use std::hint::black_box;
use std::ptr;
use std::time::Instant;

use lseg_fast::image::npy::Dtype;
use lseg_fast::image::palette::palette;
use lseg_fast::{
    Alpha, DeviceChoice, EmbeddingForm, Engine, Image, Layout, MapSize, Options, Output, Threshold, Wanted,
};

use crate::codes::lseg_kind::*;
use crate::codes::*;
use crate::engine::*;
use crate::image::lseg_image;
use crate::output::{Outputs, lseg_output};
use crate::segment::{lseg_embed_at, lseg_output_bytes, lseg_segment};
use crate::status::lseg_status::LSEG_OK;

pub const WIDTH: usize = 37;
pub const HEIGHT: usize = 29;
pub const LABELS: [&str; 3] = ["red ball", "grass", "sky"];

pub struct Handle(pub *mut lseg_engine);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: it is open.
        unsafe { lseg_close(self.0) };
    }
}

/// Both ways to the demo model.
pub fn both(size: &str) -> (Engine, Handle) {
    let options = Options { device: DeviceChoice::Cpu, threads: Some(1), ..Options::default() };
    let mut engine = Engine::load_demo(&options).unwrap();
    engine.set_size(size.parse().unwrap());
    engine.set_labels(&LABELS).unwrap();
    (engine, opened(None, size))
}

/// An engine of C's: the demo model, or this one.
fn opened(model: Option<&CStr>, size: &str) -> Handle {
    let given = lseg_options {
        size: size_of::<lseg_options>(),
        model: model.map_or(ptr::null(), CStr::as_ptr),
        device: c"cpu".as_ptr(),
        context: 0,
        wait: 0,
        threads: 1,
        timeout_ms: 0,
        memory: 0,
    };
    let labels: Vec<*const c_char> = [c"red ball", c"grass", c"sky"].iter().map(|text| text.as_ptr()).collect();
    let text = CString::new(size).unwrap();
    let mut handle = ptr::null_mut();
    // SAFETY: all of them are there.
    unsafe {
        assert_eq!(lseg_open(&given, &mut handle), LSEG_OK);
        assert_eq!(lseg_set_size(handle, text.as_ptr()), LSEG_OK);
        assert_eq!(lseg_set_labels(handle, labels.as_ptr(), labels.len()), LSEG_OK);
    }
    Handle(handle)
}

pub fn rgb() -> Vec<u8> {
    rgb_of(WIDTH, HEIGHT)
}

fn rgb_of(width: usize, height: usize) -> Vec<u8> {
    (0..3 * width * height).map(|i| (i * 7919 % 251) as u8).collect()
}

pub fn image(rgb: &[u8]) -> lseg_image {
    lseg_image {
        size: size_of::<lseg_image>(),
        format: lseg_format::LSEG_FORMAT_RGB8 as i32,
        memory: 0,
        width: WIDTH as u32,
        height: HEIGHT as u32,
        plane: [rgb.as_ptr().cast(), ptr::null(), ptr::null()],
        pitch: [0; 3],
        cuda_stream: ptr::null_mut(),
    }
}

pub fn output(kind: lseg_kind) -> lseg_output {
    lseg_output {
        size: size_of::<lseg_output>(),
        kind: kind as i32,
        layout: 0,
        at: 0,
        normalise: 0,
        data: ptr::null_mut(),
        bytes: 0,
        pitch: 0,
        colours: ptr::null(),
        alpha: 0.0,
        shape: [0; 3],
    }
}

/// An output of the C interface, in memory of the size that it tells.
fn given(handle: &Handle, rgb: &[u8], mut output: lseg_output) -> (Vec<u8>, [usize; 3]) {
    let image = image(rgb);
    // SAFETY: the handle is open, and room is made.
    unsafe {
        assert_eq!(lseg_output_bytes(handle.0, &image, &mut output), LSEG_OK);
        let mut room = vec![0u8; output.bytes];
        output.data = room.as_mut_ptr().cast::<c_void>();
        assert_eq!(lseg_segment(handle.0, &image, &output, 1), LSEG_OK);
        (room, output.shape)
    }
}

pub fn bytes<T: Copy>(values: &[T]) -> Vec<u8> {
    // SAFETY: numbers without padding.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }.to_vec()
}

#[test]
fn outputs_are_those_of_the_rust_library() {
    let (mut engine, handle) = both("64x96");
    let rgb = rgb();
    let frame = Image::rgb8(WIDTH, HEIGHT, &rgb);
    let colours = palette(LABELS.len());
    let wanted = Wanted::of(&[
        Output::Mask,
        Output::Mask8,
        Output::Confidence,
        Output::Scores,
        Output::Probabilities,
        Output::Best,
    ])
    .overlay(&colours, Alpha::default());
    let results = engine.run(&[frame], wanted).unwrap();
    let values = |output| bytes(results.values(output, 0).unwrap());
    for (kind, output, expected) in [
        (LSEG_MASK8, Output::Mask8, results.mask8(0).unwrap().to_vec()),
        (LSEG_MASK16, Output::Mask, bytes(results.mask(0).unwrap())),
        (LSEG_CONFIDENCE, Output::Confidence, results.confidence(0).unwrap().to_vec()),
        (LSEG_SCORES, Output::Scores, values(Output::Scores)),
        (LSEG_PROBABILITIES, Output::Probabilities, values(Output::Probabilities)),
        (LSEG_BEST, Output::Best, values(Output::Best)),
        (LSEG_OVERLAY, Output::Overlay, results.overlay(0).unwrap().to_vec()),
    ] {
        let (found, shape) = given(&handle, &rgb, self::output(kind));
        assert_eq!(Some(shape), results.shape(output), "{kind:?}");
        assert!(found == expected, "{kind:?} is another than Rust's");
    }
    // SAFETY: the handle is open.
    assert_eq!(unsafe { lseg_set_threshold(handle.0, 0.6) }, LSEG_OK);
    let results = engine.run(&[frame], Wanted::MASK.threshold(Threshold::new(0.6).unwrap())).unwrap();
    assert!(given(&handle, &rgb, output(LSEG_MASK16)).0 == bytes(results.mask(0).unwrap()));
}

#[test]
fn embeddings_are_those_of_the_rust_library() {
    let (mut engine, handle) = both("64x64");
    let rgb = rgb();
    let frame = Image::rgb8(WIDTH, HEIGHT, &rgb);
    for (at, code) in [(MapSize::Half, 0), (MapSize::Full, 1), (MapSize::Photo, 2)] {
        for (layout, dtype, normalise) in
            [(Layout::Hwc, Dtype::F32, false), (Layout::Chw, Dtype::F16, true), (Layout::Chw, Dtype::F32, false)]
        {
            let results = engine
                .run(&[frame], Wanted::default().embedding(EmbeddingForm { at, dtype, layout, normalise }))
                .unwrap();
            let is_half = dtype == Dtype::F16;
            let expected = match is_half {
                true => bytes(results.halves(Output::Embedding, 0).unwrap()),
                false => bytes(results.values(Output::Embedding, 0).unwrap()),
            };
            let mut asked = output(if is_half { LSEG_EMBEDDING_F16 } else { LSEG_EMBEDDING_F32 });
            (asked.at, asked.layout, asked.normalise) = (code, i32::from(layout == Layout::Chw), i32::from(normalise));
            let (found, shape) = given(&handle, &rgb, asked);
            assert_eq!(Some(shape), results.shape(Output::Embedding), "{at:?}, {layout:?}, {dtype:?}");
            assert!(found == expected, "{at:?}, {layout:?}, {dtype:?}: another than Rust's");
        }
    }
    let points = [[0.0, 0.0], [30.5, 20.25]];
    let expected = engine.embed_at(&frame, &points).unwrap();
    let mut found = vec![0.0; expected.len()];
    let dimension = engine.config().embed_dim;
    // SAFETY: room for two vectors.
    let status = unsafe {
        lseg_embed_at(handle.0, &image(&rgb), points.as_ptr().cast(), expected.len() / dimension, found.as_mut_ptr())
    };
    assert_eq!((status, found), (LSEG_OK, expected));
}

/// Run by hand: `cargo test --release -p lseg-c overhead -- --ignored --nocapture`.
#[test]
#[ignore = "measures what a call costs, which a busy machine spoils: run by hand"]
fn overhead() {
    let model = CString::new(format!("{}/../../tests/golden/vit16/model.ckpt", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let handle = opened(Some(&model), "32x32");
    for (width, height, count) in [(WIDTH, HEIGHT, 6000), (640, 480, 600), (1920, 1080, 60)] {
        let rgb = rgb_of(width, height);
        let image = lseg_image { width: width as u32, height: height as u32, ..image(&rgb) };
        let mut mask = vec![0u8; width * height];
        let asked = lseg_output { data: mask.as_mut_ptr().cast(), bytes: mask.len(), ..output(LSEG_MASK8) };
        println!("photo of {width}x{height}, mask8:");
        triples(&handle, &image, &asked, Image::rgb8(width, height, &rgb), count);
        outside_the_pass(&handle, &image, &asked);
    }
}

/// Frames of one engine, two by Rust and one by C, in every order, so that all see the same machine: how far two of Rust's lie apart
/// says what a difference is worth.
fn triples(handle: &Handle, image: &lseg_image, asked: &lseg_output, frame: Image, count: usize) {
    const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [2, 0, 1], [1, 2, 0], [0, 2, 1], [1, 0, 2], [2, 1, 0]];
    let rust = || {
        let mut elapsed = 0.0;
        // SAFETY: the handle is open.
        let status = unsafe {
            with(handle.0, |open| {
                let start = Instant::now();
                open.engine.lane_mut().run_into(&[frame], Wanted::of(&[Output::Mask8]), &mut open.results)?;
                elapsed = start.elapsed().as_secs_f64();
                Ok(())
            })
        };
        assert_eq!(status, LSEG_OK);
        elapsed
    };
    let c = || {
        let start = Instant::now();
        // SAFETY: all of it is there.
        let status = unsafe { lseg_segment(handle.0, image, asked, 1) };
        let elapsed = start.elapsed().as_secs_f64();
        assert_eq!(status, LSEG_OK);
        elapsed
    };
    let triples: Vec<[f64; 3]> = (0..count)
        .map(|turn| {
            let mut times = [0.0; 3];
            for which in ORDERS[turn % ORDERS.len()] {
                times[which] = if which == 2 { c() } else { rust() };
            }
            times
        })
        .collect();
    let median = |of: &dyn Fn(&[f64; 3]) -> f64| {
        let mut times: Vec<f64> = triples.iter().map(of).collect();
        times.sort_by(f64::total_cmp);
        1e6 * times[times.len() / 2]
    };
    println!(
        "  Lane::run_into p50 {:.2} µs, lseg_segment p50 {:.2} µs",
        median(&|[one, _, _]| *one),
        median(&|[_, _, c]| *c)
    );
    println!(
        "  p50 of the differences: lseg_segment {:+.2} µs, Lane::run_into from itself {:+.2} µs",
        median(&|[one, other, c]| c - (one + other) / 2.0),
        median(&|[one, other, _]| other - one)
    );
}

/// All that lseg_segment does but the pass: the same calls, again and again, with the copy of the mask and without.
fn outside_the_pass(handle: &Handle, image: &lseg_image, asked: &lseg_output) {
    const CALLS: u32 = 2000;
    let each = |copies: bool| {
        let start = Instant::now();
        for _ in 0..CALLS {
            // SAFETY: all of it is there, and the results are of such a frame.
            let status = unsafe {
                with(handle.0, |open| {
                    let image = crate::image::image(black_box(image))?;
                    let outputs = Outputs::of(black_box(asked), 1)?;
                    let wanted = outputs.wanted(open.threshold, &open.colours)?;
                    let lane = open.engine.lane_mut();
                    for asked in outputs.iter() {
                        let size = (image.height(), image.width());
                        asked.check_room(lane.shape_of(asked.output(), &wanted, size)?)?;
                    }
                    black_box((image, wanted));
                    outputs.iter().filter(|_| copies).try_for_each(|asked| asked.copy(&open.results))
                })
            };
            assert_eq!(status, LSEG_OK);
        }
        1e6 * start.elapsed().as_secs_f64() / f64::from(CALLS)
    };
    let (bare, whole) = (each(false), each(true));
    println!("  outside the pass {bare:.3} µs a call, with the copy of {} bytes {whole:.3} µs", asked.bytes);
}
