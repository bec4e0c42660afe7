//! Global memory: from the host, and one launch's accesses to it.

use vgpu_cuda::counts::Counts;
use vgpu_cuda::fault::Check;
use vgpu_cuda::ir::{AtomOp, Order};
use vgpu_cuda::mem::{GlobalMemory, MemoryError, Request, Words};

use super::fixtures::*;

#[test]
fn allocations_are_apart_and_never_come_back() {
    let memory = GlobalMemory::new(1 << 20);
    let a = memory.alloc(100).unwrap();
    let b = memory.alloc(100).unwrap();
    assert_eq!(a % 256, 0);
    assert!(b >= a + 100 + 4096);
    assert_eq!(memory.find(a + 99), Some((a, 100)));
    assert_eq!(memory.find(a + 100), None);
    memory.free(a).unwrap();
    assert_eq!(memory.find(a), None);
    assert!(memory.alloc(100).unwrap() > b);
    assert_eq!(memory.free(a), Err(MemoryError::Freed { address: a }));
    assert_eq!(memory.free(b + 4), Err(MemoryError::Invalid { address: b + 4, bytes: 0 }));
}

#[test]
fn capacity_is_kept() {
    let memory = GlobalMemory::new(1 << 20);
    let a = memory.alloc(1 << 19).unwrap();
    assert_eq!(memory.info(), (1 << 19, 1 << 20));
    let refused = memory.alloc((1 << 19) + 1);
    assert_eq!(refused, Err(MemoryError::OutOfMemory { asked: (1 << 19) + 1, free: 1 << 19 }));
    memory.free(a).unwrap();
    assert!(memory.alloc(1 << 20).is_ok());
    assert!(memory.alloc(usize::MAX).is_err());
}

#[test]
fn host_bytes_at_any_place() {
    let (memory, at) = zeros(200);
    let bytes: Vec<u8> = (1..=77).collect();
    memory.write(at + 3, &bytes).unwrap();
    let mut back = [0xee; 79];
    assert_eq!(memory.read(at + 2, &mut back).unwrap(), 0);
    assert_eq!((back[0], &back[1..78], back[78]), (0, &bytes[..], 0));
    memory.fill(at + 6, &[1, 2], 3).unwrap();
    memory.read(at + 4, &mut back[..10]).unwrap();
    assert_eq!(back[..10], [2, 3, 1, 2, 1, 2, 1, 2, 10, 11]);
    // Overlapping copies arrive as they were.
    memory.copy(at + 4, at + 3, 77).unwrap();
    memory.read(at + 4, &mut back[..3]).unwrap();
    assert_eq!(back[..3], [1, 2, 3]);
    assert!(memory.write(at + 190, &[0; 11]).is_err());
    assert!(memory.read(at + 200, &mut [0]).is_err());
    assert!(memory.fill(at, &[0; 4], 51).is_err());
    assert!(memory.copy(at + 190, at, 11).is_err());
}

#[test]
fn uninitialised_bytes_are_known_to_the_host_and_to_copies() {
    let memory = GlobalMemory::new(1 << 20);
    let (a, b) = (memory.alloc(64).unwrap(), memory.alloc(64).unwrap());
    memory.write(a + 5, &[7; 20]).unwrap();
    let mut back = [0; 64];
    assert_eq!(memory.read(a, &mut back).unwrap(), 44);
    assert_eq!((back[4], back[5], back[24], back[25]), (0xcd, 7, 7, 0xcd));
    memory.write(b, &[1; 64]).unwrap();
    memory.copy(b + 8, a + 4, 30).unwrap();
    assert_eq!(memory.read(b, &mut back).unwrap(), 10);
    assert_eq!((back[7], back[8], back[9], back[28], back[29], back[38]), (1, 0xcd, 7, 7, 0xcd, 1));
}

#[test]
fn global_bounds_alignment_and_use_after_free() {
    let (memory, at) = zeros(128);
    let gone = memory.alloc(128).unwrap();
    memory.free(gone).unwrap();
    let launch = memory.begin_launch(false);
    let block = launch.block(0);
    assert!(load(&block, &lanes(|l| at + 4 * l), 4, ALL).is_ok());
    let bad = load(&block, &lanes(|l| at + 4 + 4 * l), 4, ALL).unwrap_err();
    assert_eq!((bad.check, bad.lanes, bad.address), (Check::OutOfBounds, 1 << 31, Some(at + 128)));
    assert!(load(&block, &lanes(|l| at + 4 + 4 * l), 4, ALL >> 1).is_ok());
    let bad = store(&block, &lanes(|l| at + 4 * l - 4), 4, ALL, &Words::ZERO).unwrap_err();
    assert_eq!((bad.check, bad.lanes), (Check::OutOfBounds, 1));
    let bad = load(&block, &lanes(|l| at + 2 * l), 4, 0b1111).unwrap_err();
    assert_eq!((bad.check, bad.lanes, bad.address), (Check::Misaligned, 0b1010, Some(at + 2)));
    let bad = load(&block, &lanes(|l| gone + 4 * l), 4, ALL).unwrap_err();
    assert_eq!((bad.check, bad.lanes), (Check::UseAfterFree, ALL));
    assert_eq!(check_of(load(&block, &[0; 32], 4, 1)), Check::OutOfBounds);
    assert_eq!(check_of(load(&block, &[u64::MAX - 3; 32], 4, 1)), Check::OutOfBounds);
    // Lanes that do not take part may point anywhere.
    assert!(load(&block, &lanes(|l| if l == 3 { at } else { 1 }), 4, 8).is_ok());
    assert!(load(&block, &[1; 32], 4, 0).is_ok());
}

