//! Nanoseconds per warp instruction, by class: `cargo bench -p vgpu --bench instructions`.

use std::time::Instant;

use vgpu_cuda::exec::{self, Launch, Options, TensorMode};
use vgpu_cuda::mem::GlobalMemory;
use vgpu_cuda::profile::Profile;

const ROUNDS: usize = 2_000;
const COPIES: usize = 64;
const REPEATS: usize = 3;

const OPTIONS: Options =
    Options { schedule: 0, tensor: TensorMode::Fast, jitter: false, trace: false, threads: 1, limit: 100_000_000 };
const HARDWARE: Options = Options { tensor: TensorMode::Hardware, ..OPTIONS };

/// Before the loop: `%r1` is the lane's number, `%rd1` the lane's 16 bytes of global memory, `%s4`, `%s8` and `%s16` the
/// lane's bytes of shared memory, as many as the name says. All other registers have a value.
const HEAD: &str = "\
.version 8.0
.target sm_80
.address_size 64
.entry k(.param .u64 data) {
.reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<40>; .reg .b32 %s<20>; .reg .f32 %f<9>; .reg .b64 %rd<9>;
.shared .align 16 .b8 sm[512];
ld.param.u64 %rd1, [data];
mov.u32 %r1, %laneid; mad.wide.u32 %rd1, %r1, 16, %rd1;
mov.u32 %r2, sm; mad.lo.u32 %s4, %r1, 4, %r2; mad.lo.u32 %s8, %r1, 8, %r2; mad.lo.u32 %s16, %r1, 16, %r2;
mov.u32 %r3, 0x3f803c03; mov.u32 %r4, 0x2c002c00; mov.u64 %rd2, 0x3ff0000000000003; mov.u64 %rd3, %rd2;
mov.b32 %f1, %r3; mov.b32 %f2, %r3; mov.u16 %h1, 0x3c03; setp.lt.u32 %p1, %r1, 7;
mov.f32 %f3, 0f00000000; mov.f32 %f4, %f3; mov.f32 %f5, %f3; mov.f32 %f6, %f3; mov.u32 %r5, 0; mov.u32 %r6, 0;
st.shared.v4.u32 [%s16], {%r1, %r1, %r1, %r1}; st.global.v4.u32 [%rd1], {%r1, %r1, %r1, %r1}; bar.sync 0;
mov.u32 %r9, 0;
AGAIN:
";

const CASES: &[(&str, &str)] = &[
    ("mov", "mov.u32 %r10, %r1;"),
    ("add.u32", "add.u32 %r10, %r3, %r4;"),
    ("mul.lo.u32", "mul.lo.u32 %r10, %r3, %r4;"),
    ("shl.b32", "shl.b32 %r10, %r3, %r1;"),
    ("add.u64", "add.u64 %rd4, %rd2, %rd3;"),
    ("mul.wide.u32", "mul.wide.u32 %rd4, %r3, %r4;"),
    ("div.s32", "div.s32 %r10, %r3, %r4;"),
    ("add.f32", "add.f32 %f7, %f1, %f2;"),
    ("max.f32", "max.f32 %f7, %f1, %f2;"),
    ("div.rn.f32", "div.rn.f32 %f7, %f1, %f2;"),
    ("add.f16x2", "add.f16x2 %r10, %r4, %r4;"),
    ("fma.rn.f32", "fma.rn.f32 %f7, %f1, %f1, %f1;"),
    ("fma.rn.f16x2", "fma.rn.f16x2 %r10, %r4, %r4, %r4;"),
    ("setp.lt.s32", "setp.lt.s32 %p2, %r1, %r3;"),
    ("selp.b32", "selp.b32 %r10, %r1, %r3, %p1;"),
    ("cvt.f32.f16", "cvt.f32.f16 %f7, %h1;"),
    ("cvt.rn.f16.f32", "cvt.rn.f16.f32 %h2, %f1;"),
    ("cvt.rzi.s32.f32", "cvt.rzi.s32.f32 %r10, %f1;"),
    ("cvt.rn.f16x2.f32", "cvt.rn.f16x2.f32 %r10, %f1, %f2;"),
    ("ex2.approx.f32", "ex2.approx.f32 %f7, %f1;"),
    ("rsqrt.approx.f32", "rsqrt.approx.f32 %f7, %f1;"),
    ("lg2.approx.f32", "lg2.approx.f32 %f7, %f1;"),
    ("tanh.approx.f32", "tanh.approx.f32 %f7, %f1;"),
    ("shfl.bfly", "shfl.sync.bfly.b32 %r10, %r1, 1, 31, -1;"),
    ("ld.param", "ld.param.u32 %r10, [data];"),
    ("st.shared.u32", "st.shared.u32 [%s4], %r1;"),
    ("ld.shared.u32", "ld.shared.u32 %r10, [%s4];"),
    ("ldmatrix.x4", "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r10, %r11, %r12, %r13}, [%s16];"),
    ("st.global.v2.u32", "st.global.v2.u32 [%rd1], {%r1, %r1};"),
    ("ld.global.v2.u32", "ld.global.v2.u32 {%r10, %r11}, [%rd1];"),
    (
        "cp.async 8 + commit + wait",
        "cp.async.ca.shared.global [%s8], [%rd1], 8; cp.async.commit_group; cp.async.wait_group 0;",
    ),
    ("bar.sync", "bar.sync 0;"),
    (
        "mma f16, f32 sums",
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f3, %f4, %f5, %f6}, {%r4, %r4, %r4, %r4}, {%r4, %r4}, \
         {%f3, %f4, %f5, %f6};",
    ),
    (
        "mma f16, f16 sums",
        "mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%r5, %r6}, {%r4, %r4, %r4, %r4}, {%r4, %r4}, {%r5, %r6};",
    ),
];

