//! Each wait between the engine's streams and another user's is needed: without it some order that CUDA allows gives other results.
//! And calls of the driver that fail between the two: nothing stays in flight, and later results are right.

#![allow(unsafe_code)]

use lseg_fast::device::cuda::{ContextKind, ContextOptions, Cuda, Place, Wait};
use lseg_fast::device::{Device, Elsewhere};
use lseg_fast::{Error, Format, Image, Result};

use testing::process::alone;

use super::caller::{Bytes, Caller};
use super::small::{Layers, Small, WIDTH, pattern};
use super::{failing, is_virtual, schedules};

const ROWS: usize = 20;
const SEEDS: usize = 6;
/// The legacy default stream.
const READER: u64 = 0;

/// A device in the primary context with a small pass, and two places for what it gives out.
struct Subject {
    cuda: Cuda,
    small: Small,
    places: [Place; 2],
}

fn bytes(seed: usize) -> Vec<u8> {
    bytemuck::pod_collect_to_vec(&pattern(ROWS * WIDTH, seed))
}

impl Subject {
    fn new(ordinal: usize) -> Result<Subject> {
        let options = ContextOptions { kind: ContextKind::Primary, ..ContextOptions::default() };
        let mut cuda = Cuda::open(ordinal, options)?;
        let layers = Layers::new(&mut cuda, 16);
        let small = layers.compile(&mut cuda, ROWS);
        let places = [cuda.place(small.program.plan())?, cuda.place(small.program.plan())?];
        Ok(Subject { cuda, small, places })
    }

    fn expected(&mut self) -> Vec<Vec<u32>> {
        (0..SEEDS).map(|seed| self.small.run(&mut self.cuda, seed).unwrap()).collect()
    }

