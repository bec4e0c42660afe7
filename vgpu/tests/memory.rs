//! The memory of the virtual GPU through its public functions: every check beside a clean twin, counts of known access
//! patterns, and agreement with a map of bytes under random accesses.

use std::collections::HashMap;
use vgpu_cuda::counts::Counts;
use vgpu_cuda::fault::{BadAccess, Check};
use vgpu_cuda::ir::{AtomOp, Order, Scope, Ty};
use vgpu_cuda::mem::{
    BlockMemory, GlobalMemory, LOCAL_START, LocalMemory, MemoryError, Request, SHARED_START, SharedMemory, Words,
};

const ALL: u32 = u32::MAX;
type Done = Result<(), BadAccess>;

fn lanes(f: impl Fn(u64) -> u64) -> [u64; 32] {
    std::array::from_fn(|lane| f(lane as u64))
}

fn words(f: impl Fn(usize, usize) -> u32) -> Words {
    let mut words = Words::ZERO;
    for (w, bits) in words.bits.iter_mut().enumerate() {
        for (lane, value) in bits.iter_mut().enumerate() {
            *value = f(w, lane);
        }
    }
    words
}

fn load(block: &BlockMemory<'_>, addresses: &[u64; 32], bytes: usize, mask: u32) -> Result<Words, BadAccess> {
    load_as(block, addresses, bytes, mask, Order::Weak)
}

fn load_as(
    b: &BlockMemory<'_>,
    addresses: &[u64; 32],
    bytes: usize,
    mask: u32,
    order: Order,
) -> Result<Words, BadAccess> {
    let mut into = Words::ZERO;
    b.load(&Request { addresses, mask, bytes }, order, &mut into, &mut Counts::default())?;
    Ok(into)
}

fn store(block: &BlockMemory<'_>, addresses: &[u64; 32], bytes: usize, mask: u32, from: &Words) -> Done {
    store_as(block, addresses, bytes, mask, from, Order::Weak)
}

fn store_as(b: &BlockMemory<'_>, addresses: &[u64; 32], bytes: usize, mask: u32, from: &Words, order: Order) -> Done {
    b.store(&Request { addresses, mask, bytes }, order, from, &mut Counts::default())
}

fn atomic(b: &BlockMemory<'_>, address: u64, op: AtomOp, value: u32) -> Result<u32, BadAccess> {
    let mut old = Words::ZERO;
    let addresses = [address; 32];
    let r = Request { addresses: &addresses, mask: 1, bytes: 4 };
    b.atomic(
        &r,
        Order::Relaxed(Scope::Gpu),
        op,
        Ty::U32,
        &words(|_, _| value),
        None,
        false,
        &mut old,
        &mut Counts::default(),
    )?;
    Ok(old.bits[0][0])
}

fn check_of<T>(result: Result<T, BadAccess>) -> Check {
    match result {
        Ok(_) => panic!("no report"),
        Err(bad) => bad.check,
    }
}

/// Memory with one allocation, all zeros.
fn zeros(bytes: usize) -> (GlobalMemory, u64) {
    let memory = GlobalMemory::new(1 << 30);
    let at = memory.alloc(bytes).unwrap();
    memory.fill(at, &[0], bytes).unwrap();
    (memory, at)
}

// Global memory from the host.

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

// Global memory from a kernel.

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

// Blocks that communicate.

/// Each block leaves a partial result; the last to take a ticket reads them all (NVIDIA's threadFenceReduction).
fn last_block_sums(fence: bool) -> Done {
    let (memory, at) = zeros(512);
    let counter = at + 256;
    let launch = memory.begin_launch(true);
    for b in 0..8 {
        let block = launch.block(b);
        store(&block, &[at + 4 * u64::from(b); 32], 4, 1, &words(|_, _| b))?;
        if fence {
            block.fence();
        }
        let ticket = atomic(&block, counter, AtomOp::Inc, 8)?;
        assert_eq!(ticket, b);
        if ticket == 7 {
            let got = load(&block, &lanes(|l| at + 4 * l), 4, 0xff)?;
            assert_eq!(got.bits[0][..8], [0, 1, 2, 3, 4, 5, 6, 7]);
            // The counter is reset for the next launch.
            store(&block, &[counter; 32], 4, 1, &Words::ZERO)?;
        }
    }
    Ok(())
}

#[test]
fn a_ticket_after_a_fence_orders_blocks() {
    last_block_sums(true).unwrap();
    assert_eq!(check_of(last_block_sums(false)), Check::GlobalRace);
}

/// Block 0 writes data, then a flag; block 1 reads the flag, then the data.
fn flag(release: Order, fence_before: bool, acquire: Order, fence_after: bool) -> Done {
    let (memory, at) = zeros(512);
    let launch = memory.begin_launch(true);
    let (first, second) = (launch.block(0), launch.block(1));
    let (data, flag) = (lanes(|l| at + 4 * l), [at + 256; 32]);
    load_as(&second, &flag, 4, 1, acquire)?;
    store(&first, &data, 4, ALL, &Words::ZERO)?;
    if fence_before {
        first.fence();
    }
    store_as(&first, &flag, 4, 1, &words(|_, _| 1), release)?;
    assert_eq!(load_as(&second, &flag, 4, 1, acquire)?.bits[0][0], 1);
    if fence_after {
        second.fence();
    }
    load(&second, &data, 4, ALL)?;
    store(&second, &data, 4, ALL, &Words::ZERO)
}

#[test]
fn flags_order_blocks_when_released_and_acquired() {
    use Order::{Acquire, Relaxed, Release, Weak};
    use Scope::{Cta, Gpu, Sys};
    flag(Release(Gpu), false, Acquire(Gpu), false).unwrap();
    flag(Release(Sys), false, Acquire(Gpu), false).unwrap();
    flag(Relaxed(Gpu), true, Relaxed(Sys), true).unwrap();
    for (release, fence_before, acquire, fence_after) in [
        (Relaxed(Gpu), false, Relaxed(Gpu), true),
        (Relaxed(Gpu), true, Relaxed(Gpu), false),
        (Weak, true, Weak, true),
        // What is said to one's own block means nothing to another.
        (Release(Cta), false, Acquire(Gpu), false),
        (Release(Gpu), false, Acquire(Cta), false),
        (Relaxed(Cta), true, Relaxed(Cta), true),
    ] {
        let found = flag(release, fence_before, acquire, fence_after);
        assert_eq!(check_of(found), Check::GlobalRace, "{release:?} {fence_before} {acquire:?} {fence_after}");
    }
}

#[test]
fn atomics_of_block_scope_race_with_other_blocks() {
    for communicates in [false, true] {
        let (memory, at) = zeros(64);
        let launch = memory.begin_launch(communicates);
        let add = |block: u32, scope: Scope| {
            let (addresses, one, mut old) = ([at; 32], words(|_, _| 1), Words::ZERO);
            let r = Request { addresses: &addresses, mask: 1, bytes: 4 };
            let (block, order) = (launch.block(block), Order::Relaxed(scope));
            block.atomic(&r, order, AtomOp::Add, Ty::U32, &one, None, false, &mut old, &mut Counts::default())
        };
        add(0, Scope::Cta).unwrap();
        add(0, Scope::Cta).unwrap();
        assert_eq!(check_of(add(1, Scope::Cta)), Check::GlobalRace);
        assert_eq!(check_of(add(1, Scope::Gpu)), Check::GlobalRace);
    }
}

