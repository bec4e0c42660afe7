//! Blocks on several threads: one result and one report.

use super::divergence::diverging;
use crate::lab::{BASE, Lab, OPTIONS};
use vgpu_cuda::exec::Options;
use vgpu_cuda::fault::Check;
use vgpu_cuda::ir::*;

#[test]
fn threads_and_seeds_change_nothing() {
    let lab = diverging();
    let (want, _) = lab.run(40, 64, &OPTIONS).expect("no fault");
    for schedule in [0, 5, 6] {
        for threads in [1, 3] {
            let options = Options { schedule, threads, ..OPTIONS };
            let (out, counts) = lab.run(40, 64, &options).expect("no fault");
            assert_eq!(out, want);
            assert_eq!(lab.run(40, 64, &options).expect("no fault").1, counts);
        }
    }
}

#[test]
fn the_lowest_block_is_reported() {
    // Every block from 3 on traps.
    let mut lab = Lab::new();
    let p = lab.below(3 * 32);
    lab.guarded(Some(Condition { pred: p, negate: true }), Op::Trap);
    lab.op(Op::Exit);
    for _ in 0..20 {
        let fault = lab.run(64, 32, &Options { threads: 4, ..OPTIONS }).expect_err("traps");
        assert_eq!((fault.check, fault.block), (Check::Trap, [3, 0, 0]));
    }
}

#[test]
fn blocks_that_wait_for_each_other() {
    // Block b spins until the counter in its grid's first word reaches b, then adds one.
    let mut lab = Lab::new();
    lab.communicates = true;
    let (v, zero, one, block) = (lab.slot(), lab.constant(0), lab.constant(1), lab.slot());
    let q = lab.pred();
    let word = Address { base: Some(BASE), narrow: false, offset: 0 };
    let order = Order::AcquireRelease(Scope::Gpu);
    let atom = |d, b| Op::Atom { op: AtomOp::Add, space: Space::Global, order, ty: Ty::U32, d, a: word, b, c: None };
    lab.op(Op::Special { what: Special::CtaidX, d: block });
    let at = lab.code.len() as u32;
    lab.op(atom(Some(v), zero));
    lab.op(Op::Setp { cmp: Cmp::Ne, ty: Ty::U32, ftz: false, combine: None, p: q, q: None, a: v, b: block });
    lab.guarded(Some(Condition { pred: q, negate: false }), Op::Bra { target: at });
    lab.op(atom(None, one));
    lab.op(Op::Exit);
    for schedule in [0, 1, 2] {
        let (out, _) = lab.run(50, 1, &Options { schedule, ..OPTIONS }).unwrap_or_else(|f| panic!("{f}"));
        assert_eq!(out[0], 50);
    }
}
