//! Each check of warpgroup products with a mistake that it finds, beside a clean twin.

use vgpu_cuda::fault::Check;

use super::*;

/// Bytes of shared memory of the cases below: a 64×16 and b 64×16 in atoms of 128 bytes.
const TILE: usize = 8192;

/// A kernel up to its first product: shared memory filled, sums loaded. What `arrange` does is in the tests.
struct Prepared {
    kit: Kit,
    d: Vec<Slot>,
    a: Slot,
    b: Slot,
}

fn prepared(case: &Case) -> Prepared {
    let mut kit = Kit::new(case.shared_bytes());
    kit.fill(case.shared_bytes());
    kit.lab.op(Op::ProxyFence(ProxyFence::Async { shared: true, global: false }));
    kit.barrier();
    let d = kit.load_thread(case.shared_bytes() + 2048, case.registers());
    let a = kit.lab.wide_constant(SWIZZLED.descriptor(0, 64));
    let b = kit.lab.wide_constant(case.right.descriptor(case.right_start(), case.n));
    Prepared { kit, d, a, b }
}

impl Prepared {
    fn fence(&mut self) {
        self.kit.lab.op(Op::WgmmaFence);
    }

    fn product(&mut self) -> u32 {
        self.kit.issue(&CASE, WgmmaA::Shared(self.a), self.b, &self.d)
    }

    fn commit(&mut self) {
        self.kit.lab.op(Op::WgmmaCommit);
    }

    fn wait(&mut self, pending: u32) {
        self.kit.lab.op(Op::WgmmaWait { pending });
    }

    /// Every thread writes 16 of the first 2 KiB of shared memory.
    fn overwrite(&mut self) -> u32 {
        let a = Address { base: Some(self.kit.thread16), narrow: true, offset: SHARED_START as i64 };
        let zero = self.kit.lab.constant(0);
        let b = Box::new([zero; 4]);
        self.kit.lab.op(Op::St { space: Space::Shared, order: Order::Weak, ty: Ty::U32, a, b })
    }

    /// Another instruction writes or reads a slot.
    fn touch(&mut self, slot: Slot, writes: bool) -> u32 {
        let other = if writes { self.kit.lab.constant(0) } else { self.kit.lab.slot() };
        let (d, a) = if writes { (slot, other) } else { (other, slot) };
        let pc = self.kit.lab.op(Op::Mov { wide: false, d, a });
        self.kit.lab.asynchronous.push((pc, Box::new([(slot, writes)])));
        pc
    }

    fn store(&mut self) {
        self.kit.store_thread(TILE * 2 + 2048, &self.d.clone());
    }

    #[allow(clippy::result_large_err)]
    fn run(&self, options: &Options) -> Result<Vec<u8>, Fault> {
        self.kit.run(&CASE.image(&CASE.any(&mut Random(1))), options)
    }

    fn passes(&self) {
        for options in schedules() {
            self.run(&options).unwrap_or_else(|fault| panic!("{options:?}: {fault}"));
        }
    }

    /// In both schedules the same check, at PTX line `line` (from 1) and with the other place.
    fn fails(&self, check: Check, line: u32, other: Option<u32>, words: &str) {
        for options in schedules() {
            let fault = self.run(&options).expect_err(words);
            assert_eq!(fault.check, check, "{fault}");
            assert!(fault.detail.contains(words), "{fault}");
            assert_eq!((fault.line, fault.other.as_ref().map(|place| place.line)), (line, other), "{fault}");
        }
    }
}

#[test]
fn two_products_in_a_row_need_one_fence() {
    let mut clean = prepared(&CASE);
    clean.fence();
    clean.product();
    clean.product();
    clean.commit();
    clean.wait(0);
    clean.store();
    clean.passes();
}

