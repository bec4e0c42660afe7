//! `mbarrier` objects as cuda::barrier uses them since sm_80: states, counts, copies that arrive, waits that never end.

use vgpu_cuda::exec::Options;
use vgpu_cuda::fault::{Check, Fault};
use vgpu_cuda::mem::GlobalMemory;

use crate::lab::{OPTIONS, launch};

/// A block of 64 threads: `%r1` the thread, `%p1` whether it is the first, `%r2` the warp, `%r3` the barrier's address, for 64 arrivals and
/// made by the first thread, `%r4` the thread's word of shared memory, `%rd2` its word of `input` (its number times 3); `%r9` is left.
fn run(body: &str, schedule: u64) -> Result<Vec<u32>, Box<Fault>> {
    let text = format!(
        ".version 7.8\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 in, .param .u64 out) {{\n\
         .reg .pred %p<4>; .reg .b32 %r<20>; .reg .b64 %rd<9>;\n\
         .shared .align 16 .b8 s[256]; .shared .align 8 .b8 bar[8];\n\
         mov.u32 %r1, %tid.x; shr.u32 %r2, %r1, 5; setp.eq.u32 %p1, %r1, 0; mov.u32 %r3, bar; mov.u32 %r4, s;\n\
         mad.lo.u32 %r4, %r1, 4, %r4; mul.wide.u32 %rd3, %r1, 4; ld.param.u64 %rd1, [out]; add.u64 %rd1, %rd1, %rd3;\n\
         ld.param.u64 %rd2, [in]; add.u64 %rd2, %rd2, %rd3;\n\
         @%p1 mbarrier.init.shared.b64 [%r3], 64; bar.sync 0;\n{body}\nst.global.u32 [%rd1], %r9; ret;\n}}\n"
    );
    let program = vgpu_cuda::ptx::load(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let memory = GlobalMemory::new(1 << 20);
    let (input, out) = (memory.alloc(256).expect("room"), memory.alloc(256).expect("room"));
    let values: Vec<u8> = (0..64u32).flat_map(|i| (3 * i).to_le_bytes()).collect();
    memory.write(input, &values).expect("allocated");
    launch(&program, &memory, &[input, out], (1, 64), &Options { schedule, ..OPTIONS }).map_err(Box::new)?;
    let mut bytes = vec![0; 256];
    memory.read(out, &mut bytes).expect("allocated");
    Ok(bytes.chunks_exact(4).map(|w| u32::from_le_bytes(w.try_into().expect("four"))).collect())
}

fn expect(body: &str, expected: impl Fn(u32) -> u32) {
    for schedule in 0..8 {
        let out = run(body, schedule).unwrap_or_else(|fault| panic!("schedule {schedule}: {fault}"));
        assert_eq!(out, (0..64).map(&expected).collect::<Vec<_>>(), "schedule {schedule}");
    }
}

fn reported(body: &str, check: Check, words: &str) {
    for schedule in 0..8 {
        let fault = run(body, schedule).expect_err(body);
        assert!(fault.check == check && fault.detail.contains(words), "schedule {schedule}: {fault}");
    }
}

const ARRIVE: &str = "mbarrier.arrive.shared.b64 %rd4, [%r3];";
const WAIT: &str = "LOOP: mbarrier.test_wait.shared.b64 %p2, [%r3], %rd4; @!%p2 bra LOOP;";
/// The word of the thread across the block.
const OTHER: &str = "mov.u32 %r5, s; sub.u32 %r6, 63, %r1; mad.lo.u32 %r5, %r6, 4, %r5; ld.shared.u32 %r9, [%r5];";

#[test]
fn states_say_which_phase_is_waited_for() {
    expect(&format!("st.shared.u32 [%r4], %r1; {ARRIVE} {WAIT} {OTHER}"), |i| 63 - i);
    // Nothing waits: the other warp's word is not there yet, or races.
    let fault = run(&format!("st.shared.u32 [%r4], %r1; {ARRIVE} {OTHER}"), 0).expect_err("a fault");
    assert!(matches!(fault.check, Check::Uninitialised | Check::SharedRace), "{fault}");
    let pending = format!("{ARRIVE} {WAIT} {ARRIVE} mbarrier.pending_count.b64 %r9, %rd4; bar.sync 0;");
    let out = run(&pending, 0).expect("no fault");
    let mut sorted = out.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=64).collect::<Vec<_>>(), "each finds one arrival fewer missing");
}

