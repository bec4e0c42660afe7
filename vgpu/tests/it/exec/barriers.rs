//! What the warps of a block do together.

use super::{fault, run};
use crate::lab::{Lab, MODE, OPTIONS, THREAD};
use vgpu_cuda::exec::Options;
use vgpu_cuda::fault::Check;
use vgpu_cuda::ir::*;

fn barrier(kind: BarrierKind, id: Slot) -> Op {
    Op::Barrier { kind, id, threads: None, d: None, p: None, a: None }
}

#[test]
fn barriers_order_shared_memory() {
    // Thread t writes shared[t], reads shared[127 - t] after the barrier.
    let mut lab = Lab::new();
    lab.shared_bytes = 512;
    let zero = lab.constant(0);
    let (mine, other, d, four, base, last) =
        (lab.slot(), lab.slot(), lab.slot(), lab.constant(4), lab.constant(0x400), lab.constant(127));
    let shared = |slot| Address { base: Some(slot), narrow: true, offset: 0 };
    let mad = |d, a, c| Op::Tern { op: TernOp::MadLo, ty: Ty::U32, mode: MODE, d, a, b: four, c };
    lab.op(mad(mine, THREAD, base));
    lab.op(Op::Bin { op: BinOp::Sub, ty: Ty::U32, mode: MODE, d, a: last, b: THREAD });
    lab.op(mad(other, d, base));
    let order = Order::Weak;
    lab.op(Op::St { space: Space::Shared, order, ty: Ty::U32, a: shared(mine), b: Box::new([THREAD]) });
    let at = lab.op(barrier(BarrierKind::Sync, zero));
    lab.op(Op::Ld { space: Space::Shared, order, ty: Ty::U32, d: Box::new([Some(d)]), a: shared(other) });
    lab.store(Ty::U32, d);
    lab.op(Op::Exit);
    for schedule in [0, 1, 2, 3] {
        let (out, counts) = lab.run(1, 128, &Options { schedule, ..OPTIONS }).expect("no fault");
        assert!(out.iter().enumerate().all(|(i, &x)| x == 127 - i as u64));
        assert_eq!((counts.barriers, counts.instructions.barrier), (1, 4));
    }
    lab.code[at as usize].op = Op::Nop;
    let fault = fault(&lab, 128);
    assert!(matches!(fault.check, Check::SharedRace | Check::Uninitialised), "{fault}");
}

#[test]
fn a_barrier_that_not_all_reach() {
    // Warp 1 waits at barrier 1, the others at 0.
    let mut lab = Lab::new();
    let (zero, one) = (lab.constant(0), lab.constant(1));
    let p = lab.below(32);
    let at = lab.code.len() as u32;
    lab.guarded(Some(Condition { pred: p, negate: false }), Op::Bra { target: at + 3 });
    lab.op(barrier(BarrierKind::Sync, zero));
    lab.op(Op::Exit);
    let line = lab.op(barrier(BarrierKind::Sync, one)) + 1;
    lab.op(Op::Exit);
    let fault = fault(&lab, 96);
    assert_eq!((fault.check, fault.warp, fault.line), (Check::Barrier, 0, line), "{fault}");
    assert!(fault.detail.contains("warp 1 waits at barrier 0"), "{fault}");
}

#[test]
fn a_barrier_in_a_divergent_branch() {
    let mut lab = Lab::new();
    let zero = lab.constant(0);
    let p = lab.below(7);
    let at = lab.code.len() as u32;
    lab.guarded(Some(Condition { pred: p, negate: false }), Op::Bra { target: at + 2 });
    let line = lab.op(barrier(BarrierKind::Sync, zero)) + 1;
    lab.store(Ty::U32, THREAD);
    lab.op(Op::Exit);
    let report = fault(&lab, 32);
    assert_eq!((report.check, report.line, report.lanes), (Check::Barrier, line, 0xffff_ff80), "{report}");
    // Threads that end early are not waited for.
    let mut clean = Lab::new();
    let zero = clean.constant(0);
    let p = clean.below(7);
    clean.guarded(Some(Condition { pred: p, negate: false }), Op::Exit);
    clean.op(barrier(BarrierKind::Sync, zero));
    clean.store(Ty::U32, THREAD);
    clean.op(Op::Exit);
    run(&clean, 96);
}

#[test]
fn producers_and_consumers_by_named_barriers() {
    // Warp 0 arrives for 64 threads and goes on; warp 1 waits for it.
    let mut lab = Lab::new();
    let (id, threads) = (lab.constant(3), lab.constant(64));
    let p = lab.below(32);
    let condition = |negate| Some(Condition { pred: p, negate });
    let named = |kind| Op::Barrier { kind, id, threads: Some(threads), d: None, p: None, a: None };
    lab.guarded(condition(false), named(BarrierKind::Arrive));
    lab.guarded(condition(true), named(BarrierKind::Sync));
    lab.store(Ty::U32, THREAD);
    lab.op(Op::Exit);
    assert!(run(&lab, 64).iter().enumerate().all(|(i, &x)| x == i as u64));
    // A third warp is one too many.
    assert_eq!(fault(&lab, 96).check, Check::Barrier);
}

#[test]
fn a_signal_and_a_wait_of_one_warp_count_twice() {
    let mut lab = Lab::new();
    let (id, threads) = (lab.constant(3), lab.constant(64));
    let named = |kind| Op::Barrier { kind, id, threads: Some(threads), d: None, p: None, a: None };
    lab.op(named(BarrierKind::Arrive));
    let at = lab.op(named(BarrierKind::Sync));
    lab.store(Ty::U32, THREAD);
    lab.op(Op::Exit);
    assert!(run(&lab, 32).iter().enumerate().all(|(i, &x)| x == i as u64));
    // Two signals are a mistake.
    lab.code[at as usize].op = named(BarrierKind::Arrive);
    let fault = fault(&lab, 32);
    assert!(fault.check == Check::Barrier && fault.detail.contains("a second time"), "{fault}");
}

#[test]
fn reductions_over_the_block() {
    let mut lab = Lab::new();
    let (zero, d) = (lab.constant(0), lab.slot());
    let p = lab.below(50);
    let a = Some(Condition { pred: p, negate: false });
    lab.op(Op::Barrier { kind: BarrierKind::RedPopc, id: zero, threads: None, d: Some(d), p: None, a });
    lab.store(Ty::U32, d);
    lab.op(Op::Exit);
    assert!(run(&lab, 96).iter().all(|&x| x == 50));
}