#[test]
fn sums_are_not_touched_before_the_wait() {
    for writes in [false, true] {
        let mut early = prepared(&CASE);
        early.fence();
        let product = early.product();
        early.commit();
        early.wait(1);
        let slot = early.d[5];
        let touch = early.touch(slot, writes);
        early.wait(0);
        let words = if writes { "writes a register" } else { "reads a register" };
        early.fails(Check::WgmmaRegisters, touch + 1, Some(product + 1), words);
        let mut clean = prepared(&CASE);
        clean.fence();
        clean.product();
        clean.commit();
        clean.wait(0);
        clean.touch(slot, writes);
        clean.passes();
    }
}

#[test]
fn sums_written_otherwise_need_a_fence() {
    let mut without = prepared(&CASE);
    without.fence();
    let slot = without.d[7];
    let touch = without.touch(slot, true);
    let product = without.product();
    without.commit();
    without.wait(0);
    without.fails(Check::WgmmaRegisters, product + 1, Some(touch + 1), "needs wgmma.fence");
    let mut first = prepared(&CASE);
    let product = first.product();
    first.commit();
    first.wait(0);
    first.fails(Check::WgmmaRegisters, product + 1, Some(product + 1), "first wgmma");
}

#[test]
fn sums_of_another_shape_need_a_fence() {
    let kernel = |fence: bool| {
        let mut kit = prepared(&CASE);
        kit.fence();
        let first = kit.product();
        if fence {
            kit.fence();
        }
        let narrow = Case { n: 32, ..CASE };
        let second = kit.kit.issue(&narrow, WgmmaA::Shared(kit.a), kit.b, &kit.d[..16]);
        kit.commit();
        kit.wait(0);
        (kit, first, second)
    };
    kernel(true).0.passes();
    let (kit, first, second) = kernel(false);
    kit.fails(Check::WgmmaRegisters, second + 1, Some(first + 1), "another shape");
}

#[test]
fn rows_in_registers_are_not_written_before_the_wait() {
    let kernel = |waits: bool| {
        let mut kit = prepared(&CASE);
        let a = kit.kit.load_thread(TILE * 2, 4);
        kit.fence();
        let case = Case { left: None, ..CASE };
        let product = kit.kit.issue(&case, WgmmaA::Registers(a.clone().into()), kit.b, &kit.d.clone());
        kit.commit();
        kit.wait(u32::from(!waits));
        kit.touch(a[1], false);
        let touch = kit.touch(a[1], true);
        kit.wait(0);
        (kit, product, touch)
    };
    kernel(true).0.passes();
    let (kit, product, touch) = kernel(false);
    kit.fails(Check::WgmmaRegisters, touch + 1, Some(product + 1), "rows of a");
}

#[test]
fn factors_are_not_written_before_the_wait() {
    let kernel = |waits: bool| {
        let mut kit = prepared(&CASE);
        kit.fence();
        let product = kit.product();
        kit.commit();
        kit.wait(u32::from(!waits));
        kit.kit.barrier();
        let write = kit.overwrite();
        kit.wait(0);
        (kit, product, write)
    };
    kernel(true).0.passes();
    let (kit, product, write) = kernel(false);
    kit.fails(Check::AsyncInFlight, write + 1, Some(product + 1), "which an unfinished wgmma still reads");
}