#[test]
fn what_a_block_read_on_both_sides_of_a_fence_is_its_own() {
    let (memory, at) = zeros(512);
    let launch = memory.begin_launch(true);
    let tile = lanes(|l| at + 4 * l);
    let block = launch.block(0);
    load(&block, &tile, 4, ALL).unwrap();
    block.fence();
    load(&block, &tile, 4, ALL).unwrap();
    store(&block, &tile, 4, ALL, &Words::ZERO).unwrap();
    // Another that read it too was not asked.
    let launch = memory.begin_launch(true);
    load(&launch.block(0), &tile, 4, ALL).unwrap();
    load(&launch.block(1), &tile, 4, ALL).unwrap();
    launch.block(0).fence();
    assert_eq!(check_of(store(&launch.block(0), &tile, 4, ALL, &Words::ZERO)), Check::GlobalRace);
}

#[test]
fn a_semaphore_passes_a_tile_from_block_to_block() {
    let run = |fence: bool| -> Done {
        let (memory, at) = zeros(512);
        let launch = memory.begin_launch(true);
        let tile = lanes(|l| at + 8 * l);
        for b in 0..5 {
            let block = launch.block(b);
            assert_eq!(load_as(&block, &[at + 300; 32], 4, 1, Order::Acquire(Scope::Gpu))?.bits[0][0], b);
            let mut sum = load(&block, &tile, 8, ALL)?;
            sum.bits[0].iter_mut().for_each(|x| *x += b);
            store(&block, &tile, 8, ALL, &sum)?;
            if fence {
                block.fence();
            }
            store_as(&block, &[at + 300; 32], 4, 1, &words(|_, _| b + 1), Order::Relaxed(Scope::Gpu))?;
        }
        Ok(())
    };
    run(true).unwrap();
    assert_eq!(check_of(run(false)), Check::GlobalRace);
}

#[test]
fn atomics_race_with_plain_accesses_only() {
    let (memory, at) = zeros(64);
    let launch = memory.begin_launch(true);
    for b in 0..10 {
        atomic(&launch.block(b), at, AtomOp::Add, 1).unwrap();
        load_as(&launch.block(b), &[at; 32], 4, 1, Order::Relaxed(Scope::Gpu)).unwrap();
    }
    load(&launch.block(3), &[at + 4; 32], 4, 1).unwrap();
    assert_eq!(check_of(load(&launch.block(3), &[at; 32], 4, 1)), Check::GlobalRace);
    let launch = memory.begin_launch(true);
    store(&launch.block(0), &[at; 32], 4, 1, &Words::ZERO).unwrap();
    assert_eq!(check_of(atomic(&launch.block(1), at, AtomOp::Add, 1)), Check::GlobalRace);
}

#[test]
fn atomic_operations() {
    let (memory, at) = zeros(64);
    let run = |op, ty: Ty, start: u64, b: u64, c: u64| {
        memory.write(at, &start.to_le_bytes()).unwrap();
        let launch = memory.begin_launch(true);
        let both = |v: u64| words(|w, _| if w == 0 { v as u32 } else { (v >> 32) as u32 });
        let (addresses, mut old) = ([at; 32], Words::ZERO);
        let r = Request { addresses: &addresses, mask: 2, bytes: ty.bytes() };
        let block = launch.block(0);
        block
            .atomic(
                &r,
                Order::Relaxed(Scope::Gpu),
                op,
                ty,
                &both(b),
                Some(&both(c)),
                false,
                &mut old,
                &mut Counts::default(),
            )
            .unwrap();
        assert_eq!(old.bits[0][1], start as u32 & u32::MAX >> (32 - 8 * ty.bytes().min(4)));
        let mut after = [0; 8];
        memory.read(at, &mut after).unwrap();
        u64::from_le_bytes(after)
    };
    let f = |x: f32| u64::from(x.to_bits());
    assert_eq!(run(AtomOp::Add, Ty::U32, 0xffff_ffff, 2, 0), 1);
    assert_eq!(run(AtomOp::Add, Ty::U64, 0xffff_ffff, 2, 0), 0x1_0000_0001);
    assert_eq!(run(AtomOp::Add, Ty::F32, f(1.5), f(2.0), 0), f(3.5));
    assert_eq!(run(AtomOp::Add, Ty::F32, f(0.0), 1, 0), 0, "subnormals are flushed in global memory");
    assert_eq!(run(AtomOp::Add, Ty::F64, 1.5f64.to_bits(), 2f64.to_bits(), 0), 3.5f64.to_bits());
    assert_eq!(run(AtomOp::Add, Ty::F16x2, 0x3c00_4000, 0x3c00_3c00, 0), 0x4000_4200);
    assert_eq!(run(AtomOp::Add, Ty::Bf16x2, 0x3f80_4000, 0x3f80_3f80, 0), 0x4000_4040);
    assert_eq!(run(AtomOp::Max, Ty::S32, 0xffff_ffff, 3, 0), 3);
    assert_eq!(run(AtomOp::Max, Ty::U32, 0xffff_ffff, 3, 0), 0xffff_ffff);
    assert_eq!(run(AtomOp::Min, Ty::S32, 0xffff_ffff, 3, 0), 0xffff_ffff);
    assert_eq!(run(AtomOp::Min, Ty::S64, u64::MAX, 3, 0), u64::MAX);
    assert_eq!((run(AtomOp::Inc, Ty::U32, 4, 4, 0), run(AtomOp::Inc, Ty::U32, 3, 4, 0)), (0, 4));
    assert_eq!((run(AtomOp::Dec, Ty::U32, 0, 4, 0), run(AtomOp::Dec, Ty::U32, 9, 4, 0)), (4, 4));
    assert_eq!((run(AtomOp::Cas, Ty::U32, 4, 4, 7), run(AtomOp::Cas, Ty::U32, 5, 4, 7)), (7, 5));
    assert_eq!(run(AtomOp::Cas, Ty::U16, 0x9_0004, 4, 7), 0x9_0007);
    assert_eq!(run(AtomOp::And, Ty::U32, 6, 3, 0), 2);
    assert_eq!(run(AtomOp::Or, Ty::U32, 6, 3, 0), 7);
    assert_eq!(run(AtomOp::Xor, Ty::U32, 6, 3, 0), 5);
    assert_eq!(run(AtomOp::Exch, Ty::U32, 6, 3, 0), 3);
}

