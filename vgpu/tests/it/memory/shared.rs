//! Shared memory: bounds, races between warps and between lanes, barriers.

use vgpu_cuda::fault::Check;
use vgpu_cuda::mem::{SHARED_START, Words};

use super::fixtures::*;

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
