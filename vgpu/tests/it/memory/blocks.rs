//! Blocks that communicate: fences, flags, atomics, and blocks on threads.

use vgpu_cuda::counts::Counts;
use vgpu_cuda::fault::Check;
use vgpu_cuda::ir::{AtomOp, Order, Scope, Ty};
use vgpu_cuda::mem::{Request, Words};

use super::fixtures::*;

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
