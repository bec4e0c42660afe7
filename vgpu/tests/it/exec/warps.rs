//! What the lanes of a warp do together.

use super::{fault, run};
use crate::lab::{Lab, MODE, OUT, THREAD};
use vgpu_cuda::fault::Check;
use vgpu_cuda::ir::*;

fn shuffled(mode: ShflMode, by: u32, clamp: u32) -> (Vec<u64>, u64) {
    let mut lab = Lab::new();
    let (b, c, members) = (lab.constant(by), lab.constant(clamp), lab.constant(u32::MAX));
    let (d, flag, p) = (lab.slot(), lab.slot(), lab.pred());
    lab.op(Op::Shfl { mode, d, p: Some(p), a: THREAD, b, c, members });
    lab.op(Op::Ballot { d: flag, a: Condition { pred: p, negate: false }, members });
    lab.op(Op::St { space: Space::Global, order: Order::Weak, ty: Ty::U32, a: OUT, b: Box::new([d, flag]) });
    lab.op(Op::Exit);
    let out = run(&lab, 32);
    (out.iter().map(|x| x & 0xffff_ffff).collect(), out[0] >> 32)
}

#[test]
fn shuffles() {
    let (out, inside) = shuffled(ShflMode::Down, 1, 0x1f);
    assert_eq!((out[0], out[30], out[31], inside), (1, 31, 31, 0x7fff_ffff));
    let (out, inside) = shuffled(ShflMode::Up, 2, 0);
    assert_eq!((out[0], out[1], out[2], inside), (0, 1, 0, 0xffff_fffc));
    let (out, inside) = shuffled(ShflMode::Bfly, 16, 0x1f);
    assert_eq!((out[0], out[31], inside), (16, 15, 0xffff_ffff));
    // Segments of 8 lanes.
    let (out, inside) = shuffled(ShflMode::Down, 4, 0x1807);
    assert_eq!((out[3], out[4], out[11], out[12], inside), (7, 4, 15, 12, 0x0f0f_0f0f));
    let (out, _) = shuffled(ShflMode::Idx, 2, 0x181f);
    assert_eq!((out[0], out[9], out[31]), (2, 10, 26));
}

#[test]
fn votes_matches_and_reductions() {
    let mut lab = Lab::new();
    let members = lab.constant(u32::MAX);
    let p = lab.below(10);
    let (ballot, same, sum, three, low) = (lab.slot(), lab.slot(), lab.slot(), lab.constant(3), lab.slot());
    lab.op(Op::Ballot { d: ballot, a: Condition { pred: p, negate: true }, members });
    lab.op(Op::Bin { op: BinOp::And, ty: Ty::U32, mode: MODE, d: low, a: THREAD, b: three });
    lab.op(Op::Match { all: false, wide: false, d: same, p: None, a: low, members });
    lab.op(Op::Redux { op: ReduxOp::Add, ty: Ty::U32, d: sum, a: THREAD, members });
    let mixed = lab.slot();
    lab.op(Op::Lop3 { d: mixed, a: same, b: sum, c: ballot, table: 0x96 });
    lab.op(Op::St { space: Space::Global, order: Order::Weak, ty: Ty::U32, a: OUT, b: Box::new([mixed, ballot]) });
    lab.op(Op::Exit);
    for (i, &x) in run(&lab, 32).iter().enumerate() {
        let same = 0x1111_1111u32 << (i % 4);
        assert_eq!(x >> 32, 0xffff_fc00);
        assert_eq!(x as u32, same ^ 496 ^ 0xffff_fc00);
    }
}

#[test]
fn members_that_never_arrive() {
    // Lanes 0–15 shuffle among all 32; the others go another way and wait at a different one.
    let mut lab = Lab::new();
    let (members, b, c, d) = (lab.constant(u32::MAX), lab.constant(1), lab.constant(0x1f), lab.slot());
    let p = lab.below(16);
    let shuffle = Op::Shfl { mode: ShflMode::Bfly, d, p: None, a: THREAD, b, c, members };
    let at = lab.code.len() as u32;
    lab.guarded(Some(Condition { pred: p, negate: false }), Op::Bra { target: at + 3 });
    lab.op(shuffle.clone());
    lab.op(Op::Exit);
    lab.op(shuffle);
    lab.op(Op::Exit);
    assert_eq!(fault(&lab, 32).check, Check::Membership);
}

#[test]
fn shuffles_of_half_warps_meet_their_members() {
    // Each half names its own lanes; the halves come one after the other.
    let mut lab = Lab::new();
    let (low, high) = (lab.constant(0xffff), lab.constant(0xffff_0000));
    let (members, b, c, d) = (lab.slot(), lab.constant(1), lab.constant(0x1f), lab.slot());
    let p = lab.below(16);
    let condition = Condition { pred: p, negate: false };
    lab.op(Op::Selp { wide: false, d: members, a: low, b: high, p: condition });
    lab.op(Op::Shfl { mode: ShflMode::Bfly, d, p: None, a: THREAD, b, c, members });
    lab.store(Ty::U32, d);
    lab.op(Op::Exit);
    assert!(run(&lab, 32).iter().enumerate().all(|(i, &x)| x == i as u64 ^ 1));
}

#[test]
fn a_shuffle_outside_its_mask() {
    let mut lab = Lab::new();
    let (members, b, c, d) = (lab.constant(0xff), lab.constant(1), lab.constant(0x1f), lab.slot());
    lab.op(Op::Shfl { mode: ShflMode::Bfly, d, p: None, a: THREAD, b, c, members });
    lab.op(Op::Exit);
    let fault = fault(&lab, 32);
    assert_eq!((fault.check, fault.lanes), (Check::Membership, 0xffff_ff00), "{fault}");
}