#[test]
fn lanes_of_one_access_may_lie_in_different_allocations() {
    let memory = GlobalMemory::new(1 << 20);
    let (a, b) = (memory.alloc(64).unwrap(), memory.alloc(64).unwrap());
    memory.fill(a, &[1, 0, 0, 0], 16).unwrap();
    memory.fill(b, &[2, 0, 0, 0], 16).unwrap();
    let launch = memory.begin_launch(false);
    let got = load(&launch.block(0), &lanes(|l| if l % 2 == 0 { a + 2 * l } else { b + 2 * (l - 1) }), 4, ALL).unwrap();
    assert_eq!(got.bits[0], std::array::from_fn(|l| 1 + l as u32 % 2));
}

#[test]
fn uninitialised_global_bytes_travel_as_such() {
    let memory = GlobalMemory::new(1 << 20);
    let at = memory.alloc(64).unwrap();
    memory.write(at, &[1, 1]).unwrap();
    memory.write(at + 4, &[1; 8]).unwrap();
    let launch = memory.begin_launch(false);
    let block = launch.block(0);
    let a = lanes(|l| at + 4 * l);
    let mut got = load(&block, &a, 4, 0b1111).unwrap();
    assert_eq!(got.undef[0], 0b1000 | 0b1001 << 32);
    // Stored undefined, loaded undefined; stored defined, loaded defined.
    got.bits[0][1] = 9;
    got.undef[0] = 1 << 33;
    store(&block, &a, 4, 0b1010, &got).unwrap();
    let got = load(&block, &a, 4, 0b1111).unwrap();
    assert_eq!(got.undef[0], 1 << 32 | 1 << 33);
    // A value narrower than a word is undefined as a whole.
    let got = load(&block, &lanes(|l| at + 3 + l), 1, 0b11).unwrap();
    assert_eq!(got.undef[0], 0b1 | 0b1 << 32);
    assert_eq!(check_of(atomic(&launch.block(0), at + 32, AtomOp::Add, 1)), Check::Uninitialised);
    assert!(atomic(&launch.block(0), at + 32, AtomOp::Exch, 1).is_ok());
    assert_eq!(atomic(&launch.block(0), at + 32, AtomOp::Add, 1).unwrap(), 1);
}

#[test]
fn two_blocks_that_touch_the_same_bytes_race() {
    for (first_writes, second_writes) in [(true, true), (true, false), (false, true)] {
        let (memory, at) = zeros(256);
        let act = |block: u32, writes, a: &[u64; 32], bytes, launch: &vgpu_cuda::mem::LaunchMemory| {
            let block = launch.block(block);
            if writes { store(&block, a, bytes, ALL, &Words::ZERO) } else { load(&block, a, bytes, ALL).map(|_| ()) }
        };
        for bytes in [1usize, 2, 4] {
            let launch = memory.begin_launch(false);
            let a = lanes(|l| at + bytes as u64 * l);
            act(3, first_writes, &a, bytes, &launch).unwrap();
            let bad = act(5, second_writes, &a, bytes, &launch).unwrap_err();
            assert_eq!((bad.check, bad.address), (Check::GlobalRace, Some(at)));
            assert!(bad.detail.contains("block 3"), "{}", bad.detail);
            // The next launch begins anew, and a block does not race with itself.
            let launch = memory.begin_launch(false);
            act(5, second_writes, &a, bytes, &launch).unwrap();
            act(5, first_writes, &a, bytes, &launch).unwrap();
            // Different bytes of the same lines are nobody's race.
            let launch = memory.begin_launch(false);
            let n = bytes as u64;
            for b in 0..2 {
                let a = lanes(|l| at + n * (2 * l + b));
                act(b as u32, true, &a, bytes, &launch).unwrap();
                act(b as u32, false, &a, bytes, &launch).unwrap();
            }
        }
    }
}

