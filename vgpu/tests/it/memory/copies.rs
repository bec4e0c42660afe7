//! Asynchronous copies (cp.async).

use vgpu_cuda::counts::Counts;
use vgpu_cuda::fault::{BadAccess, Check};
use vgpu_cuda::ir::Order;
use vgpu_cuda::mem::{BlockMemory, GlobalMemory, Request, SHARED_START, SharedMemory, Words};

use super::fixtures::*;

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