#[test]
fn lanes_of_an_atomic_go_in_order_or_in_reverse() {
    for (reverse, expected) in [(false, [0u32, 1, 2, 3]), (true, [3, 2, 1, 0])] {
        let (memory, at) = zeros(64);
        let launch = memory.begin_launch(true);
        let (addresses, mut old) = ([at; 32], Words::ZERO);
        let r = Request { addresses: &addresses, mask: 0b1111, bytes: 4 };
        let one = words(|_, _| 1);
        let block = launch.block(0);
        block
            .atomic(
                &r,
                Order::Relaxed(Scope::Gpu),
                AtomOp::Add,
                Ty::U32,
                &one,
                None,
                reverse,
                &mut old,
                &mut Counts::default(),
            )
            .unwrap();
        assert_eq!(old.bits[0][..4], expected);
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

// Shared memory.

struct Shared {
    memory: SharedMemory,
    counts: Counts,
}

impl Shared {
    fn new(bytes: usize, warps: usize) -> Shared {
        Shared { memory: SharedMemory::new(bytes, warps, false), counts: Counts::default() }
    }

    fn load(&mut self, warp: usize, bytes: usize, mask: u32, f: impl Fn(u64) -> u64) -> Result<Words, BadAccess> {
        let (addresses, mut into) = (lanes(|l| SHARED_START.wrapping_add(f(l))), Words::ZERO);
        let r = Request { addresses: &addresses, mask, bytes };
        self.memory.load(warp, &r, Order::Weak, &mut into, &mut self.counts)?;
        Ok(into)
    }

    fn store(&mut self, warp: usize, bytes: usize, mask: u32, f: impl Fn(u64) -> u64, from: &Words) -> Done {
        let addresses = lanes(|l| SHARED_START + f(l));
        self.memory.store(warp, &Request { addresses: &addresses, mask, bytes }, Order::Weak, from, &mut self.counts)
    }

    fn atomic(&mut self, warp: usize, at: u64) -> Result<u32, BadAccess> {
        let (addresses, mut old) = ([SHARED_START + at; 32], Words::ZERO);
        let r = Request { addresses: &addresses, mask: 1, bytes: 4 };
        let one = words(|_, _| 1);
        self.memory.atomic(warp, &r, AtomOp::Add, Ty::U32, &one, None, false, &mut old, &mut self.counts)?;
        Ok(old.bits[0][0])
    }

    /// Defines all bytes (value of a word: its number) and orders that before everything.
    fn filled(bytes: usize, warps: usize) -> Shared {
        let mut shared = Shared::new(bytes, warps);
        for first in (0..bytes as u64).step_by(128) {
            let mask = ALL >> (32 - (bytes as u64 - first).min(128) / 4);
            shared.store(0, 4, mask, |l| first + 4 * l, &words(|_, l| first as u32 / 4 + l as u32)).unwrap();
        }
        shared.sync();
        shared
    }

    fn sync(&mut self) {
        self.memory.barrier(0, u64::MAX);
    }

    fn sync_warp(&mut self, warp: usize) {
        self.memory.warp_barrier(warp, ALL, true);
    }

    fn ldmatrix(
        &mut self,
        warp: usize,
        count: usize,
        transpose: bool,
        f: impl Fn(u64) -> u64,
    ) -> Result<Words, BadAccess> {
        let mut into = Words::ZERO;
        let addresses = lanes(|l| SHARED_START + f(l));
        self.memory.ldmatrix(warp, &addresses, count, transpose, &mut into, &mut self.counts)?;
        Ok(into)
    }
}

#[test]
fn shared_bounds_and_alignment() {
    let mut s = Shared::filled(256, 1);
    assert_eq!(s.load(0, 4, ALL, |l| 128 + 4 * l).unwrap().bits[0][31], 63);
    let bad = s.load(0, 4, ALL, |l| 132 + 4 * l).unwrap_err();
    assert_eq!((bad.check, bad.lanes, bad.address), (Check::OutOfBounds, 1 << 31, Some(SHARED_START + 256)));
    assert_eq!(check_of(s.load(0, 4, 1, |_| 0u64.wrapping_sub(4))), Check::OutOfBounds);
    assert_eq!(check_of(s.load(0, 8, 1, |_| 4)), Check::Misaligned);
    assert_eq!(check_of(s.ldmatrix(0, 1, false, |l| 240 + 16 * l)), Check::OutOfBounds);
    assert_eq!(check_of(s.ldmatrix(0, 1, false, |l| 8 + 16 * l)), Check::Misaligned);
    // Lanes 8 to 31 hold no row.
    assert!(s.ldmatrix(0, 1, false, |l| if l < 8 { 16 * l } else { 3 }).is_ok());
}

#[test]
fn uninitialised_shared_bytes() {
    let mut s = Shared::new(64, 1);
    assert_eq!(s.load(0, 4, 1, |_| 0).unwrap().undef[0], 1 | 1 << 32);
    s.store(0, 2, 1, |_| 2, &words(|_, _| 5)).unwrap();
    let got = s.load(0, 4, 1, |_| 0).unwrap();
    assert_eq!((got.undef[0], got.bits[0][0] >> 16), (1, 5));
    s.memory.reset();
    assert_eq!(s.load(0, 2, 1, |_| 2).unwrap().undef[0], 1 | 1 << 32);
}

#[test]
fn warps_race_without_a_barrier() {
    let zero = Words::ZERO;
    for partial in [false, true] {
        let mask = if partial { 0b1 } else { ALL };
        for (first, second) in [(true, true), (true, false), (false, true)] {
            let mut s = Shared::filled(256, 4);
            let act = |s: &mut Shared, warp, writes| {
                if writes {
                    s.store(warp, 4, mask, |l| 4 * l, &zero)
                } else {
                    s.load(warp, 4, mask, |l| 4 * l).map(|_| ())
                }
            };
            act(&mut s, 1, first).unwrap();
            act(&mut s, 1, second).unwrap();
            let bad = act(&mut s, 2, second).unwrap_err();
            assert_eq!((bad.check, bad.address, bad.lanes & 1), (Check::SharedRace, Some(SHARED_START), 1));
            assert!(bad.detail.contains("warp 1"), "{}", bad.detail);
            let mut s = Shared::filled(256, 4);
            act(&mut s, 1, first).unwrap();
            s.sync();
            act(&mut s, 2, second).unwrap();
        }
    }
}

#[test]
fn shared_races_are_exact_to_the_byte() {
    let mut s = Shared::filled(256, 16);
    for round in 0..3 {
        for warp in 0..16 {
            s.store(warp, 1, 1, |_| warp as u64, &words(|_, _| warp as u32)).unwrap();
            s.load(warp, 1, 1, |_| warp as u64).unwrap();
        }
        if round == 1 {
            s.sync();
        }
    }
    assert_eq!(check_of(s.load(3, 1, 1, |_| 4)), Check::SharedRace);
    s.sync();
    for warp in 0..16 {
        assert_eq!(s.load(warp, 16, 1, |_| 0).unwrap().bits[3][0], 0x0f0e0d0c);
    }
    assert_eq!(check_of(s.store(3, 1, 1, |_| 4, &Words::ZERO)), Check::SharedRace);
}

#[test]
fn a_transposed_tile_is_clean_with_its_barrier() {
    let transposed = |barrier: bool| -> Done {
        let mut s = Shared::new(32 * 33 * 4, 8);
        for row in 0..32u64 {
            s.store(row as usize / 4, 4, ALL, |l| 4 * (33 * row + l), &words(|_, l| (100 * row) as u32 + l as u32))?;
        }
        if barrier {
            s.sync();
        }
        for column in 0..32u64 {
            let got = s.load(column as usize / 4, 4, ALL, |l| 4 * (33 * l + column))?;
            assert_eq!(got.bits[0][7], 700 + column as u32);
        }
        Ok(())
    };
    transposed(true).unwrap();
    assert_eq!(check_of(transposed(false)), Check::SharedRace);
}

#[test]
fn a_named_barrier_orders_its_participants_only() {
    for bytes in [4usize, 16] {
        let run = |reader: usize, arrive: bool| -> Done {
            let mut s = Shared::filled(1024, 4);
            let at = |l: u64| bytes as u64 * l;
            s.store(0, bytes, ALL, at, &Words::ZERO)?;
            // Warp 0 signals or waits; warp 1 waits.
            if arrive {
                s.memory.barrier(0b01, 0b10)
            } else {
                s.memory.barrier(0, 0b11)
            }
            s.load(reader, bytes, ALL, at)?;
            if reader == 1 {
                // Back: without a second barrier the buffer must not be written again.
                s.memory.barrier(0b10, 0b01);
                s.store(0, bytes, ALL, at, &Words::ZERO)?;
            }
            Ok(())
        };
        run(1, false).unwrap();
        run(1, true).unwrap();
        assert_eq!(check_of(run(2, false)), Check::SharedRace);
        // A chain: 0 → 1 → 2.
        let mut s = Shared::filled(1024, 4);
        s.store(0, bytes, ALL, |l| bytes as u64 * l, &Words::ZERO).unwrap();
        s.memory.barrier(0, 0b011);
        s.memory.barrier(0, 0b110);
        s.load(2, bytes, ALL, |l| bytes as u64 * l).unwrap();
        assert_eq!(check_of(s.load(3, bytes, ALL, |l| bytes as u64 * l)), Check::SharedRace);
        // One that only signals learns nothing.
        let mut s = Shared::filled(1024, 4);
        s.store(1, bytes, ALL, |l| bytes as u64 * l, &Words::ZERO).unwrap();
        s.memory.barrier(0b01, 0b10);
        assert_eq!(check_of(s.load(0, bytes, ALL, |l| bytes as u64 * l)), Check::SharedRace);
        // Read on both sides of a barrier of others, then written by one who knows only of the first.
        let mut s = Shared::filled(1024, 4);
        let at = |l: u64| bytes as u64 * l;
        s.load(0, bytes, ALL, at).unwrap();
        s.memory.barrier(0, 0b11);
        s.load(0, bytes, ALL, at).unwrap();
        assert_eq!(check_of(s.store(1, bytes, ALL, at, &Words::ZERO)), Check::SharedRace);
    }
}

#[test]
fn a_barrier_does_not_wait_for_ended_warps() {
    let mut s = Shared::filled(256, 3);
    s.store(2, 4, ALL, |l| 4 * l, &Words::ZERO).unwrap();
    s.memory.exit(2, ALL).unwrap();
    s.memory.barrier(0, 0b011);
    s.load(0, 4, ALL, |l| 4 * l).unwrap();
    s.memory.reset();
    s.store(2, 4, ALL, |l| 4 * l, &Words::ZERO).unwrap();
    s.memory.barrier(0, 0b011);
    assert_eq!(check_of(s.load(0, 4, ALL, |l| 4 * l)), Check::SharedRace);
}

#[test]
fn lanes_of_one_store() {
    let mut s = Shared::filled(256, 1);
    s.store(0, 4, ALL, |_| 16, &words(|_, _| 7)).unwrap();
    s.sync();
    let bad = s.store(0, 4, ALL, |l| 4 * (l % 31), &words(|_, l| l as u32)).unwrap_err();
    assert_eq!((bad.check, bad.lanes, bad.address), (Check::SharedRace, 1 | 1 << 31, Some(SHARED_START)));
    s.sync();
    let bad = s.store(0, 16, 0b11, |_| 32, &words(|w, l| if w == 3 { l as u32 } else { 0 })).unwrap_err();
    assert_eq!(bad.check, Check::SharedRace);
    s.sync();
    s.store(0, 1, ALL, |l| l, &words(|_, l| l as u32)).unwrap();
}

#[test]
fn shared_atomics() {
    let mut s = Shared::filled(256, 4);
    for warp in 0..4 {
        assert_eq!(s.atomic(warp, 0).unwrap(), warp as u32);
    }
    assert_eq!(check_of(s.load(0, 4, 1, |_| 0)), Check::SharedRace);
    s.sync();
    assert_eq!(s.load(0, 4, 1, |_| 0).unwrap().bits[0][0], 4);
    assert_eq!(check_of(s.atomic(1, 0)), Check::SharedRace);
    assert_eq!(check_of(Shared::new(64, 1).atomic(0, 0)), Check::Uninitialised);
}

#[test]
fn the_last_warp_by_a_shared_ticket() {
    let run = |fence: bool| -> Done {
        let mut s = Shared::filled(256, 4);
        for warp in 0..4 {
            s.store(warp, 4, 1, |_| 64 + 4 * warp as u64, &words(|_, _| warp as u32))?;
            if fence {
                s.memory.fence(warp);
            }
            if s.atomic(warp, 0)? == 3 {
                assert_eq!(s.load(warp, 4, 0b1111, |l| 64 + 4 * l)?.bits[0][..4], [0, 1, 2, 3]);
                s.store(warp, 4, 1, |_| 0, &Words::ZERO)?;
            }
        }
        Ok(())
    };
    run(true).unwrap();
    assert_eq!(check_of(run(false)), Check::SharedRace);
}

/// What lanes of a warp do to one byte without a barrier of the warp between, and with one.
#[test]
fn lanes_need_a_barrier_of_their_warp() {
    type Act = fn(&mut Shared, u64) -> Done;
    let load: Act = |s, lane| s.load(0, 4, 1 << lane, |_| 16).map(drop);
    let store: Act = |s, lane| s.store(0, 4, 1 << lane, |_| 16, &words(|_, _| 9));
    let atomic: Act = |s, _| s.atomic(0, 16).map(drop);
    for (first, second, races) in
        [(load, load, false), (load, store, true), (store, load, true), (store, store, true), (atomic, load, true)]
    {
        let run = |between: fn(&mut Shared), lane: u64| {
            let mut s = Shared::filled(256, 2);
            first(&mut s, 0)?;
            between(&mut s);
            second(&mut s, lane)
        };
        let check = |found: Done| found.err().map(|bad| (bad.check, bad.lanes, bad.address));
        let expected = races.then_some((Check::SharedRace, 1 << 5, Some(SHARED_START + 16)));
        assert_eq!(check(run(|_| (), 5)), expected);
        // One's own bytes are in order.
        assert_eq!(check(run(|_| (), 0)), None);
        assert_eq!(check(run(|s| s.sync_warp(0), 5)), None);
        assert_eq!(check(run(|s| s.memory.warp_barrier(0, 1 << 5 | 1, false), 5)), None);
        assert_eq!(check(run(|s| s.memory.fence(0), 5)), None);
        // Barriers of other lanes, of another warp: no order.
        assert_eq!(check(run(|s| s.memory.warp_barrier(0, 1 << 5 | 2, false), 5)), expected);
        assert_eq!(check(run(|s| s.sync_warp(1), 5)), expected);
    }
}

#[test]
fn bank_conflicts_of_known_patterns() {
    let passes = |bytes: usize, mask: u32, f: &dyn Fn(u64) -> u64| {
        let mut s = Shared::filled(8192, 1);
        s.counts = Counts::default();
        s.load(0, bytes, mask, f).unwrap();
        let loaded = (s.counts.shared_wavefronts, s.counts.shared_conflicts);
        s.counts = Counts::default();
        s.sync();
        s.store(0, bytes, mask, f, &Words::ZERO).unwrap();
        assert_eq!((s.counts.shared_wavefronts, s.counts.shared_conflicts), loaded);
        assert_eq!(s.counts.shared_requests, 1);
        loaded
    };
    for (stride, expected) in [(1, 1), (2, 2), (4, 4), (8, 8), (16, 16), (32, 32), (33, 1), (3, 1), (0, 1)] {
        assert_eq!(passes(4, ALL, &|l| 4 * stride * l), (expected, expected - 1), "stride {stride}");
    }
    assert_eq!(passes(4, 0xffff, &|l| 8 * l), (1, 0));
    assert_eq!(passes(1, ALL, &|l| l), (1, 0));
    assert_eq!(passes(2, ALL, &|l| 2 * l), (1, 0));
    assert_eq!(passes(2, ALL, &|l| 4 * l), (1, 0));
    assert_eq!(passes(8, ALL, &|l| 8 * l), (2, 0));
    assert_eq!(passes(8, ALL, &|_| 8), (1, 0));
    assert_eq!(passes(8, ALL, &|l| 16 * l), (4, 2));
    assert_eq!(passes(8, 0xffff, &|l| 8 * l), (1, 0));
    assert_eq!(passes(16, ALL, &|l| 16 * l), (4, 0));
    assert_eq!(passes(16, ALL, &|_| 16), (1, 0));
    assert_eq!(passes(16, ALL, &|l| 128 * l), (32, 28));
    assert_eq!(passes(16, ALL, &|l| 144 * l), (4, 0));
    assert_eq!(passes(16, 0xff, &|l| 16 * l), (1, 0));
}

#[test]
fn bank_conflicts_of_ldmatrix() {
    let passes = |f: &dyn Fn(u64) -> u64| {
        let mut s = Shared::filled(8192, 1);
        s.counts = Counts::default();
        s.ldmatrix(0, 4, false, f).unwrap();
        (s.counts.shared_wavefronts, s.counts.shared_conflicts)
    };
    // Rows of 128 bytes: without a swizzle all rows of a matrix share their banks; with one, none do.
    assert_eq!(passes(&|l| 128 * (l % 16) + 16 * (l / 16)), (32, 28));
    assert_eq!(passes(&|l| 128 * (l % 16) + 16 * ((l / 16) ^ (l % 8))), (4, 0));
    // Rows of 64 bytes: two fit side by side.
    assert_eq!(passes(&|l| 64 * (l % 16) + 16 * (l / 16)), (16, 12));
    assert_eq!(passes(&|l| 64 * (l % 16) + 16 * ((l / 16) ^ (l / 2 % 4))), (4, 0));
    // Padded rows.
    assert_eq!(passes(&|l| 144 * (l % 16) + 16 * (l / 16)), (4, 0));
}

#[test]
fn matrix_fragments() {
    let mut s = Shared::new(1024, 1);
    // Element (r, c) of matrix m is 64m + 8r + c.
    let at = |l: u64| 16 * (l ^ 1);
    let row = words(|w, l| (8 * l + 2 * w) as u32 | ((8 * l + 2 * w + 1) as u32 * 65536));
    s.store(0, 16, ALL, at, &row).unwrap();
    s.sync_warp(0);
    let plain = s.ldmatrix(0, 4, false, at).unwrap();
    let turned = s.ldmatrix(0, 4, true, at).unwrap();
    for m in 0..4 {
        for l in 0..32 {
            let element = |row: usize, column: usize| (64 * m + 8 * row + column) as u32;
            let (a, b) = (element(l / 4, 2 * (l % 4)), element(l / 4, 2 * (l % 4) + 1));
            assert_eq!(plain.bits[m][l], a | b << 16);
            let (a, b) = (element(2 * (l % 4), l / 4), element(2 * (l % 4) + 1, l / 4));
            assert_eq!(turned.bits[m][l], a | b << 16);
        }
    }
    assert_eq!(plain.undef, [0; 4]);
    for (transpose, from) in [(false, &plain), (true, &turned)] {
        let addresses = lanes(|l| SHARED_START + 512 + 16 * l);
        s.sync_warp(0);
        s.memory.stmatrix(0, &addresses, 4, transpose, from, &mut s.counts).unwrap();
        s.sync_warp(0);
        assert_eq!(s.ldmatrix(0, 4, false, |l| 512 + 16 * l).unwrap().bits, plain.bits);
    }
}

#[test]
fn undefined_halves_of_matrices() {
    let mut s = Shared::new(1024, 1);
    let mut from = Words::ZERO;
    // Row 5's word 2, high half: column 5.
    from.undef[2] = 1 << (32 + 5);
    s.store(0, 16, ALL, |l| 16 * l, &from).unwrap();
    s.sync_warp(0);
    let plain = s.ldmatrix(0, 2, false, |l| 16 * l).unwrap();
    assert_eq!(plain.undef[..2], [1 << (32 + 22), 0]);
    let turned = s.ldmatrix(0, 2, true, |l| 16 * l).unwrap();
    assert_eq!(turned.undef[..2], [1 << (32 + 22), 0]);
    let addresses = lanes(|l| SHARED_START + 512 + 16 * l);
    s.memory.stmatrix(0, &addresses, 2, true, &turned, &mut s.counts).unwrap();
    s.sync_warp(0);
    assert_eq!(s.ldmatrix(0, 2, false, |l| 512 + 16 * l).unwrap().undef[..2], plain.undef[..2]);
}

#[test]
fn matrices_race_like_other_accesses() {
    let mut s = Shared::filled(1024, 2);
    s.ldmatrix(0, 4, false, |l| 16 * l).unwrap();
    s.ldmatrix(1, 4, false, |l| 16 * l).unwrap();
    let bad = s.store(1, 2, 1, |_| 38, &Words::ZERO).unwrap_err();
    assert_eq!((bad.check, bad.address), (Check::SharedRace, Some(SHARED_START + 38)));
    s.sync();
    s.store(1, 2, 1, |_| 38, &Words::ZERO).unwrap();
    let bad = s.ldmatrix(0, 4, false, |l| 16 * l).unwrap_err();
    assert_eq!((bad.check, bad.lanes, bad.address), (Check::SharedRace, 1 << 2, Some(SHARED_START + 38)));
    s.sync_warp(1);
    s.ldmatrix(1, 4, false, |l| 16 * l).unwrap();
}

// Asynchronous copies.

struct Async {
    shared: SharedMemory,
    counts: Counts,
}

impl Async {
    fn copy(&mut self, warp: usize, to: u64, from: u64, bytes: usize, global: &BlockMemory<'_>) -> Done {
        self.copy_part(warp, to, from, bytes, bytes as u32, ALL, global)
    }

    #[allow(clippy::too_many_arguments)]
    fn copy_part(
        &mut self,
        warp: usize,
        to: u64,
        from: u64,
        bytes: usize,
        size: u32,
        mask: u32,
        global: &BlockMemory<'_>,
    ) -> Done {
        let n = bytes as u64;
        let (to, from) = (lanes(|l| SHARED_START + to + n * l), lanes(|l| from + n * l));
        let to = Request { addresses: &to, mask, bytes };
        self.shared.cp_async(warp, &to, &from, &[size; 32], global, &mut self.counts)
    }

    /// Waits, and lets the lanes see each other's copies.
    fn wait(&mut self, warp: usize, mask: u32, pending: Option<u32>, global: &BlockMemory<'_>) -> Done {
        self.shared.wait(warp, mask, pending, global)?;
        self.shared.warp_barrier(warp, ALL, true);
        Ok(())
    }

    fn load(&mut self, warp: usize, at: u64) -> Result<u32, BadAccess> {
        let (addresses, mut into) = ([SHARED_START + at; 32], Words::ZERO);
        let r = Request { addresses: &addresses, mask: 1, bytes: 4 };
        self.shared.load(warp, &r, Order::Weak, &mut into, &mut self.counts)?;
        assert_eq!(into.undef[0], 0);
        Ok(into.bits[0][0])
    }

    fn store(&mut self, warp: usize, at: u64) -> Done {
        let addresses = [SHARED_START + at; 32];
        let r = Request { addresses: &addresses, mask: 1, bytes: 4 };
        self.shared.store(warp, &r, Order::Weak, &Words::ZERO, &mut self.counts)
    }
}

/// Runs `f` with both schedules of copying, on 8192 bytes of global memory (word i is i) and of shared memory, 4 warps.
fn both_schedules(f: impl Fn(&mut Async, u64, &BlockMemory<'_>)) {
    let (memory, at) = zeros(8192);
    let bytes: Vec<u8> = (0..2048u32).flat_map(u32::to_le_bytes).collect();
    memory.write(at, &bytes).unwrap();
    for early in [false, true] {
        let launch = memory.begin_launch(false);
        let mut a = Async { shared: SharedMemory::new(8192, 4, early), counts: Counts::default() };
        f(&mut a, at, &launch.block(0));
    }
}

#[test]
fn copies_arrive_by_groups() {
    for bytes in [4usize, 8, 16] {
        both_schedules(|a, at, global| {
            let n = 32 * bytes as u64;
            for i in 0..3 {
                a.copy(0, n * i, at + n * i, bytes, global).unwrap();
                a.shared.commit(0, ALL);
            }
            a.wait(0, ALL, Some(2), global).unwrap();
            assert_eq!(a.load(0, n - 4).unwrap(), n as u32 / 4 - 1);
            let bad = a.load(0, n).unwrap_err();
            assert_eq!((bad.check, bad.address), (Check::AsyncInFlight, Some(SHARED_START + n)));
            assert_eq!(check_of(a.store(1, n)), Check::AsyncInFlight);
            assert_eq!(check_of(a.copy(0, n, at, bytes, global)), Check::AsyncInFlight);
            // An empty group counts.
            a.shared.commit(0, ALL);
            a.wait(0, ALL, Some(2), global).unwrap();
            assert_eq!(a.load(0, n).unwrap(), n as u32 / 4);
            assert_eq!(check_of(a.load(0, 2 * n)), Check::AsyncInFlight);
            a.wait(0, ALL, Some(0), global).unwrap();
            assert_eq!(a.load(0, 2 * n).unwrap(), n as u32 / 2);
            a.shared.exit(0, ALL).unwrap();
        });
    }
}

#[test]
fn other_warps_need_a_barrier_after_the_wait() {
    for bytes in [4usize, 16] {
        both_schedules(|a, at, global| {
            a.copy(0, 0, at, bytes, global).unwrap();
            a.shared.commit(0, ALL);
            a.shared.barrier(0, 0b1111);
            assert_eq!(check_of(a.load(1, 4)), Check::AsyncInFlight);
            a.wait(0, ALL, Some(0), global).unwrap();
            assert_eq!(check_of(a.load(1, 4)), Check::SharedRace);
            assert_eq!(a.load(0, 4).unwrap(), 1);
            a.shared.barrier(0, 0b1111);
            assert_eq!(a.load(1, 4).unwrap(), 1);
            // The buffer is used again without a barrier after the other's read.
            assert_eq!(check_of(a.copy(0, 0, at, bytes, global)), Check::SharedRace);
            a.shared.barrier(0, 0b1111);
            a.copy(0, 0, at, bytes, global).unwrap();
        });
    }
}

#[test]
fn copies_not_waited_for() {
    both_schedules(|a, at, global| {
        a.copy(0, 0, at, 16, global).unwrap();
        // Not committed: a wait for groups does not see it, a wait for all does.
        a.wait(0, ALL, Some(0), global).unwrap();
        let bad = a.shared.exit(0, 0b110).unwrap_err();
        assert_eq!((bad.check, bad.lanes), (Check::AsyncPending, 0b110));
        a.wait(0, 0b110, None, global).unwrap();
        a.shared.exit(0, 0b110).unwrap();
        assert_eq!(check_of(a.shared.exit(0, ALL)), Check::AsyncPending);
        // The next block is not touched by what this one left.
        a.shared.reset();
        a.store(1, 0).unwrap();
        a.shared.exit(0, ALL).unwrap();
    });
}

#[test]
fn lanes_have_their_own_groups() {
    both_schedules(|a, at, global| {
        a.copy_part(0, 0, at, 16, 16, 0xffff, global).unwrap();
        a.shared.commit(0, 0xffff);
        a.copy_part(0, 0, at, 16, 16, 0xffff_0000, global).unwrap();
        a.shared.commit(0, ALL);
        a.wait(0, ALL, Some(1), global).unwrap();
        assert_eq!(a.load(0, 0).unwrap(), 0);
        assert_eq!(check_of(a.load(0, 16 * 16)), Check::AsyncInFlight);
        a.wait(0, ALL, Some(0), global).unwrap();
        assert_eq!(a.load(0, 16 * 16).unwrap(), 64);
    });
}

#[test]
fn short_copies_fill_with_zeros() {
    for (bytes, size) in [(16usize, 0u32), (16, 6), (16, 12), (8, 3), (4, 2)] {
        both_schedules(|a, at, global| {
            a.copy_part(0, 0, at + 256, bytes, size, ALL, global).unwrap();
            a.wait(0, ALL, None, global).unwrap();
            let word = |i: u32| {
                let of_copy = 4 * i % bytes as u32;
                let kept = size.saturating_sub(of_copy).min(4);
                if kept == 4 { 64 + i } else { (64 + i) & ((1u32 << (8 * kept)) - 1) }
            };
            for i in 0..8 {
                assert_eq!(a.load(0, u64::from(4 * i)).unwrap(), word(i), "{bytes} {size} {i}");
            }
        });
    }
    both_schedules(|a, at, global| {
        // Nothing is read of a source of no bytes; of one of 8 bytes, only these.
        a.copy_part(0, 0, 0, 16, 0, ALL, global).unwrap();
        a.copy_part(0, 512, at + 8192 - 16, 16, 8, 1, global).unwrap();
        a.copy_part(0, 1024, at + 8192, 16, 0, 1, global).unwrap();
        assert_eq!(check_of(a.copy_part(0, 2048, at + 8192, 16, 8, 1, global)), Check::OutOfBounds);
        assert_eq!(check_of(a.copy_part(0, 2048, at + 8192 - 16, 16, 16, 3, global)), Check::OutOfBounds);
        assert_eq!(check_of(a.copy_part(0, 2048, at + 8, 16, 16, 1, global)), Check::Misaligned);
        assert_eq!(check_of(a.copy_part(0, 2056, at, 16, 16, 1, global)), Check::Misaligned);
        assert_eq!(check_of(a.copy_part(0, 8192, at, 16, 16, 1, global)), Check::OutOfBounds);
    });
}

#[test]
fn copies_are_late_or_early() {
    for (early, expected) in [(false, 9), (true, 5)] {
        let (memory, at) = zeros(512);
        memory.fill(at, &[5, 0, 0, 0], 128).unwrap();
        let launch = memory.begin_launch(false);
        let global = launch.block(0);
        let mut a = Async { shared: SharedMemory::new(512, 1, early), counts: Counts::default() };
        a.copy(0, 0, at, 16, &global).unwrap();
        memory.fill(at, &[9, 0, 0, 0], 128).unwrap();
        a.wait(0, ALL, None, &global).unwrap();
        assert_eq!(a.load(0, 0).unwrap(), expected);
    }
}

#[test]
fn copies_carry_uninitialised_bytes_and_counts() {
    let memory = GlobalMemory::new(1 << 20);
    let at = memory.alloc(512).unwrap();
    memory.write(at, &[1; 6]).unwrap();
    for early in [false, true] {
        let launch = memory.begin_launch(false);
        let global = launch.block(0);
        let mut a = Async { shared: SharedMemory::new(512, 1, early), counts: Counts::default() };
        a.copy(0, 0, at, 16, &global).unwrap();
        a.wait(0, ALL, None, &global).unwrap();
        let (addresses, mut into) = (lanes(|l| SHARED_START + 4 * l), Words::ZERO);
        let r = Request { addresses: &addresses, mask: 0b111, bytes: 4 };
        a.shared.load(0, &r, Order::Weak, &mut into, &mut a.counts).unwrap();
        assert_eq!(into.undef[0], 0b100 | 0b110 << 32);
        let c = a.counts;
        assert_eq!((c.cp_async_bytes, c.global_load_bytes, c.global_load_requests), (512, 512, 1));
        assert_eq!((c.global_load_sectors, c.global_load_least_sectors, c.unique_load_sectors), (16, 16, 16));
        assert_eq!((c.shared_requests, c.shared_wavefronts, c.shared_conflicts), (2, 5, 0));
    }
}

// Local memory.

#[test]
fn local_memory_is_each_lanes_own() {
    let mut local = LocalMemory::new(40);
    let at = |f: &dyn Fn(u64) -> u64| lanes(|l| LOCAL_START + f(l));
    let a = at(&|_| 32);
    let r = Request { addresses: &a, mask: ALL, bytes: 8 };
    local.store(&r, &words(|w, l| (10 * l + w) as u32)).unwrap();
    let mut got = Words::ZERO;
    local.load(&r, &mut got).unwrap();
    assert_eq!((got.bits[0][7], got.bits[1][7], got.undef), (70, 71, [0; 4]));
    let a = at(&|_| 34);
    local.load(&Request { addresses: &a, mask: ALL, bytes: 2 }, &mut got).unwrap();
    assert_eq!((got.bits[0][7], got.undef[0]), (0, 0));
    let a = at(&|l| if l == 3 { 28 } else { 32 });
    local.load(&Request { addresses: &a, mask: ALL, bytes: 4 }, &mut got).unwrap();
    assert_eq!(got.undef[0], 1 << 3 | 1 << 35);
    let a = at(&|l| if l == 3 { 40 } else { 32 });
    let bad = local.load(&Request { addresses: &a, mask: ALL, bytes: 4 }, &mut got).unwrap_err();
    assert_eq!((bad.check, bad.lanes, bad.address), (Check::OutOfBounds, 8, Some(LOCAL_START + 40)));
    let a = at(&|_| 33);
    assert_eq!(check_of(local.load(&Request { addresses: &a, mask: ALL, bytes: 2 }, &mut got)), Check::Misaligned);
    local.reset();
    let a = at(&|_| 32);
    local.load(&Request { addresses: &a, mask: ALL, bytes: 8 }, &mut got).unwrap();
    assert_eq!(got.undef[..2], [u64::MAX; 2]);
}

// Random accesses against a map of bytes.

/// xorshift64*
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }
}

/// Who reads and writes: a block, a lane of a warp, or a warp whose lanes are in order since.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Block(u32),
    Lane(usize, usize),
    Warp(usize),
}