#[test]
fn races_are_exact_to_the_byte() {
    let (memory, at) = zeros(64);
    let launch = memory.begin_launch(false);
    for block in 0..16 {
        store(&launch.block(block), &[at + u64::from(block); 32], 1, 1, &Words::ZERO).unwrap();
    }
    for block in 0..16 {
        load(&launch.block(block), &[at + u64::from(block); 32], 1, 1).unwrap();
    }
    let bad = load(&launch.block(7), &[at; 32], 16, 2).unwrap_err();
    assert_eq!((bad.check, bad.lanes, bad.address), (Check::GlobalRace, 2, Some(at)));
    // Many readers of a line, each its own part; then one of them writes its own, then another's.
    for i in 0..4 {
        load(&launch.block(i), &[at + 16 + 4 * u64::from(i); 32], 4, 1).unwrap();
    }
    store(&launch.block(2), &[at + 24; 32], 4, 1, &Words::ZERO).unwrap();
    assert_eq!(check_of(store(&launch.block(2), &[at + 28; 32], 4, 1, &Words::ZERO)), Check::GlobalRace);
    // Bytes that several blocks read, written by one of them.
    load(&launch.block(1), &[at + 32; 32], 8, 1).unwrap();
    load(&launch.block(2), &[at + 32; 32], 4, 1).unwrap();
    store(&launch.block(1), &[at + 36; 32], 4, 1, &Words::ZERO).unwrap();
    assert_eq!(check_of(store(&launch.block(1), &[at + 32; 32], 4, 1, &Words::ZERO)), Check::GlobalRace);
}

#[test]
fn tags_of_launches_begin_anew() {
    let (memory, at) = zeros(64);
    for i in 0..40_000u32 {
        let launch = memory.begin_launch(false);
        store(&launch.block(i), &[at; 32], 4, 1, &Words::ZERO).unwrap();
    }
}

#[test]
fn non_coherent_loads_of_what_the_launch_wrote() {
    for communicates in [false, true] {
        let (memory, at) = zeros(256);
        let launch = memory.begin_launch(communicates);
        let (a, b) = (lanes(|l| at + 4 * l), lanes(|l| at + 128 + 4 * l));
        store(&launch.block(0), &a, 4, ALL, &Words::ZERO).unwrap();
        assert!(load_as(&launch.block(0), &b, 4, ALL, Order::NonCoherent).is_ok());
        assert!(load(&launch.block(0), &a, 4, ALL).is_ok());
        assert_eq!(check_of(load_as(&launch.block(0), &a, 4, ALL, Order::NonCoherent)), Check::NonCoherentRead);
        assert_eq!(check_of(load_as(&launch.block(1), &a, 4, ALL, Order::NonCoherent)), Check::NonCoherentRead);
        let launch = memory.begin_launch(communicates);
        assert!(load_as(&launch.block(1), &a, 4, ALL, Order::NonCoherent).is_ok());
    }
}

#[test]
fn global_traffic_is_counted() {
    let (memory, at) = zeros(1 << 16);
    let count = |bytes: usize, mask: u32, f: &dyn Fn(u64) -> u64| {
        let launch = memory.begin_launch(false);
        let (addresses, mut counts) = (lanes(|l| at + f(l)), Counts::default());
        let r = Request { addresses: &addresses, mask, bytes };
        for _ in 0..2 {
            launch.block(0).load(&r, Order::Weak, &mut Words::ZERO.clone(), &mut counts).unwrap();
            launch.block(0).store(&r, Order::Weak, &Words::ZERO, &mut counts).unwrap();
        }
        let c = &counts;
        assert_eq!((c.global_load_requests, c.global_store_requests), (2, 2));
        assert_eq!(c.global_load_sectors, c.global_store_sectors);
        assert_eq!(c.unique_load_sectors, c.unique_store_sectors);
        assert_eq!(c.global_load_bytes, 2 * u64::from(mask.count_ones()) * bytes as u64);
        (c.global_load_sectors / 2, c.global_load_least_sectors / 2, c.unique_load_sectors)
    };
    assert_eq!(count(4, ALL, &|l| 4 * l), (4, 4, 4));
    assert_eq!(count(4, ALL, &|l| 16 + 4 * l), (5, 4, 5));
    assert_eq!(count(4, ALL, &|l| 8 * l), (8, 4, 8));
    assert_eq!(count(4, ALL, &|l| 4096 - 128 * l), (32, 4, 32));
    assert_eq!(count(4, ALL, &|_| 64), (1, 1, 1));
    assert_eq!(count(1, ALL, &|l| l + 7), (2, 1, 2));
    assert_eq!(count(2, ALL, &|l| 2 * l), (2, 2, 2));
    assert_eq!(count(8, ALL, &|l| 8 * l), (8, 8, 8));
    assert_eq!(count(16, ALL, &|l| 16 * l), (16, 16, 16));
    assert_eq!(count(16, ALL, &|l| 16 * (31 - l)), (16, 16, 16));
    assert_eq!(count(4, 0b101, &|l| 32 * l), (2, 1, 2));
}
