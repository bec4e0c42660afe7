//! Dependent launches: what comes before `griddepcontrol.wait`, of the thread itself or of one that tells it.

use vgpu_cuda::exec::{self, Launch, Options, Ran};
use vgpu_cuda::fault::{Check, Fault};
use vgpu_cuda::mem::GlobalMemory;
use vgpu_cuda::profile::Profile;

use crate::lab::OPTIONS;

/// A block of 64 threads; `%r1` the thread, `%p1` whether it is the first, `%p2` whether it is of warp 1, `%rd1` its word, `%r3` the
/// address of a barrier for one arrival.
fn run(memory: &GlobalMemory, words: u64, body: &str, schedule: u64, unfinished: &[u16]) -> Result<Ran, Box<Fault>> {
    let text = format!(
        ".version 8.0\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 words) {{\n\
         .reg .pred %p<5>; .reg .b32 %r<9>; .reg .b64 %rd<5>;\n.shared .align 8 .b8 bar[8];\n\
         mov.u32 %r1, %tid.x; setp.eq.u32 %p1, %r1, 0; setp.ge.u32 %p2, %r1, 32; mov.u32 %r3, bar;\n\
         ld.param.u64 %rd1, [words]; mul.wide.u32 %rd2, %r1, 4; add.u64 %rd1, %rd1, %rd2;\n\
         @%p1 mbarrier.init.shared.b64 [%r3], 1; bar.sync 0;\n{body}\nret;\n}}\n"
    );
    let program = vgpu_cuda::ptx::load(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let launch = Launch {
        program: &program,
        kernel: &program.kernels[0],
        constants: &program.constants,
        const_bank: &[],
        params: &words.to_le_bytes(),
        grid: [1, 1, 1],
        block: [64, 1, 1],
        dynamic_shared: 0,
        cluster: [1, 1, 1],
        unfinished,
        workspace: 0,
    };
    let profile = Profile::named("h100").expect("known");
    exec::run(&launch, memory, &profile, &Options { schedule, ..OPTIONS }).map_err(Box::new)
}

/// `second` behind a launch that writes all words, which may still run.
fn after(second: &str, schedule: u64) -> Result<(), Box<Fault>> {
    let memory = GlobalMemory::new(1 << 20);
    let words = memory.alloc(256).expect("room");
    let first = run(&memory, words, "st.global.u32 [%rd1], %r1;", schedule, &[]).expect("no fault");
    run(&memory, words, second, schedule, &first.unfinished).map(drop)
}

const READ: &str = "ld.global.u32 %r2, [%rd1];";

#[test]
fn who_waited_or_was_told_may_read() {
    let told_by_barrier = "@%p2 bra OTHER; griddepcontrol.wait; bar.sync 0; bra READ; OTHER: bar.sync 0; READ:";
    // Warp 1 may find the phase complete at once.
    let told_by_mbarrier = "@%p2 bra OTHER; griddepcontrol.wait; @%p1 mbarrier.arrive.shared.b64 %rd4, [%r3]; bra READ;\n\
                            OTHER: mbarrier.try_wait.parity.shared.b64 %p3, [%r3], 0; @!%p3 bra OTHER; READ:";
    for schedule in 0..8 {
        for order in ["griddepcontrol.wait;", told_by_barrier, told_by_mbarrier] {
            after(&format!("{order} {READ}"), schedule).unwrap_or_else(|fault| panic!("schedule {schedule}: {fault}"));
        }
    }
}

#[test]
fn nobody_else_may() {
    let alone = format!("@%p2 bra OTHER; griddepcontrol.wait; OTHER: {READ}");
    let late = format!("{READ} griddepcontrol.wait;");
    let write = "st.global.u32 [%rd1], 1; griddepcontrol.wait;".to_string();
    for schedule in 0..8 {
        for body in [READ, &alone, &late, &write] {
            let fault = after(body, schedule).expect_err(body);
            assert_eq!(fault.check, Check::GridDependency, "schedule {schedule}: {fault}");
        }
    }
}