impl Who {
    fn is_ordered_before(self, later: Who) -> bool {
        self == later || matches!((self, later), (Who::Warp(mine), Who::Lane(warp, _)) if mine == warp)
    }
}

/// Who read or wrote a byte, all since the last barrier.
#[derive(Default, Clone)]
struct Byte {
    value: Option<u8>,
    readers: Vec<Who>,
    writers: Vec<Who>,
}

/// Naive: what an access of `who` must find.
fn model_access(
    bytes: &mut HashMap<u64, Byte>,
    who: impl Fn(usize) -> Who,
    r: &Request<'_>,
    from: Option<&Words>,
) -> bool {
    let asked: Vec<(usize, u64)> = (0..32)
        .filter(|lane| r.mask >> lane & 1 != 0)
        .flat_map(|lane| (0..r.bytes as u64).map(move |i| (lane, i)))
        .collect();
    let clean = asked.iter().all(|&(lane, i)| {
        let byte = bytes.entry(r.addresses[lane] + i).or_default();
        let of_others = |list: &[Who]| list.iter().any(|other| !other.is_ordered_before(who(lane)));
        !of_others(&byte.writers) && (from.is_none() || !of_others(&byte.readers))
    });
    for &(lane, i) in asked.iter().filter(|_| clean) {
        let byte = bytes.entry(r.addresses[lane] + i).or_default();
        match from {
            None => byte.readers.push(who(lane)),
            Some(from) => {
                byte.writers.push(who(lane));
                byte.value = Some((from.bits[i as usize / 4][lane] >> (8 * (i % 4))) as u8);
            }
        }
    }
    clean
}

