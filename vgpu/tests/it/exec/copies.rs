//! Bulk copies and reductions at their edges, and loops that wait for what other warps do.

use vgpu_cuda::exec::{self, Launch, Options};
use vgpu_cuda::fault::{Check, Fault};
use vgpu_cuda::mem::GlobalMemory;
use vgpu_cuda::mem::tensor_map::{MAX_RANK, MapElement, Swizzle, TensorMap};
use vgpu_cuda::profile::Profile;

use crate::lab::OPTIONS;

const SCHEDULES: std::ops::Range<u64> = 0..8;
const WORDS: usize = 512;

/// Blocks of the grid, threads of a block, blocks of a cluster, host threads.
#[derive(Clone, Copy)]
struct Shape {
    grid: u32,
    block: u32,
    cluster: u32,
    threads: usize,
}

const ONE: Shape = Shape { grid: 1, block: 32, cluster: 1, threads: 1 };
const TWO_WARPS: Shape = Shape { block: 64, ..ONE };
const CLUSTER: Shape = Shape { grid: 2, block: 64, cluster: 2, ..ONE };

/// `%r1` the address of 1168 bytes of shared memory, two barriers for one arrival at 1024 and 1032 of them; `%r2` the
/// thread, `%p1` whether it is not the first; `%r3` the block's rank; `%rd1` the output, words of 0; `%rd2` the input,
/// words of 3 times their number; `%rd3` a tensor map among the parameters, of the input, and `%rd4` the same in `.const`.
fn run(body: &str, shape: Shape, map: &TensorMap, schedule: u64) -> Result<Vec<u32>, Box<Fault>> {
    let memory = GlobalMemory::new(1 << 20);
    let (input, out) = (memory.alloc(4096).expect("room"), memory.alloc(4 * WORDS).expect("room"));
    let values: Vec<u8> = (0..1024u32).flat_map(|i| (3 * i).to_le_bytes()).collect();
    memory.write(input, &values).expect("allocated");
    memory.fill(out, &[0], 4 * WORDS).expect("allocated");
    let map = TensorMap { address: input, ..*map }.encode();
    let bytes: Vec<String> = map.iter().map(u8::to_string).collect();
    let text = format!(
        ".version 8.6\n.target sm_90a\n.address_size 64\n.const .align 64 .b8 fixed[128] = {{{}}};\n\
         .visible .entry k(.param .align 64 .b8 map[128], .param .u64 out, .param .u64 in) {{\n\
         .reg .pred %p<6>; .reg .b16 %h<3>; .reg .b32 %r<20>; .reg .b64 %rd<9>; .reg .f32 %f<5>;\n\
         .shared .align 1024 .b8 s[1168];\n\
         ld.param.u64 %rd1, [out]; ld.param.u64 %rd2, [in]; mov.b64 %rd3, map; cvta.param.u64 %rd3, %rd3;\n\
         mov.b64 %rd4, fixed; cvta.const.u64 %rd4, %rd4;\n\
         mov.u32 %r1, s; mov.u32 %r2, %tid.x; mov.u32 %r3, %cluster_ctarank; setp.ne.u32 %p1, %r2, 0;\n\
         @!%p1 mbarrier.init.shared.b64 [%r1+1024], 1; @!%p1 mbarrier.init.shared.b64 [%r1+1032], 1;\n\
         fence.mbarrier_init.release.cluster; bar.sync 0;\n{body}\nret;\n}}\n",
        bytes.join(",")
    );
    let program = vgpu_cuda::ptx::load(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let params: Vec<u8> = map.iter().copied().chain(out.to_le_bytes()).chain(input.to_le_bytes()).collect();
    let mut const_bank = vec![0; program.const_bytes];
    const_bank[..128].copy_from_slice(&program.variables[0].init);
    let launch = Launch {
        program: &program,
        kernel: &program.kernels[0],
        constants: &program.constants,
        const_bank: &const_bank,
        params: &params,
        grid: [shape.grid, 1, 1],
        block: [shape.block, 1, 1],
        dynamic_shared: 0,
        cluster: [shape.cluster, 1, 1],
        unfinished: &[],
        workspace: 0,
    };
    let options = Options { schedule, threads: shape.threads, limit: 2_000_000, ..OPTIONS };
    exec::run(&launch, &memory, &Profile::named("h100").expect("known"), &options).map_err(Box::new)?;
    let mut bytes = vec![0; 4 * WORDS];
    memory.read(out, &mut bytes).expect("allocated");
    Ok(bytes.chunks_exact(4).map(|w| u32::from_le_bytes(w.try_into().expect("four"))).collect())
}

/// A tensor of bytes, copied in boxes of `boxes`.
fn map(dims: &[u64], boxes: &[u32], swizzle: Swizzle) -> TensorMap {
    let mut map = TensorMap {
        element: MapElement::U8,
        rank: dims.len(),
        address: 0,
        dims: [1; MAX_RANK],
        strides: [0; MAX_RANK],
        box_dims: [1; MAX_RANK],
        element_strides: [1; MAX_RANK],
        swizzle,
        l2: 0,
        nan_fill: false,
    };
    map.dims[..dims.len()].copy_from_slice(dims);
    map.box_dims[..boxes.len()].copy_from_slice(boxes);
    let mut stride = 1;
    for (to, &extent) in map.strides.iter_mut().zip(dims) {
        *to = stride;
        stride *= extent;
    }
    map
}

fn plain() -> TensorMap {
    map(&[4096], &[16], Swizzle::None)
}

/// The first words of the output in every schedule; zeros follow.
fn expect_of(body: &str, shape: Shape, map: &TensorMap, expected: &[u32]) {
    for schedule in SCHEDULES {
        let out = run(body, shape, map, schedule).unwrap_or_else(|fault| panic!("schedule {schedule}: {fault}"));
        assert_eq!(out[..expected.len()], *expected, "schedule {schedule}");
        assert!(out[expected.len()..].iter().all(|&word| word == 0), "schedule {schedule}");
    }
}

fn expect(body: &str, shape: Shape, expected: &[u32]) {
    expect_of(body, shape, &plain(), expected);
}

fn reported_of(body: &str, shape: Shape, map: &TensorMap, check: Check, words: &str) {
    for schedule in SCHEDULES {
        let fault = run(body, shape, map, schedule).expect_err(body);
        assert!(fault.check == check && fault.detail.contains(words), "schedule {schedule}: {fault}");
    }
}

fn reported(body: &str, shape: Shape, check: Check, words: &str) {
    reported_of(body, shape, &plain(), check, words);
}

/// Asks for 16 bytes of the input, which `into` names.
fn copy(into: &str, from: &str) -> String {
    format!("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [{into}], [{from}], 16, [%r1+1024];")
}

const ANNOUNCE: &str = "mbarrier.arrive.expect_tx.shared.b64 _, [%r1+1024], 16;";
const WAIT: &str = "LOOP: mbarrier.try_wait.parity.shared.b64 %p2, [%r1+1024], 0; @!%p2 bra LOOP;";
/// The first thread writes 16 bytes of what the next group reads.
const FOUR: &str = "st.shared.v4.u32 [%r1], {%r5,%r5,%r5,%r5}; fence.proxy.async;";
const COMMIT: &str = "cp.async.bulk.commit_group;";

#[test]
fn places_that_no_copy_reaches() {
    let first = "@%p1 bra OVER;";
    let good = format!("{first} {ANNOUNCE} {} {WAIT} ld.shared.u32 %r5, [%r1+4];", copy("%r1", "%rd2+16"));
    expect(&format!("{good} st.global.u32 [%rd1], %r5; OVER:"), ONE, &[15]);
    let beyond = format!("mov.u32 %r4, 0x21000400; {first} {ANNOUNCE} {} {WAIT} OVER:", copy("%r4", "%rd2"));
    reported(&beyond, ONE, Check::Cluster, "of a cluster of 1");
    // The source wraps around the address space.
    let wraps = copy("%r1", "%rd5").replace("16, [%r1", "32, [%r1");
    let wraps = format!("mov.b64 %rd5, -16; {first} {} {wraps} {WAIT} OVER:", ANNOUNCE.replace("16;", "32;"));
    reported(&wraps, ONE, Check::OutOfBounds, "16 bytes at 0xfffffffffffffff0");
    reported("mov.b64 %rd5, -64; prefetch.param.tensormap [%rd5];", ONE, Check::OutOfBounds, "before every allocation");
}

#[test]
fn prefetches() {
    let prefetch =
        |from: &str, bytes: u32| format!("@%p1 bra OVER; cp.async.bulk.prefetch.L2.global [{from}], {bytes}; OVER:");
    expect(&prefetch("%rd2", 4096), ONE, &[]);
    reported(&prefetch("%rd2", 4112), ONE, Check::OutOfBounds, "beyond the end");
    reported(&prefetch("%rd2", 24), ONE, Check::BulkCopy, "a multiple of 16");
    reported(&prefetch("%rd2+8", 16), ONE, Check::Misaligned, "what a bulk prefetch reads");
}

const TILE: &str = "cp.async.bulk.tensor.1d.shared::cluster.global.tile.mbarrier::complete_tx::bytes \
    [%r1], [%rd3, {%r4}], [%r1+1024];";

#[test]
fn tiles() {
    let load = format!("mov.u32 %r4, 32; @%p1 bra OVER; {ANNOUNCE} {TILE} {WAIT}");
    let whole = format!("{load} ld.shared.u32 %r5, [%r1+4]; st.global.u32 [%rd1], %r5; OVER:");
    expect(&whole, ONE, &[27]);
    expect(&whole.replace("%rd3", "%rd4"), ONE, &[27]);
    // The swizzle moves the last 16 bytes of shared memory beyond its end.
    let end = format!("{load} OVER:").replace("[%r1],", "[%r1+1152],");
    expect(&end, ONE, &[]);
    reported_of(&end, ONE, &map(&[4096], &[16], Swizzle::B128), Check::OutOfBounds, "outside the block's 1168 bytes");
    let im2col = TILE
        .replace(".1d", ".3d")
        .replace(".tile", ".im2col")
        .replace("{%r4}", "{%r4,%r4,%r4}")
        .replace("[%r1+1024];", "[%r1+1024], {%h1};");
    let whole = format!("mov.u32 %r4, 0; mov.u16 %h1, 0; @%p1 bra OVER; {ANNOUNCE} {im2col} {WAIT} OVER:");
    reported_of(&whole, ONE, &map(&[16, 8, 8], &[16, 1, 1], Swizzle::None), Check::BulkCopy, "im2col");
}

#[test]
fn reductions() {
    let add = "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [%rd1], [%r1], 16;";
    let whole = format!("mov.u32 %r5, 3; @%p1 bra OVER; {FOUR} {add} {COMMIT} cp.async.bulk.wait_group 0; OVER:");
    for threads in [1, 2] {
        for grid in [2, 40] {
            expect(&whole, Shape { grid, threads, ..ONE }, &[3 * grid; 4]);
        }
    }
    // Plain copies of several blocks to one place race.
    let store = whole.replace("cp.reduce", "cp").replace(".add.u32", "");
    reported(&store, Shape { grid: 2, ..ONE }, Check::GlobalRace, "wrote in this launch");
    let into = "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.add.u32 \
         [%r1+16], [%r1], 16, [%r1+1024];";
    let whole = format!("mov.u32 %r5, 3; @%p1 bra OVER; {FOUR} {ANNOUNCE} {into} {WAIT} OVER:");
    reported(&whole, ONE, Check::BulkCopy, "reduction into shared memory");
}

#[test]
fn groups_of_copies() {
    let store = "cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r1], 16;";
    let most = "cp.async.bulk.wait_group 4294967295;";
    let whole = format!(
        "mov.u32 %r5, 6; @%p1 bra OVER; {most} {FOUR} {COMMIT} {store} {COMMIT} {most}\n\
         cp.async.bulk.wait_group 0; OVER:"
    );
    expect(&whole, ONE, &[6; 4]);
    // One warp stores two stages and says when the first was read; it waits twice more while the other warp fills that anew.
    let stages = |waits: &str| {
        format!(
            "shl.b32 %r5, %r2, 2; and.b32 %r5, %r5, 127; add.u32 %r5, %r5, %r1;\n\
             setp.ge.u32 %p3, %r2, 32; @%p3 bra FILL;\n\
             add.u32 %r6, %r2, 32; st.shared.u32 [%r5], %r2; st.shared.u32 [%r5+128], %r6; fence.proxy.async;\n\
             bar.warp.sync -1; @%p1 bra OVER;\n\
             cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r1], 128; {COMMIT}\n\
             cp.async.bulk.global.shared::cta.bulk_group [%rd1+128], [%r1+128], 128; {COMMIT}\n\
             {waits} mbarrier.arrive.shared.b64 _, [%r1+1024];\n\
             cp.async.bulk.wait_group.read 0; cp.async.bulk.wait_group 0; bra OVER;\n\
             FILL: {WAIT} st.shared.u32 [%r5], 99;\nOVER:"
        )
    };
    expect(&stages("cp.async.bulk.wait_group.read 1;"), TWO_WARPS, &(0..64).collect::<Vec<_>>());
    // Without the first wait the stage may not have been read.
    let found = SCHEDULES.filter_map(|s| run(&stages(""), TWO_WARPS, &plain(), s).err());
    let checks: Vec<_> = found.map(|fault| fault.check).collect();
    assert!(!checks.is_empty() && checks.iter().all(|c| [Check::AsyncInFlight, Check::SharedRace].contains(c)));
}

/// Rank 0 copies 16 bytes to its peer, whose first thread acknowledges them; then rank 0's second
/// warp fills the source anew.
fn push(acknowledged: bool) -> String {
    let (wait, arrive) = if acknowledged {
        (
            "ASK: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p2, [%r1+1032], 0; @!%p2 bra ASK;",
            "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r5+1032];",
        )
    } else {
        ("", "")
    };
    format!(
        "mov.u32 %r6, 7; sub.u32 %r4, 1, %r3; mapa.shared::cluster.u32 %r5, %r1, %r4; setp.eq.u32 %p3, %r3, 1;\n\
         @!%p1 st.shared.v4.u32 [%r1], {{%r6,%r6,%r6,%r6}}; fence.proxy.async; bar.sync 0; @%p3 bra PEER;\n\
         barrier.cluster.arrive; barrier.cluster.wait; setp.eq.u32 %p4, %r2, 32; @%p4 bra REFILL; @%p1 bra OVER;\n\
         cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes\n\
         [%r5+64], [%r1], 16, [%r5+1024]; bra OVER;\n\
         REFILL: {wait} st.shared.u32 [%r1], 9; bra OVER;\n\
         PEER: @!%p1 {ANNOUNCE} barrier.cluster.arrive; barrier.cluster.wait; @%p1 bra OVER;\n\
         {WAIT} ld.shared.u32 %r7, [%r1+64]; st.global.u32 [%rd1], %r7; {arrive}\n\
         OVER: barrier.cluster.arrive; barrier.cluster.wait;"
    )
}

#[test]
fn sources_in_shared_memory() {
    expect(&push(true), CLUSTER, &[7]);
    let found: Vec<_> = SCHEDULES.filter_map(|s| run(&push(false), CLUSTER, &plain(), s).err()).collect();
    assert!(!found.is_empty());
    for fault in found {
        assert!([Check::AsyncInFlight, Check::SharedRace, Check::ProxyFence].contains(&fault.check), "{fault}");
    }
}

#[test]
fn registers_move_after_a_divergent_branch() {
    let body = "@%p1 bra JOIN; add.u32 %r5, %r2, 1; add.u32 %r5, %r5, 1;\n\
                JOIN: add.u32 %r6, %r2, 1; setmaxnreg.dec.sync.aligned.u32 40; setmaxnreg.inc.sync.aligned.u32 232;\n\
                mul.wide.u32 %rd5, %r2, 4; add.u64 %rd1, %rd1, %rd5; st.global.u32 [%rd1], %r6;";
    expect(body, Shape { block: 128, ..ONE }, &(1..=128).collect::<Vec<_>>());
}

#[test]
fn loops_that_wait_for_others() {
    // All warps ask, and meet, until the copy is there.
    let ask = format!(
        "@!%p1 {ANNOUNCE} @!%p1 {}\n\
         LOOP: bar.sync 1; mbarrier.test_wait.parity.shared.b64 %p2, [%r1+1024], 0; @!%p2 bra LOOP;\n\
         ld.shared.u32 %r5, [%r1+4]; mul.wide.u32 %rd5, %r2, 4; add.u64 %rd1, %rd1, %rd5; st.global.u32 [%rd1], %r5;",
        copy("%r1", "%rd2+16")
    );
    expect(&ask, TWO_WARPS, &[15; 64]);
    let spin = "mov.u32 %r5, 0; @!%p1 st.shared.u32 [%r1], %r5; bar.sync 0; setp.ge.u32 %p3, %r2, 256; @%p3 bra SET;\n\
                LOOP: ld.volatile.shared.u32 %r5, [%r1]; setp.eq.u32 %p2, %r5, 0; @%p2 bra LOOP; bra OVER;\n\
                SET: mov.u32 %r5, 1; st.volatile.shared.u32 [%r1], %r5;\n\
                OVER: mul.wide.u32 %rd5, %r2, 4; add.u64 %rd1, %rd1, %rd5; st.global.u32 [%rd1], %r5;";
    expect(spin, Shape { block: 288, ..ONE }, &[1; 288]);
}

#[test]
fn products_that_nothing_waits_for() {
    let body = |count: u32| {
        format!(
            "mov.u32 %r4, 0; mov.u32 %r5, 0; shl.b32 %r6, %r2, 3; add.u32 %r6, %r6, %r1;\n\
             mov.b64 %rd5, 0x40; mov.pred %p4, 0;\n\
             st.shared.v2.u32 [%r6], {{%r5,%r5}}; fence.proxy.async; bar.sync 0; wgmma.fence.sync.aligned;\n\
             LOOP: wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16\n\
             {{%f1,%f2,%f3,%f4}}, %rd5, %rd5, %p4, 1, 1, 0, 0;\n\
             add.u32 %r4, %r4, 1; setp.lt.u32 %p3, %r4, {count}; mov.pred %p4, 1; @%p3 bra LOOP;\n\
             wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;"
        )
    };
    let shape = Shape { block: 128, ..ONE };
    expect(&body(1000), shape, &[]);
    reported(&body(70_000), shape, Check::Wgmma, "that nothing waits for");
}
