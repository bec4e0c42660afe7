//! Lanes that go different ways, registers that were never written.

use super::{fault, run};
use crate::lab::{Lab, MODE, OPTIONS, OUT, THREAD};
use vgpu_cuda::exec::Options;
use vgpu_cuda::fault::Check;
use vgpu_cuda::ir::*;

/// out = thread < 20 ? 100 + thread : 200 + thread, by branches.
pub fn diverging() -> Lab {
    let mut lab = Lab::new();
    let p = lab.below(20);
    let d = lab.slot();
    let (low, high) = (lab.constant(100), lab.constant(200));
    let add = |d, b| Op::Bin { op: BinOp::Add, ty: Ty::U32, mode: MODE, d, a: THREAD, b };
    let at = lab.code.len() as u32;
    lab.guarded(Some(Condition { pred: p, negate: false }), Op::Bra { target: at + 3 });
    lab.op(add(d, high));
    lab.op(Op::Bra { target: at + 4 });
    lab.op(add(d, low));
    lab.store(Ty::U32, d);
    lab.op(Op::Exit);
    lab
}

#[test]
fn branches_diverge_and_meet() {
    for schedule in 0..8 {
        let options = Options { schedule, ..OPTIONS };
        let (out, counts) = diverging().run(1, 32, &options).expect("no fault");
        for (i, &x) in out.iter().enumerate() {
            assert_eq!(x, i as u64 + if i < 20 { 100 } else { 200 });
        }
        if schedule == 0 {
            // 7 + branch (20 lanes) + (add, branch) + add + store + exit: the store is executed once, by all.
            assert_eq!((counts.issued, counts.instructions.store_global), (13, 1));
            assert_eq!(counts.active_lanes, 9 * 32 + 20 + 12 + 12 + 20);
        }
    }
}

#[test]
fn loops_of_unlike_length() {
    // sum of 0..=thread
    let mut lab = Lab::new();
    let (sum, i, zero, one) = (lab.slot(), lab.slot(), lab.constant(0), lab.constant(1));
    let p = lab.pred();
    lab.op(Op::Mov { wide: false, d: sum, a: zero });
    lab.op(Op::Mov { wide: false, d: i, a: zero });
    let top = lab.op(Op::Bin { op: BinOp::Add, ty: Ty::U32, mode: MODE, d: sum, a: sum, b: i });
    lab.op(Op::Bin { op: BinOp::Add, ty: Ty::U32, mode: MODE, d: i, a: i, b: one });
    lab.op(Op::Setp { cmp: Cmp::Le, ty: Ty::U32, ftz: false, combine: None, p, q: None, a: i, b: THREAD });
    lab.guarded(Some(Condition { pred: p, negate: false }), Op::Bra { target: top });
    lab.store(Ty::U32, sum);
    lab.op(Op::Exit);
    for schedule in [0, 1, 2] {
        let out = lab.run(2, 96, &Options { schedule, ..OPTIONS }).expect("no fault").0;
        for (i, &x) in out.iter().enumerate() {
            assert_eq!(x, (i * (i + 1) / 2) as u64);
        }
    }
}

#[test]
fn an_endless_loop_is_reported() {
    let mut lab = Lab::new();
    let at = lab.code.len() as u32;
    lab.op(Op::Bra { target: at });
    let fault = lab.run(1, 32, &Options { limit: 1_000_000, ..OPTIONS }).expect_err("endless");
    assert_eq!((fault.check, fault.line), (Check::Trap, at + 1), "{fault}");
}

#[test]
fn lanes_that_spin_do_not_starve_the_others() {
    // Lane 0 sets a word of local order; the others spin until the block's shared word is set.
    let mut lab = Lab::new();
    lab.shared_bytes = 16;
    let (zero, one, v) = (lab.constant(0), lab.constant(1), lab.slot());
    let word = Address { base: None, narrow: true, offset: 0x400 };
    let p = lab.below(1);
    let q = lab.pred();
    let order = Order::Relaxed(Scope::Gpu);
    let first = Some(Condition { pred: p, negate: false });
    let atom = |op, d, b| Op::Atom { op, space: Space::Shared, order, ty: Ty::U32, d, a: word, b, c: None };
    lab.guarded(first, Op::St { space: Space::Shared, order, ty: Ty::U32, a: word, b: Box::new([zero]) });
    let members = lab.constant(u32::MAX);
    lab.op(Op::BarWarp { members });
    let at = lab.code.len() as u32;
    lab.guarded(first, Op::Bra { target: at + 4 });
    lab.op(atom(AtomOp::Add, Some(v), zero));
    lab.op(Op::Setp { cmp: Cmp::Eq, ty: Ty::U32, ftz: false, combine: None, p: q, q: None, a: v, b: zero });
    lab.guarded(Some(Condition { pred: q, negate: false }), Op::Bra { target: at + 1 });
    lab.guarded(first, atom(AtomOp::Exch, None, one));
    lab.store(Ty::U32, THREAD);
    lab.op(Op::Exit);
    run(&lab, 32);
}

#[test]
fn undefined_registers_are_copied_but_not_used() {
    let mut lab = Lab::new();
    let (a, b, d) = (lab.slot(), lab.slot(), lab.slot());
    let p = lab.below(5);
    // Defined in lanes 0–4.
    lab.guarded(Some(Condition { pred: p, negate: false }), Op::Mov { wide: false, d: a, a: THREAD });
    lab.op(Op::Mov { wide: false, d: b, a });
    let line = lab.op(Op::Bin { op: BinOp::Add, ty: Ty::U32, mode: MODE, d, a: THREAD, b }) + 1;
    lab.op(Op::Exit);
    let report = fault(&lab, 32);
    assert_eq!((report.check, report.line, report.lanes), (Check::Uninitialised, line, 0xffff_ffe0), "{report}");
    lab.code[line as usize - 1].guard = Some(Condition { pred: p, negate: false });
    run(&lab, 32);
}

#[test]
fn lanes_of_one_slot_may_hold_values_of_unlike_width() {
    // Where branches part, a slot is a 32-bit value's for some lanes and half of a 64-bit value for others.
    let mut lab = Lab::new();
    let (slot, wide) = (lab.slot(), lab.wide_constant(u64::MAX));
    let p = lab.below(16);
    let low = Some(Condition { pred: p, negate: false });
    let high = Some(Condition { pred: p, negate: true });
    lab.op(Op::Mov { wide: false, d: slot, a: THREAD });
    lab.guarded(low, Op::Mov { wide: true, d: slot, a: wide });
    lab.guarded(high, Op::St { space: Space::Global, order: Order::Weak, ty: Ty::U32, a: OUT, b: Box::new([slot]) });
    lab.op(Op::Exit);
    assert!(run(&lab, 32).iter().enumerate().skip(16).all(|(i, &x)| x == i as u64));
}