/// The loaded values and undefined marks are those of the map.
fn check_values(bytes: &HashMap<u64, Byte>, r: &Request<'_>, got: &Words) {
    for lane in (0..32).filter(|lane| r.mask >> lane & 1 != 0) {
        let of = |i: usize| bytes.get(&(r.addresses[lane] + i as u64)).and_then(|byte| byte.value);
        for i in 0..r.bytes {
            let undefined = if r.bytes < 4 {
                (0..r.bytes).any(|i| of(i).is_none())
            } else {
                of(i).is_none() || of(i ^ 1).is_none()
            };
            let mark = got.undef[i / 4] >> (lane + if i % 4 < 2 { 0 } else { 32 }) & 1 != 0;
            assert_eq!(mark, undefined);
            if let Some(value) = of(i) {
                assert_eq!((got.bits[i / 4][lane] >> (8 * (i % 4))) as u8, value);
            }
        }
        assert!(r.bytes >= 4 || got.bits[0][lane] >> (8 * r.bytes) == 0);
    }
}

/// A pattern of addresses in `space` bytes; no two lanes share bytes.
fn pattern(random: &mut Random, space: u64) -> ([u64; 32], u32, usize) {
    let bytes = 1 << random.below(5);
    let slots = space / bytes;
    let first = random.below(slots);
    let stride = 1 + 2 * random.below(4);
    let mask = match random.below(3) {
        0 => ALL,
        1 => 1 << random.below(32),
        _ => random.below(1 << 32) as u32,
    };
    // Odd strides over a power of two of slots: all different, if there are enough.
    let mask = if slots < 32 { mask & ((1 << slots) - 1) } else { mask };
    (lanes(|l| (first + stride * l) % slots * bytes), mask, bytes as usize)
}