#[test]
fn factors_written_by_another_warpgroup_need_a_barrier() {
    let kernel = |has_barrier: bool| {
        let mut kit = Kit::new(CASE.shared_bytes());
        let p = kit.lab.below(WARPGROUP);
        let others = Some(Condition { pred: p, negate: true });
        let skip = kit.lab.guarded(others, Op::Nop) as usize;
        kit.fill(CASE.shared_bytes());
        kit.lab.op(Op::ProxyFence(ProxyFence::Async { shared: true, global: false }));
        kit.lab.code[skip].op = Op::Bra { target: kit.lab.code.len() as u32 };
        kit.barrier();
        let skip = kit.lab.guarded(others, Op::Nop) as usize;
        let d = kit.load_thread(CASE.shared_bytes() + 2048, CASE.registers());
        kit.lab.op(Op::WgmmaFence);
        let product = kit.product(&CASE, Vec::new(), &d);
        kit.lab.op(Op::WgmmaCommit);
        kit.lab.op(Op::WgmmaWait { pending: 0 });
        kit.lab.code[skip].op = Op::Bra { target: kit.lab.code.len() as u32 };
        if has_barrier {
            kit.barrier();
        }
        let a = Address { base: Some(kit.thread16), narrow: true, offset: SHARED_START as i64 - 2048 };
        let b = Box::new([kit.lab.constant(0); 4]);
        let write = Op::St { space: Space::Shared, order: Order::Weak, ty: Ty::U32, a, b };
        let write = kit.lab.guarded(others, write);
        (kit, product, write)
    };
    let image = CASE.image(&CASE.any(&mut Random(1)));
    for options in schedules() {
        let clean = kernel(true).0.run_on(2 * WARPGROUP, &image, &options);
        assert!(clean.is_ok(), "{}", clean.expect_err("a fault"));
        let (kit, product, write) = kernel(false);
        let Err(fault) = kit.run_on(2 * WARPGROUP, &image, &options) else { panic!("{options:?}: not found") };
        assert!(matches!(fault.check, Check::SharedRace | Check::AsyncInFlight), "{fault}");
        // The product before the write, or behind it.
        let lines = (fault.line, fault.other.as_ref().map(|place| place.line));
        assert!(lines == (product + 1, Some(write + 1)) || lines == (write + 1, Some(product + 1)), "{fault}");
    }
}

#[test]
fn what_generic_stores_wrote_needs_a_fence_of_the_proxy() {
    let mut kit = Kit::new(CASE.shared_bytes());
    kit.fill(CASE.shared_bytes());
    let store = kit.lab.code.len() as u32 - 1;
    kit.barrier();
    let d = kit.load_thread(CASE.shared_bytes() + 2048, CASE.registers());
    kit.lab.op(Op::WgmmaFence);
    let product = kit.product(&CASE, Vec::new(), &d);
    kit.lab.op(Op::WgmmaCommit);
    kit.lab.op(Op::WgmmaWait { pending: 0 });
    let image = CASE.image(&CASE.any(&mut Random(1)));
    for options in schedules() {
        let fault = kit.run(&image, &options).expect_err("no fence");
        assert_eq!((fault.check, fault.line), (Check::ProxyFence, product + 1), "{fault}");
        assert!(fault.other.as_ref().is_some_and(|place| place.line <= store + 1), "{fault}");
    }
}

#[test]
fn unordered_and_undefined_factors_are_reported() {
    let run = |fills: usize, has_barrier: bool| {
        let mut kit = Kit::new(CASE.shared_bytes());
        kit.fill(fills);
        kit.lab.op(Op::ProxyFence(ProxyFence::Async { shared: true, global: false }));
        if has_barrier {
            kit.barrier();
        }
        let d = kit.load_thread(CASE.shared_bytes() + 2048, CASE.registers());
        kit.lab.op(Op::WgmmaFence);
        kit.product(&CASE, Vec::new(), &d);
        kit.lab.op(Op::WgmmaCommit);
        kit.lab.op(Op::WgmmaWait { pending: 0 });
        kit.run(&CASE.image(&CASE.any(&mut Random(1))), &OPTIONS).err().map(|fault| fault.check)
    };
    assert_eq!(run(CASE.shared_bytes(), true), None);
    assert_eq!(run(CASE.shared_bytes() - 2048, true), Some(Check::Uninitialised));
    // Warp 0 finds what no other has written yet; with another order of warps it would be a race.
    assert!(matches!(run(CASE.shared_bytes(), false), Some(Check::Uninitialised | Check::SharedRace)));
}

