//! Bank conflicts, and the matrices that `ldmatrix` reads.

use vgpu_cuda::counts::Counts;
use vgpu_cuda::fault::Check;
use vgpu_cuda::mem::{SHARED_START, Words};

use super::fixtures::*;

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