fn random_words(random: &mut Random, bytes: usize) -> Words {
    let mut words = Words::ZERO;
    let keep = if bytes < 4 { (1 << (8 * bytes)) - 1 } else { u32::MAX };
    words.bits.iter_mut().flatten().for_each(|bits| *bits = random.below(1 << 32) as u32 & keep);
    words
}

#[test]
fn global_memory_agrees_with_a_map_of_bytes() {
    let (mut races, mut random) = (0, Random(7));
    for communicates in [false, true] {
        let memory = GlobalMemory::new(1 << 20);
        let at = memory.alloc(1024).unwrap();
        let mut bytes = HashMap::new();
        for _ in 0..400 {
            let launch = memory.begin_launch(communicates);
            bytes.values_mut().for_each(|byte: &mut Byte| (byte.readers, byte.writers) = Default::default());
            for _ in 0..random.below(12) {
                let who = random.below(3) as u32;
                let (addresses, mask, width) = pattern(&mut random, 1024);
                let addresses = addresses.map(|a| a + at);
                let r = Request { addresses: &addresses, mask, bytes: width };
                let from = (random.below(2) == 0).then(|| random_words(&mut random, width));
                let clean = model_access(&mut bytes, |_| Who::Block(who), &r, from.as_ref());
                let found = match &from {
                    Some(from) => store(&launch.block(who), &addresses, width, mask, from).map(|_| None),
                    None => load(&launch.block(who), &addresses, width, mask).map(Some),
                };
                assert_eq!(found.is_ok(), clean);
                match found {
                    Ok(Some(got)) => check_values(&bytes, &r, &got),
                    Ok(None) => {}
                    Err(bad) => {
                        races += 1;
                        assert_eq!(bad.check, Check::GlobalRace);
                        break;
                    }
                }
            }
        }
    }
    assert!(races > 200, "{races}");
}