#[test]
fn descriptors_are_checked() {
    let good = SWIZZLED.descriptor(0, 64);
    let cases = [
        (good, None, ""),
        // A chunk that runs out of the row; a stride that is none; out of shared memory; an atom elsewhere.
        (good + (112 >> 4), Some(Check::Wgmma), "leaves its"),
        (good ^ (1024 >> 4 << 32) ^ (512 >> 4 << 32), Some(Check::Wgmma), "stride byte offset"),
        (good + (65536 >> 4), Some(Check::OutOfBounds), "outside"),
        (good - (1024 >> 4), Some(Check::OutOfBounds), "outside"),
        (good | 3 << 49, Some(Check::Wgmma), "base offset"),
    ];
    for (bits, check, words) in cases {
        let mut kit = prepared(&CASE);
        kit.a = kit.kit.lab.wide_constant(bits);
        kit.fence();
        let product = kit.product();
        kit.commit();
        kit.wait(0);
        match check {
            None => kit.passes(),
            Some(check) => kit.fails(check, product + 1, None, words),
        }
    }
}

#[test]
fn products_are_waited_for_before_the_end() {
    for commits in [false, true] {
        let mut kit = prepared(&CASE);
        kit.fence();
        let product = kit.product();
        if commits {
            kit.commit();
        } else {
            kit.wait(0);
        }
        let end = kit.kit.lab.op(Op::Exit);
        kit.fails(Check::AsyncPending, end + 1, Some(product + 1), "not waited for");
    }
}

#[test]
fn the_four_warps_agree() {
    // Warps from 2 on leave out the second product, or do another in its place.
    for other in [false, true] {
        let mut kit = prepared(&CASE);
        kit.fence();
        let p = kit.kit.lab.below(64);
        let skip = kit.kit.lab.guarded(Some(Condition { pred: p, negate: true }), Op::Nop) as usize;
        kit.product();
        let over = kit.kit.lab.op(Op::Nop) as usize;
        kit.kit.lab.code[skip].op = Op::Bra { target: over as u32 + 1 };
        if other {
            kit.product();
        }
        let target = kit.kit.lab.code.len() as u32;
        kit.kit.lab.code[over].op = Op::Bra { target };
        kit.commit();
        kit.wait(0);
        for options in schedules() {
            let fault = kit.run(&options).expect_err("warps that do not agree");
            assert_eq!(fault.check, Check::Wgmma, "{fault}");
            assert!(fault.other.is_some() && fault.detail.contains("another wgmma instruction"), "{fault}");
        }
    }
}

#[test]
fn a_warp_that_ends_early_is_reported() {
    let mut kit = prepared(&CASE);
    let p = kit.kit.lab.below(96);
    kit.kit.lab.guarded(Some(Condition { pred: p, negate: true }), Op::Exit);
    kit.fence();
    kit.product();
    kit.commit();
    kit.wait(0);
    for options in schedules() {
        let fault = kit.run(&options).expect_err("warp 3 ended");
        assert_eq!(fault.check, Check::Wgmma, "{fault}");
    }
}

#[test]
fn lanes_and_warpgroups_must_be_whole() {
    // A descriptor of each lane's own.
    let mut kit = prepared(&CASE);
    let wide = kit.kit.lab.slot();
    kit.kit.lab.op(Op::Pack32x2 { d: wide, parts: [crate::lab::THREAD, crate::lab::THREAD] });
    kit.b = wide;
    kit.fence();
    let product = kit.product();
    kit.fails(Check::Wgmma, product + 1, None, "descriptors of their own");
    // Three warps.
    let mut kit = prepared(&CASE);
    kit.fence();
    kit.product();
    let image = CASE.image(&CASE.any(&mut Random(1)));
    let fault = kit.kit.run_on(96, &image, &OPTIONS).expect_err("no warpgroup");
    assert!(fault.check == Check::Wgmma && fault.detail.contains("not complete"), "{fault}");
}
