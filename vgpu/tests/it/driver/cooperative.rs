//! Cooperative launches: grids whose blocks all wait for each other, by the code that nvcc makes of cooperative_groups.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::sys;
use cudarc::driver::{CudaContext, CudaFunction, CudaStream, DevicePtr};
use cudarc::nvrtc::Ptx;

use super::extended::*;
use super::fixtures::*;
use crate::library::kernels_directory;

/// Five blocks of 64 threads and a part of a sixth.
const N: u32 = 5 * 64 + 7;
const ROUNDS: u32 = 3;

struct Ring {
    gpu: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    kernel: CudaFunction,
}

#[derive(Clone, Copy, PartialEq)]
enum Launch {
    Cooperative,
    Attribute,
    Plain,
}

impl Ring {
    fn new(name: &str) -> Option<Ring> {
        let ptx = kernels_directory()?.join("grid_sync.ptx");
        let gpu = context()?;
        gpu.bind_to_thread().expect("bound");
        let stream = gpu.new_stream().expect("a stream");
        let module = gpu.load_module(Ptx::from_file(ptx)).expect("loads");
        let kernel = module.load_function(name).expect("is there");
        Some(Ring { gpu, stream, kernel })
    }

    /// Queues the rounds on numbers at `ring`.
    fn launch(&self, mut ring: u64, blocks: u32, how: Launch) -> u32 {
        let (mut n, mut count) = (N, ROUNDS);
        let mut arguments: [*mut c_void; 3] = [(&raw mut ring).cast(), (&raw mut n).cast(), (&raw mut count).cast()];
        let attributes = [attribute(COOPERATIVE, &[(how == Launch::Attribute) as u32])];
        if how != Launch::Cooperative {
            let config = Config::new(&self.stream, [blocks, 1, 1], 64, 0, &attributes);
            return launch_with(&config, &self.kernel, &mut arguments);
        }
        let (function, stream) = (self.kernel.cu_function(), self.stream.cu_stream());
        // SAFETY: the arguments are the kernel's and live through the call.
        raw(unsafe {
            sys::cuLaunchCooperativeKernel(function, blocks, 1, 1, 64, 1, 1, 0, stream, arguments.as_mut_ptr())
        })
    }
}

/// After the rounds.
fn expected() -> Vec<u32> {
    (0..N).map(|own| (own + ROUNDS) % N + ROUNDS).collect()
}

const SCHEDULES: &[&[(&str, &str)]] =
    &[&[("VGPU_SCHED", "0")], &[("VGPU_SCHED", "1")], &[("VGPU_SCHED", "2")], &[("VGPU_SCHED", "7")]];

#[test]
fn all_blocks_of_a_grid_wait_for_each_other() {
    let test = "driver::cooperative::all_blocks_of_a_grid_wait_for_each_other";
    crate::children::in_children(test, SCHEDULES, || {
        let Some(ring) = Ring::new("rounds") else { return };
        let numbers: Vec<u32> = (0..N).collect();
        let memory = ring.stream.clone_htod(&numbers).expect("a copy");
        let address = memory.device_ptr(&ring.stream).0;
        for how in [Launch::Cooperative, Launch::Attribute] {
            let fresh = ring.stream.clone_htod(&numbers).expect("a copy");
            assert_eq!(ring.launch(fresh.device_ptr(&ring.stream).0, N.div_ceil(64), how), 0);
            assert_eq!(ring.stream.clone_dtoh(&fresh).expect("a copy"), expected());
        }
        // In a graph, twice.
        ring.stream.synchronize().expect("done");
        ring.stream.begin_capture(THREAD_LOCAL).expect("captures");
        assert_eq!(ring.launch(address, N.div_ceil(64), Launch::Cooperative), 0);
        let graph = ring.stream.end_capture(sys::CUgraphInstantiate_flags(0)).expect("ends").expect("a graph");
        graph.launch().expect("launches");
        graph.launch().expect("launches");
        let twice: Vec<u32> = (0..N).map(|own| (own + 2 * ROUNDS) % N + 2 * ROUNDS).collect();
        assert_eq!(ring.stream.clone_dtoh(&memory).expect("a copy"), twice);
    });
}

/// Which of the two depends on the schedule: blocks that wait in turn are ordered by whoever waited last.
#[test]
fn a_forgotten_wait_of_the_grid_is_a_race_or_gives_other_numbers() {
    let test = "driver::cooperative::a_forgotten_wait_of_the_grid_is_a_race_or_gives_other_numbers";
    crate::children::in_children(test, SCHEDULES, || {
        let Some(ring) = Ring::new("hasty_rounds") else { return };
        let memory = ring.stream.clone_htod(&(0..N).collect::<Vec<u32>>()).expect("a copy");
        assert_eq!(ring.launch(memory.device_ptr(&ring.stream).0, N.div_ceil(64), Launch::Cooperative), 0);
        match code(ring.gpu.synchronize()) {
            0 => assert_ne!(ring.stream.clone_dtoh(&memory).expect("a copy"), expected()),
            code => {
                assert_eq!(code, 719);
                assert!(text_of(b"vgpu_last_fault").contains("GlobalRace in hasty_rounds"));
            }
        }
    });
}

#[test]
fn a_grid_that_waits_must_be_launched_so_and_fit_the_device() {
    let test = "driver::cooperative::a_grid_that_waits_must_be_launched_so_and_fit_the_device";
    crate::children::in_child(test, &[], || {
        let Some(ring) = Ring::new("rounds") else { return };
        let memory = ring.stream.clone_htod(&(0..N).collect::<Vec<u32>>()).expect("a copy");
        let address = memory.device_ptr(&ring.stream).0;
        // RTX 4090: 128 multiprocessors with 24 blocks each.
        assert_eq!(ring.launch(address, 3073, Launch::Cooperative), 720);
        assert_eq!(ring.launch(address, 3073, Launch::Attribute), 720);
        ring.stream.synchronize().expect("alive");
        assert_eq!(ring.launch(address, N.div_ceil(64), Launch::Plain), 0);
        assert_eq!(code(ring.gpu.synchronize()), 719);
        assert!(text_of(b"vgpu_last_fault").contains("Trap in rounds"), "{}", text_of(b"vgpu_last_fault"));
    });
}
