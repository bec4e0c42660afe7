//! What the blocks of a cluster do in each other's shared memory.

use vgpu_cuda::exec::Options;
use vgpu_cuda::fault::{Check, Fault};
use vgpu_cuda::mem::GlobalMemory;

use crate::lab::{OPTIONS, launch};

const SCHEDULES: std::ops::Range<u64> = 0..8;

/// Two clusters of two blocks of 32 threads. `%r1` the thread, `%r2` the block's rank, `%r3` its peer's; `%r4` the address of
/// the thread's word `s[thread]`, `%r5` that of its peer's, `%r10` the block's barrier for one arrival, `%r11` the peer's; the kernel
/// leaves `%r9`.
fn run(body: &str, schedule: u64) -> Result<Vec<u32>, Box<Fault>> {
    let text = format!(
        ".version 8.3\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 out) .reqnctapercluster 2, 1, 1 {{\n\
         .reg .pred %p<4>; .reg .b32 %r<20>; .reg .b64 %rd<9>;\n\
         .shared .align 16 .b8 s[128]; .shared .align 8 .b8 bar[8];\n\
         mov.u32 %r1, %tid.x; mov.u32 %r2, %cluster_ctarank; sub.u32 %r3, 1, %r2; mov.u32 %r4, s; mov.u32 %r10, bar;\n\
         mad.lo.u32 %r4, %r1, 4, %r4; mapa.shared::cluster.u32 %r5, %r4, %r3; mapa.shared::cluster.u32 %r11, %r10, %r3;\n\
         setp.eq.u32 %p1, %r1, 0;\n@%p1 mbarrier.init.shared::cta.b64 [%r10], 1;\n\
         mad.lo.u32 %r6, %r2, 100, %r1; st.shared.u32 [%r4], %r6;\n{body}\n\
         mov.u32 %r12, %ctaid.x; mad.lo.u32 %r12, %r12, 32, %r1; ld.param.u64 %rd1, [out]; mul.wide.u32 %rd2, %r12, 4;\n\
         add.u64 %rd1, %rd1, %rd2; st.global.u32 [%rd1], %r9; ret;\n}}\n"
    );
    let program = vgpu_cuda::ptx::load(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let memory = GlobalMemory::new(1 << 20);
    let out = memory.alloc(512).expect("room");
    launch(&program, &memory, &[out], (4, 32), &Options { schedule, ..OPTIONS }).map_err(Box::new)?;
    let mut bytes = vec![0; 512];
    memory.read(out, &mut bytes).expect("allocated");
    Ok(bytes.chunks_exact(4).map(|w| u32::from_le_bytes(w.try_into().expect("four"))).collect())
}

const MEET: &str = "barrier.cluster.arrive.release; barrier.cluster.wait.acquire;";
/// Waits for the block's barrier.
const WAIT: &str = "LOOP: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p2, [%r10], 0; @!%p2 bra LOOP;";

/// What each thread of each block leaves, by its rank.
fn expect(body: &str, expected: impl Fn(u32, u32) -> u32) {
    for schedule in SCHEDULES {
        let out = run(body, schedule).unwrap_or_else(|fault| panic!("schedule {schedule}: {fault}"));
        for (i, &found) in out.iter().enumerate() {
            assert_eq!(found, expected(i as u32 / 32 % 2, i as u32 % 32), "schedule {schedule}, thread {i}");
        }
    }
}

/// The check that reports it in every schedule, or in one at least.
fn reported(body: &str, checks: &[Check], in_all: bool) {
    let found: Vec<_> = SCHEDULES.filter_map(|schedule| run(body, schedule).err()).collect();
    assert!(if in_all { found.len() == 8 } else { !found.is_empty() }, "{body}");
    assert!(found.iter().all(|fault| checks.contains(&fault.check)), "{}", found[0]);
}

#[test]
fn loads_of_a_peers_memory() {
    let loads = [
        "ld.shared::cluster.u32 %r9, [%r5];",
        "cvt.u64.u32 %rd3, %r5; cvta.shared::cluster.u64 %rd3, %rd3; ld.u32 %r9, [%rd3];",
        "cvt.u64.u32 %rd3, %r4; cvta.shared.u64 %rd3, %rd3; mapa.u64 %rd3, %rd3, %r3; ld.u32 %r9, [%rd3];",
    ];
    for load in loads {
        expect(&format!("{MEET} {load} {MEET}"), |rank, thread| 100 * (1 - rank) + thread);
    }
    expect(&format!("{MEET} ld.shared::cluster.u32 %r9, [%r4]; {MEET}"), |rank, thread| 100 * rank + thread);
    expect(&format!("getctarank.shared::cluster.u32 %r9, %r5; {MEET}"), |rank, _| 1 - rank);
    reported(
        &format!("ld.shared::cluster.u32 %r9, [%r5]; {MEET}"),
        &[Check::Cluster, Check::SharedRace, Check::Uninitialised],
        true,
    );
    reported(&format!("{MEET} ld.shared::cluster.u32 %r9, [%r5];"), &[Check::Cluster], false);
    reported(
        &format!("{MEET} mapa.shared::cluster.u32 %r7, %r4, 2; mov.u32 %r9, %r7; {MEET}"),
        &[Check::Cluster],
        true,
    );
}

#[test]
fn stores_and_atomics_in_a_peers_memory() {
    let seven = "add.u32 %r7, %r6, 7;";
    let store = format!("{MEET} {seven} st.shared::cluster.u32 [%r5], %r7; {MEET} ld.shared.u32 %r9, [%r4];");
    expect(&store, |rank, thread| 100 * (1 - rank) + thread + 7);
    let atomic = format!(
        "{MEET} mov.u32 %r7, s; mapa.shared::cluster.u32 %r7, %r7, %r3; red.shared::cluster.add.u32 [%r7], 3; {MEET}\n\
         ld.shared.u32 %r9, [s];"
    );
    expect(&atomic, |rank, _| 100 * rank + 96);
    // The block reads what its peer writes with nothing between.
    let race = format!("{MEET} {seven} st.shared::cluster.u32 [%r5], %r7; ld.shared.u32 %r9, [%r4]; {MEET}");
    reported(&race, &[Check::SharedRace], true);
}

#[test]
fn asynchronous_stores_are_counted_where_they_arrive() {
    let announce = "@%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r10], 128;";
    let store = "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.u32 [%r5], %r6, [%r11];";
    let whole = format!("{MEET} {announce} {store} {WAIT} ld.shared.u32 %r9, [%r4]; {MEET}");
    expect(&whole, |rank, thread| 100 * (1 - rank) + thread);
    let reduce = "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u32 [%r5], 5, [%r11];";
    let whole = format!("{MEET} {announce} {reduce} {WAIT} ld.shared.u32 %r9, [%r4]; {MEET}");
    expect(&whole, |rank, thread| 100 * rank + thread + 5);
    // Read before it arrived; one byte too many announced.
    let early = format!("{MEET} {announce} {store} ld.shared.u32 %r9, [%r4]; {WAIT} {MEET}");
    reported(&early, &[Check::AsyncInFlight, Check::SharedRace], true);
    let never = format!("{MEET} {} {store} {WAIT} ld.shared.u32 %r9, [%r4]; {MEET}", announce.replace("128", "144"));
    reported(&never, &[Check::Mbarrier], true);
}

#[test]
fn remote_arrivals_order_memory() {
    let arrive =
        "fence.acq_rel.cluster; bar.sync 0; @%p1 mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r11];";
    let whole = format!("{MEET} st.shared::cluster.u32 [%r5], 9; {arrive} {WAIT} ld.shared.u32 %r9, [%r4]; {MEET}");
    expect(&whole, |_, _| 9);
    // A fence and a relaxed arrival do the same, and so do a relaxed wait and a fence; one without the other does not.
    let relaxed = whole.replace("arrive.release.cluster", "arrive.relaxed.cluster");
    expect(&relaxed, |_, _| 9);
    let waits = relaxed.replace("parity.acquire", "parity.relaxed");
    expect(&waits.replace("ld.shared", "fence.acq_rel.cluster; ld.shared"), |_, _| 9);
    reported(&waits, &[Check::SharedRace], true);
    reported(&relaxed.replace("fence.acq_rel.cluster; ", ""), &[Check::SharedRace], true);
    // Of another block's barrier as one's own; two arrivals where one is expected.
    reported(
        &whole.replace("shared::cluster.b64 _, [%r11]", "shared::cta.b64 _, [%r11]"),
        &[Check::AddressSpace],
        true,
    );
    let twice =
        whole.replace("bar.sync 0;", "bar.sync 0; @%p1 mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r11];");
    reported(&twice, &[Check::Mbarrier], false);
}

#[test]
fn the_clusters_barrier() {
    let relaxed = "barrier.cluster.arrive.relaxed; barrier.cluster.wait;";
    let load = "ld.shared::cluster.u32 %r9, [%r5];";
    reported(&format!("{relaxed} {load} {MEET}"), &[Check::SharedRace], true);
    expect(&format!("fence.acq_rel.cluster; {relaxed} {load} {MEET}"), |rank, thread| 100 * (1 - rank) + thread);
    reported(&format!("barrier.cluster.arrive; {MEET}"), &[Check::Cluster], true);
    reported("barrier.cluster.wait; mov.u32 %r9, 0;", &[Check::Cluster], true);
    reported(
        &format!("setp.eq.u32 %p2, %r2, 0; @%p2 bra OVER; bar.sync 1, 64; OVER: {MEET}"),
        &[Check::Barrier, Check::Cluster],
        true,
    );
    // Threads that ended are not waited for.
    expect(&format!("setp.eq.u32 %p2, %r2, 0; mov.u32 %r9, 0; @%p2 bra OVER; {MEET}\nOVER:"), |_, _| 0);
}

#[test]
fn addresses_beyond_every_rank() {
    let uses = [
        "ld.shared::cluster.u32 %r9, [%r7];",
        "st.shared::cluster.u32 [%r7], %r6;",
        "atom.shared::cluster.add.u32 %r9, [%r7], 1;",
        "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r7];",
    ];
    // Of a rank that the cluster lacks, that none has, and that wraps around.
    for address in ["0x03000400", "0x21000400", "0xff000400"] {
        for each in uses {
            let body = format!("mov.u32 %r9, 0; mov.u32 %r7, {address}; {MEET} {each} {MEET}");
            reported(&body, &[Check::Cluster], true);
        }
        // Bytes and barrier are of one block.
        for (to, barrier) in [("%r5", "%r7"), ("%r7", "%r11")] {
            let store =
                format!("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.u32 [{to}], %r6, [{barrier}];");
            let body = format!("mov.u32 %r9, 0; mov.u32 %r7, {address}; {MEET} {store} {MEET}");
            reported(&body, &[Check::BulkCopy], true);
        }
    }
}

/// The first thread of rank `sets` writes 9 and then a flag; that of the other rank waits for the flag and reads.
fn flag(set: &str, ask: &str, data: [&str; 2], sets: u32) -> String {
    let [write, read] = data;
    format!(
        "{MEET} mov.u32 %r9, 0; mov.u32 %r7, 9; mov.u32 %r8, 1; setp.eq.u32 %p2, %r2, {sets};\n\
         @!%p1 bra OVER; @!%p2 bra ASK;\n\
         {write}, %r7; {set}; bra OVER;\n\
         ASK: {ask}; setp.ne.u32 %p3, %r6, 1; @%p3 bra ASK; {read}; OVER: {MEET}"
    )
}

#[test]
fn flags_in_a_peers_memory() {
    let own = ["st.shared.u32 [%r4+4]", "ld.shared::cluster.u32 %r9, [%r5+4]"];
    let peers = ["st.shared::cluster.u32 [%r5+4]", "ld.shared.u32 %r9, [%r4+4]"];
    let right = [
        flag("st.release.cluster.shared.u32 [%r4], %r8", "ld.acquire.cluster.shared::cluster.u32 %r6, [%r5]", own, 0),
        flag("st.release.cluster.shared::cluster.u32 [%r5], %r8", "ld.acquire.cluster.shared.u32 %r6, [%r4]", peers, 1),
        flag(
            "fence.acq_rel.cluster; red.release.cluster.shared::cluster.or.b32 [%r5], %r8",
            "ld.acquire.cluster.shared.u32 %r6, [%r4]",
            peers,
            1,
        ),
        flag(
            "fence.acq_rel.cluster; st.relaxed.cluster.shared::cluster.u32 [%r5], %r8",
            "ld.relaxed.cluster.shared.u32 %r6, [%r4]",
            [peers[0], "fence.acq_rel.cluster; ld.shared.u32 %r9, [%r4+4]"],
            1,
        ),
    ];
    for (body, reader) in right.iter().zip([1, 0, 0, 0]) {
        expect(body, |rank, thread| if rank == reader && thread == 0 { 9 } else { 0 });
    }
    // A flag that hands nothing on. (What is handed on, relaxed loads take up as well.)
    for relaxed in [
        right[0].replace("st.release", "st.relaxed"),
        right[1].replace("st.release", "st.relaxed"),
        right[2].replace("fence.acq_rel.cluster; red.release", "red.relaxed"),
        right[3].replace("fence.acq_rel.cluster; st", "st"),
    ] {
        reported(&relaxed, &[Check::SharedRace], true);
    }
}

#[test]
fn reports_name_both_blocks() {
    let body = format!(
        "{MEET} mov.u32 %r9, 0; setp.eq.u32 %p2, %r2, 0;\n@%p2 st.shared.u32 [%r4], %r9;\n\
         @!%p2 st.shared::cluster.u32 [%r5], %r9;\n{MEET}"
    );
    for schedule in SCHEDULES {
        let fault = run(&body, schedule).expect_err("a race");
        assert_eq!(fault.check, Check::SharedRace, "{fault}");
        let other = fault.other.as_ref().unwrap_or_else(|| panic!("no second place: {fault}"));
        // The two of one cluster; rank 0 by its line, rank 1 by the next.
        assert_eq!(fault.block[0] ^ 1, other.block[0], "schedule {schedule}: {fault}");
        let (lower, upper) =
            if fault.block[0].is_multiple_of(2) { (fault.line, other.line) } else { (other.line, fault.line) };
        assert_eq!(lower + 1, upper, "schedule {schedule}: {fault}");
    }
}

#[test]
fn a_reduction_that_races_names_both_places() {
    let announce = "@%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r10], 128;";
    let reduce = "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u32 [%r5], 5, [%r11];";
    let body = format!("{MEET} {announce}\n{reduce}\nld.shared.u32 %r9, [%r4];\n{WAIT} {MEET}");
    for schedule in SCHEDULES {
        let fault = run(&body, schedule).expect_err("a race");
        assert_eq!(fault.check, Check::SharedRace, "{fault}");
        let other = fault.other.as_ref().unwrap_or_else(|| panic!("no second place: {fault}"));
        // The reduction's line, and the next one.
        assert_eq!(fault.line.abs_diff(other.line), 1, "schedule {schedule}: {fault}");
    }
}