    /// The input as an image in the caller's memory.
    fn image(&self, photo: &Bytes<'_>, stream: u64) -> Image<'static> {
        // SAFETY: memory and stream live longer.
        unsafe { Image::cuda(Format::Mono8, 4 * WIDTH, ROWS, &[(photo.address, 4 * WIDTH)], stream) }
    }

    fn submit(&mut self, slot: usize, image: Image<'_>, place: Option<usize>) -> Result<()> {
        let located = [self.cuda.locate(&image)?.expect("it is in CUDA memory")];
        let (images, place) = (Some((self.small.x, &located[..])), place.map(|place| &self.places[place]));
        self.cuda.submit(&mut self.small.program, slot, &Elsewhere { images, place, host: None })
    }

    fn out_bytes(&self) -> usize {
        4 * self.small.out.len()
    }

    /// Every input from a photo that is written late and taken back at once, every output to a kernel that reads it late, on another
    /// stream. `hastens`: the caller waits for both in between. Whether all is right.
    fn is_right(&mut self, caller: &Caller, expected: &[Vec<u32>], hastens: bool) -> Result<bool> {
        let (stream, out) = (caller.stream(), self.out_bytes());
        let sources: Vec<Bytes<'_>> = (0..SEEDS).map(|seed| caller.bytes(&bytes(seed))).collect();
        let photo = caller.bytes(&bytes(SEEDS));
        let mut taken = Vec::new();
        for (seed, source) in sources.iter().enumerate() {
            let slot = seed % 2;
            caller.copy(photo.address, source.address, photo.len, stream);
            let image = self.image(&photo, stream);
            self.submit(slot, image, Some(slot))?;
            caller.fill(photo.address, 0x3F, photo.len, stream);
            if hastens {
                caller.wait(stream);
            }
            let memory = caller.memory(out);
            self.places[slot].follow(READER)?;
            caller.copy(memory.address, self.places[slot].address(), out, READER);
            if hastens {
                caller.wait(READER);
            }
            self.places[slot].release();
            taken.push(memory);
            self.cuda.finish(slot)?;
        }
        let got = taken.iter().map(|memory| bytemuck::pod_collect_to_vec::<u8, u32>(&memory.read(READER)));
        Ok(got.eq(expected.iter().cloned()))
    }
}

/// In a process of its own, for what is read before anybody has written it ends the primary context.
#[test]
fn without_any_wait_for_the_caller_or_of_it_a_frame_is_wrong() {
    if is_virtual() {
        alone("host::interop_waits::without_any_wait_for_the_caller_or_of_it_a_frame_is_wrong", omit_each);
    }
}

fn omit_each() {
    for ordinal in schedules() {
        let caller = Caller::new(ordinal, true);
        let mut subject = Subject::new(ordinal).unwrap();
        let expected = subject.expected();
        for hastens in [false, true, false] {
            assert!(subject.is_right(&caller, &expected, hastens).unwrap(), "device {ordinal}, {hastens}");
        }
        for wait in [Wait::Written, Wait::Taken, Wait::Results, Wait::Readers] {
            subject.cuda.omit(Some(wait)).unwrap();
            let is_wrong = [false, true].into_iter().any(|hastens| {
                // Values of any bits: nothing here ends the context.
                !subject.is_right(&caller, &expected, hastens).unwrap()
            });
            assert!(is_wrong, "{wait:?} is missed by nobody on device {ordinal}");
            subject.cuda.omit(None).unwrap();
            assert!(subject.is_right(&caller, &expected, true).unwrap(), "{wait:?}, device {ordinal}");
        }
    }
}

/// Each call that the way between the two needs fails again and again. It costs that frame, or nothing; the driver's memory is what
/// it was when all is gone.
#[test]
fn calls_that_fail_between_two_users_cost_their_frame() {
    if !is_virtual() {
        return;
    }
    let test = "host::interop_waits::calls_that_fail_between_two_users_cost_their_frame";
    let functions = [
        ("cuPointerGetAttributes", 2u64, 701),
        ("cuStreamIsCapturing", 3, 701),
        ("cuEventRecord", 40, 701),
        ("cuStreamWaitEvent", 5, 701),
        ("cuMemcpyDtoDAsync_v2", 4, 701),
        ("cuGraphLaunch", 2, 701),
        ("cuEventSynchronize", 3, 701),
        ("cuCtxSynchronize", 1, 701),
        ("cuMemcpyDtoHAsync_v2", 9, 701),
    ];
    let orders = functions.map(|(function, from, code)| {
        let calls = std::iter::successors(Some(from), |call| Some(call + 5 + (call - from) / 4)).take(60);
        calls.map(|call| format!("{function}:{call}:{code}")).collect::<Vec<_>>().join(",")
    });
    failing(test, &orders.join(","), || {
        let caller = Caller::new(0, true);
        let mut subject = at_last(|| Subject::new(0));
        let expected: Vec<Vec<u32>> =
            (0..SEEDS).map(|seed| at_last(|| subject.small.run(&mut subject.cuda, seed))).collect();
        let (stream, out) = (caller.stream(), subject.out_bytes());
        let sources: Vec<Bytes<'_>> = (0..SEEDS).map(|seed| caller.bytes(&bytes(seed))).collect();
        let (photo, mut errors) = (caller.bytes(&bytes(SEEDS)), 0);
        for round in 0..120 {
            let (slot, seed) = (round % 2, round % SEEDS);
            caller.copy(photo.address, sources[seed].address, photo.len, stream);
            let image = subject.image(&photo, stream);
            let submitted = subject.submit(slot, image, Some(slot));
            // The memory is the caller's again, whether or not a frame came of it.
            caller.fill(photo.address, 0x3F, photo.len, stream);
            let mut failed = |error: Error| {
                assert!(matches!(error, Error::Device(_)), "{error}");
                errors += 1;
            };
            if let Err(error) = submitted {
                failed(error);
                continue;
            }
            let place = &subject.places[slot];
            let memory = caller.memory(out);
            match place.follow(stream) {
                Ok(()) => caller.copy(memory.address, place.address(), out, stream),
                Err(error) => {
                    failed(error);
                    caller.fill(memory.address, 0, out, stream);
                }
            }
            let mut read = vec![0u32; expected[seed].len()];
            match place.read(0, bytemuck::cast_slice_mut(&mut read)) {
                Ok(()) => assert_eq!(read, expected[seed], "round {round}"),
                Err(error) => failed(error),
            }
            place.release();
            if let Err(error) = subject.cuda.finish(slot) {
                failed(error);
            }
        }
        assert!(errors > 20, "{errors}");
        let ran: Vec<Vec<u32>> =
            (0..SEEDS).map(|seed| at_last(|| subject.small.run(&mut subject.cuda, seed))).collect();
        assert_eq!(ran, expected);
    });
}

/// Until it is no error.
#[track_caller]
fn at_last<T>(mut what: impl FnMut() -> Result<T>) -> T {
    (0..40).find_map(|_| what().ok()).expect("it fails again and again")
}

/// What still reads a place is waited for before its memory is another's.
#[test]
fn a_place_that_goes_waits_for_its_readers() {
    for ordinal in schedules() {
        let caller = Caller::new(ordinal, is_virtual());
        let mut subject = Subject::new(ordinal).unwrap();
        let expected = subject.expected();
        let (stream, out) = (caller.stream(), subject.out_bytes());
        let photo = caller.bytes(&bytes(1));
        for _ in 0..3 {
            let image = subject.image(&photo, stream);
            subject.submit(0, image, Some(0)).unwrap();
            let memory = caller.memory(out);
            subject.places[0].follow(stream).unwrap();
            caller.copy(memory.address, subject.places[0].address(), out, stream);
            subject.places[0].release();
            subject.places[0] = subject.cuda.place(subject.small.program.plan()).unwrap();
            subject.cuda.finish(0).unwrap();
            let got: Vec<u32> = bytemuck::pod_collect_to_vec(&memory.read(stream));
            assert_eq!(got, expected[1], "device {ordinal}");
        }
    }
}
