//! A process forked from one that has an engine is told so, and never waits for what only its parent has.
//! Nothing may run beside a fork.
#![allow(unsafe_code)]
#![cfg(unix)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use lseg_fast::bench::matmul::Matmul;
use lseg_fast::device::cuda::Cuda;
use lseg_fast::{DeviceChoice, Engine, Error, Image, Options, Result, Size, Wanted};
use testing::gpu::found;
use testing::process::alone;

/// Seconds after which a child that waits is killed.
const PATIENCE: u32 = 60;

/// Does `work` in a child; whether it came to its end without a panic.
fn in_child(work: impl FnOnce()) -> bool {
    // SAFETY: the child uses what it has of its own, and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork");
    if child == 0 {
        // SAFETY: a number.
        unsafe { libc::alarm(PATIENCE) };
        let code = catch_unwind(AssertUnwindSafe(work)).is_err();
        // SAFETY: ends the child, whose parent's exit handlers are not its own.
        unsafe { libc::_exit(i32::from(code)) };
    }
    let mut status = 0;
    // SAFETY: our own child, and a valid place.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    status == 0
}

fn load(device: DeviceChoice) -> Result<Engine> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/vit16/model.ckpt");
    let mut engine = Engine::load(&model, &Options { device, threads: Some(2), ..Options::default() })?;
    engine.set_size(Size::Exact { height: 32, width: 32 });
    engine.set_labels(&["cat", "a wall"])?;
    Ok(engine)
}

fn is_told<T>(result: Result<T>) {
    let error = result.err().expect("an engine of another process");
    assert!(matches!(error, Error::Device(_)));
    let text = error.to_string();
    assert!(text.contains("made in another process") && text.contains("make a new one"), "{text}");
}

#[test]
fn an_engine_of_the_parent_is_an_error_in_the_child() {
    alone("fork::an_engine_of_the_parent_is_an_error_in_the_child", fork_beside_each_engine);
}

fn fork_beside_each_engine() {
    let rgb = [100; 32 * 32 * 3];
    let frame = Image::rgb8(32, 32, &rgb);
    let has_gpu = found(Cuda::new(0)).is_some();
    for device in [DeviceChoice::Cpu, DeviceChoice::Cuda(Some(0))].into_iter().take(1 + usize::from(has_gpu)) {
        let mut engine = load(device).unwrap();
        let mask = engine.segment(&frame).unwrap();
        let mut given = Some(engine);
        let told = in_child(|| {
            let mut engine = given.take().unwrap();
            is_told(engine.segment(&frame));
            is_told(engine.run(&[frame], Wanted::MASK));
            is_told(engine.scores(&frame));
            is_told(engine.embed(&frame));
            is_told(engine.frame_buffer(lseg_fast::Format::Rgb8, 32, 32));
            is_told(engine.lane_mut().inspect(&[frame], &["tokens"]));
            is_told(engine.set_labels(&["cat", "a wall"]));
            is_told(engine.set_labels(&["something new"]));
            is_told(Matmul::new(&mut engine).map(|_| ()));
            is_told(engine.clock_mhz());
            is_told(engine.lane_mut().submit(&frame, Wanted::MASK));
            is_told(engine.network().labels(&["cat"]));
            is_told(engine.network().lane());
            drop(engine);
            // One of its own works on the CPU, and on a GPU says why it cannot.
            let own = load(device).and_then(|mut engine| engine.segment(&frame));
            match device {
                DeviceChoice::Cpu => assert_eq!(own.unwrap(), mask),
                _ => assert!(own.unwrap_err().to_string().contains("spawn")),
            }
        });
        assert!(told, "{device:?}: the child failed, or waited for {PATIENCE} s");
        assert_eq!(given.take().unwrap().segment(&frame).unwrap(), mask, "the parent's is as it was");
    }
}