/// Seconds of one warp that goes ROUNDS times through so many copies of `step`; the best of some.
fn seconds(step: &str, copies: usize, options: &Options) -> f64 {
    let tail = format!("add.u32 %r9, %r9, 1; setp.lt.u32 %p8, %r9, {ROUNDS}; @%p8 bra AGAIN; ret; }}");
    let program = vgpu_cuda::ptx::load(&(HEAD.to_owned() + &step.repeat(copies) + &tail));
    let program = program.unwrap_or_else(|error| panic!("{step}: {error}"));
    let memory = GlobalMemory::new(1 << 30);
    let data = memory.alloc(512).expect("room");
    let launch = Launch {
        program: &program,
        kernel: &program.kernels[0],
        constants: &program.constants,
        const_bank: &[],
        params: &data.to_le_bytes(),
        grid: [1; 3],
        block: [32, 1, 1],
        dynamic_shared: 0,
        cluster: [1, 1, 1],
        unfinished: &[],
        workspace: 0,
    };
    let profile = Profile::named("a100").expect("known");
    let timed = || {
        let start = Instant::now();
        exec::run(&launch, &memory, &profile, options).unwrap_or_else(|fault| panic!("{step}: {fault}"));
        start.elapsed().as_secs_f64()
    };
    (0..REPEATS).map(|_| timed()).fold(f64::INFINITY, f64::min)
}

fn time(name: &str, step: &str, options: &Options) {
    let spent = seconds(step, COPIES, options) - seconds(step, 0, options);
    let instructions = ROUNDS * COPIES * step.matches(';').count();
    println!("{name:28} {:8.1} ns", spent * 1e9 / instructions as f64);
}

fn main() {
    CASES.iter().for_each(|(name, step)| time(name, step, &OPTIONS));
    let (name, step) = CASES.iter().find(|(name, _)| *name == "mma f16, f32 sums").expect("it is there");
    time(&format!("{name}, hw"), step, &HARDWARE);
}
