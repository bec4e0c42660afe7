//! Nanoseconds a warp's access takes, checks and counts included: `cargo bench -p vgpu --bench memory`.

use std::hint::black_box;
use std::time::Instant;
use vgpu_cuda::counts::Counts;
use vgpu_cuda::ir::Order;
use vgpu_cuda::mem::{GlobalMemory, Request, SHARED_START, SharedMemory, Words};

const ALL: u32 = u32::MAX;
/// Warps of the block, which access in turn.
const WARPS: usize = 4;
const SHARED_BYTES: usize = 64 << 10;

fn lanes(f: impl Fn(u64) -> u64) -> [u64; 32] {
    std::array::from_fn(|lane| f(lane as u64))
}

/// Prints the best of several rounds; `f` gets a running number.
fn time(name: &str, mut f: impl FnMut(usize)) {
    const ROUND: usize = 100_000;
    let round = |f: &mut dyn FnMut(usize)| {
        let start = Instant::now();
        (0..ROUND).for_each(f);
        start.elapsed().as_nanos() as f64 / ROUND as f64
    };
    let best = (0..7).map(|_| round(&mut f)).fold(f64::INFINITY, f64::min);
    println!("{name:<44} {best:7.1} ns");
}

fn shared() -> SharedMemory {
    let mut shared = SharedMemory::new(SHARED_BYTES, WARPS, false);
    let mut counts = Counts::default();
    for first in (0..SHARED_BYTES as u64).step_by(512) {
        let a = lanes(|l| SHARED_START + first + 16 * l);
        let r = Request { addresses: &a, mask: ALL, bytes: 16 };
        shared.store(0, &r, Order::Weak, &Words::ZERO, &mut counts).expect("clean");
    }
    shared.barrier(0, u64::MAX);
    shared
}

/// Loads of a pattern, moved on by 2 KiB each time, with a barrier after every 64.
fn shared_loads(name: &str, bytes: usize, f: impl Fn(u64) -> u64) {
    let (mut shared, mut counts, mut into) = (shared(), Counts::default(), Words::ZERO);
    let patterns: Vec<_> = (0..24).map(|i| lanes(|l| SHARED_START + 2048 * i + f(l))).collect();
    time(name, |i| {
        let r = Request { addresses: &patterns[i % 24], mask: ALL, bytes };
        shared.load(i / 24 % WARPS, &r, Order::Weak, &mut into, &mut counts).expect("clean");
        if i % 64 == 63 {
            shared.barrier(0, u64::MAX);
        }
    });
    black_box((into, counts));
}

fn ldmatrix(transpose: bool) {
    let (mut shared, mut counts, mut into) = (shared(), Counts::default(), Words::ZERO);
    let swizzled = |l: u64| 128 * (l % 16) + 16 * ((l / 16) ^ (l % 8));
    let patterns: Vec<_> = (0..24).map(|i| lanes(|l| SHARED_START + 2048 * i + swizzled(l))).collect();
    time(if transpose { "ldmatrix.x4.trans" } else { "ldmatrix.x4" }, |i| {
        shared.ldmatrix(i / 24 % WARPS, &patterns[i % 24], 4, transpose, &mut into, &mut counts).expect("clean");
        if i % 64 == 63 {
            shared.barrier(0, u64::MAX);
        }
    });
    black_box((into, counts));
}

fn shared_stores(name: &str, bytes: usize, f: impl Fn(u64) -> u64) {
    let (mut shared, mut counts) = (shared(), Counts::default());
    let patterns: Vec<_> = (0..24).map(|i| lanes(|l| SHARED_START + 2048 * i + f(l))).collect();
    time(name, |i| {
        let r = Request { addresses: &patterns[i % 24], mask: ALL, bytes };
        shared.store(0, &r, Order::Weak, &Words::ZERO, &mut counts).expect("clean");
    });
    black_box(counts);
}

/// Issue, commit and wait, four a group, as in a pipeline of GEMM tiles: rows of 64 bytes of a matrix 2 KiB wide.
fn cp_async(early: bool) {
    let memory = GlobalMemory::new(1 << 30);
    let at = memory.alloc(8 << 20).expect("there is room");
    memory.fill(at, &[0], 8 << 20).expect("it is inside");
    let launch = memory.begin_launch(false);
    let blocks: Vec<_> = (0..64).map(|b| launch.block(b)).collect();
    let mut shared = SharedMemory::new(SHARED_BYTES, WARPS, early);
    let mut counts = Counts::default();
    let sizes = [16; 32];
    time(if early { "cp.async 16 bytes, early" } else { "cp.async 16 bytes, late" }, |i| {
        let global = &blocks[i / 100_000 % 64];
        let to = lanes(|l| SHARED_START + 512 * (i % 64) as u64 + 16 * l);
        let from = lanes(|l| at + 2048 * (l / 4 + 8 * (i % 500) as u64) + 16 * (l % 4));
        let to = Request { addresses: &to, mask: ALL, bytes: 16 };
        shared.cp_async(0, &to, &from, &sizes, global, &mut counts).expect("clean");
        if i % 4 == 3 {
            shared.commit(0, ALL);
            shared.wait(0, ALL, Some(1), global).expect("clean");
        }
    });
    black_box(counts);
}

fn global(name: &str, bytes: usize, store: bool, communicates: bool, f: impl Fn(u64) -> u64) {
    let memory = GlobalMemory::new(1 << 30);
    let at = memory.alloc(8 << 20).expect("there is room");
    memory.fill(at, &[0], 8 << 20).expect("it is inside");
    let launch = memory.begin_launch(communicates);
    let block = launch.block(0);
    let (mut counts, mut into) = (Counts::default(), Words::ZERO);
    time(name, |i| {
        let a = lanes(|l| at + 1024 * (i % 4096) as u64 + f(l));
        let r = Request { addresses: &a, mask: ALL, bytes };
        if store {
            block.store(&r, Order::Weak, &into, &mut counts).expect("clean");
        } else {
            block.load(&r, Order::Weak, &mut into, &mut counts).expect("clean");
        }
    });
    black_box((into, counts));
}

fn main() {
    shared_loads("shared load, 4 bytes, contiguous", 4, |l| 4 * l);
    shared_loads("shared load, 4 bytes, broadcast", 4, |_| 64);
    shared_loads("shared load, 4 bytes, a column of 33", 4, |l| 132 * l);
    shared_loads("shared load, 16 bytes, contiguous", 16, |l| 16 * l);
    shared_stores("shared store, 4 bytes, contiguous", 4, |l| 4 * l);
    shared_stores("shared store, 4 bytes, mma fragments", 4, |l| 144 * (l / 4) + 4 * (l % 4));
    shared_stores("shared store, 16 bytes, contiguous", 16, |l| 16 * l);
    ldmatrix(false);
    ldmatrix(true);
    cp_async(false);
    cp_async(true);
    global("global load, 4 bytes, contiguous", 4, false, false, |l| 4 * l);
    global("global load, 16 bytes, contiguous", 16, false, false, |l| 16 * l);
    global("global load, 4 bytes, stride 128", 4, false, false, |l| 128 * l);
    global("global store, 4 bytes, contiguous", 4, true, false, |l| 4 * l);
    global("global store, 2 bytes, contiguous", 2, true, false, |l| 2 * l);
    global("global store, 16 bytes, contiguous", 16, true, false, |l| 16 * l);
    global("global load, 16 bytes, communicating", 16, false, true, |l| 16 * l);
    global("global store, 4 bytes, communicating", 4, true, true, |l| 4 * l);
}