#[test]
fn shared_memory_agrees_with_a_map_of_bytes() {
    let (mut races, mut random) = (0, Random(11));
    for _ in 0..200 {
        let mut s = Shared::new(512, 4);
        let mut bytes = HashMap::new();
        for _ in 0..40 {
            if random.below(3) == 0 {
                s.sync();
                bytes.values_mut().for_each(|byte: &mut Byte| (byte.readers, byte.writers) = Default::default());
            }
            let warp = random.below(4) as usize;
            if random.below(2) == 0 {
                s.sync_warp(warp);
                let order = |who: &mut Who| {
                    if matches!(who, Who::Lane(w, _) if *w == warp) {
                        *who = Who::Warp(warp);
                    }
                };
                bytes.values_mut().for_each(|byte: &mut Byte| {
                    byte.readers.iter_mut().chain(&mut byte.writers).for_each(order);
                });
            }
            let (addresses, mask, width) = pattern(&mut random, 512);
            let shifted = addresses.map(|a| a + SHARED_START);
            let r = Request { addresses: &shifted, mask, bytes: width };
            let from = (random.below(3) == 0).then(|| random_words(&mut random, width));
            let clean = model_access(&mut bytes, |lane| Who::Lane(warp, lane), &r, from.as_ref());
            let found = match &from {
                Some(from) => s.store(warp, width, mask, |l| addresses[l as usize], from).map(|_| None),
                None => s.load(warp, width, mask, |l| addresses[l as usize]).map(Some),
            };
            assert_eq!(found.is_ok(), clean);
            match found {
                Ok(Some(got)) => check_values(&bytes, &r, &got),
                Ok(None) => {}
                Err(bad) => {
                    races += 1;
                    assert_eq!(bad.check, Check::SharedRace);
                    break;
                }
            }
        }
    }
    assert!(races > 100, "{races}");
}

#[test]
fn blocks_on_threads_race_or_not() {
    let (memory, at) = zeros(1 << 16);
    for shift in [0, 4] {
        let launch = memory.begin_launch(false);
        let reports: Vec<Done> = std::thread::scope(|scope| {
            let run = |b: u64| {
                let launch = &launch;
                move || -> Done {
                    let block = launch.block(b as u32);
                    // A sixteenth of the memory each, in words; with a shift, one word of the next.
                    for i in 0..32 {
                        let first = at + 4096 * b + 128 * i + if i == 31 { shift } else { 0 };
                        let mask = if b == 15 { ALL >> 1 } else { ALL };
                        store(&block, &lanes(|l| first + 4 * l), 4, mask, &Words::ZERO)?;
                    }
                    Ok(())
                }
            };
            let threads: Vec<_> = (0..16).map(|b| scope.spawn(run(b))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(reports.iter().any(Result::is_err), shift != 0);
    }
}