#[test]
fn copies_arrive_when_they_are_done() {
    let copy = "cp.async.ca.shared.global [%r4], [%rd2], 4;";
    let then = format!("{ARRIVE} {WAIT} {OTHER}");
    expect(&format!("{copy} cp.async.mbarrier.arrive.shared.b64 [%r3]; {then} cp.async.wait_all;"), |i| 3 * (63 - i));
    // In place of the threads' own arrivals.
    let wait = "LOOP: mbarrier.test_wait.parity.shared.b64 %p2, [%r3], 0; @!%p2 bra LOOP;";
    let instead = format!("{copy} cp.async.mbarrier.arrive.noinc.shared.b64 [%r3]; {wait} {OTHER} cp.async.wait_all;");
    expect(&instead, |i| 3 * (63 - i));
    // Those who copy end at once; the other warp waits for the 32 of them.
    let fewer = "@%p1 mbarrier.inval.shared.b64 [%r3]; @%p1 mbarrier.init.shared.b64 [%r3], 32; bar.sync 0;";
    let ends = format!(
        "{fewer} setp.ne.u32 %p3, %r2, 0; @%p3 bra LOOP; mov.u32 %r9, 1; st.global.u32 [%rd1], %r9;\n\
         {copy} cp.async.mbarrier.arrive.noinc.shared.b64 [%r3]; ret;\n{wait} {OTHER}"
    );
    expect(&ends, |i| if i < 32 { 1 } else { 3 * (63 - i) });
}

#[test]
fn an_object_has_a_life() {
    let many = ARRIVE.replace("[%r3]", "[%r3], 65");
    reported(&format!("{many} mov.u32 %r9, 0;"), Check::Mbarrier, "65 arrivals where");
    // More leave than are expected, while a copy is to arrive.
    let copy = "cp.async.ca.shared.global [%r4], [%rd2], 4; cp.async.mbarrier.arrive.shared.b64 [%r3];";
    let leave = "mbarrier.arrive_drop.shared.b64 %rd4, [%r3], 65;";
    reported(
        &format!("@!%p1 bra OVER; {copy} {leave} cp.async.wait_all; OVER: mov.u32 %r9, 0;"),
        Check::Mbarrier,
        "of 64",
    );
    reported(
        "@%p1 mbarrier.inval.shared.b64 [%r3]; bar.sync 0; mbarrier.arrive.shared.b64 %rd4, [%r3]; mov.u32 %r9, 0;",
        Check::Mbarrier,
        "not initialised",
    );
    reported(
        "@%p1 st.shared.u32 [%r3], 7; bar.sync 0; mbarrier.arrive.shared.b64 %rd4, [%r3]; mov.u32 %r9, 0;",
        Check::Mbarrier,
        "overwritten",
    );
    reported("@%p1 mbarrier.init.shared.b64 [%r3+4], 1; mov.u32 %r9, 0;", Check::Misaligned, "multiple of 8");
    reported("@%p1 mbarrier.init.shared.b64 [%r3+64], 1; mov.u32 %r9, 0;", Check::OutOfBounds, "outside");
    reported("@%p1 mbarrier.init.shared.b64 [%r3], 1048576; mov.u32 %r9, 0;", Check::Mbarrier, "1 to");
    reported(
        "@%p1 mbarrier.init.shared.b64 [%r3], 32; bar.sync 0; mov.u32 %r9, 0;",
        Check::Mbarrier,
        "lives here already",
    );
    // Made anew for another count.
    let anew = "@%p1 mbarrier.inval.shared.b64 [%r3]; @%p1 mbarrier.init.shared.b64 [%r3], 64; bar.sync 0;";
    expect(&format!("{anew} st.shared.u32 [%r4], %r1; {ARRIVE} {WAIT} {OTHER}"), |i| 63 - i);
}

#[test]
fn a_wait_that_never_ends_says_what_is_missing() {
    for wait in ["test_wait", "try_wait"] {
        let ask = format!("LOOP: mbarrier.{wait}.parity.shared.b64 %p2, [%r3], 0; @!%p2 bra LOOP;");
        let body =
            format!("setp.ne.u32 %p3, %r1, 5; @%p3 mbarrier.arrive.shared.b64 %rd4, [%r3]; {ask} mov.u32 %r9, 0;");
        reported(&body, Check::Mbarrier, "in phase 0: 63 of 64 arrivals");
    }
}

#[test]
fn waits_that_are_counted_go_on() {
    let ask = "LOOP: mbarrier.try_wait.parity.shared.b64 %p2, [%r3], 0; add.u32 %r9, %r9, 1; setp.lt.u32 %p3, %r9, 10;";
    let body = format!("mov.u32 %r9, 0; {ask} @%p3 bra LOOP; @!%p2 add.u32 %r9, %r9, 100;");
    expect(&body, |_| 110);
}
