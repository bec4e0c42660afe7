//! The forms of compute capability 9.0: each loads as the operation that it is, its near misses are refused with their
//! line, and ptxas (where `VGPU_NVCC` names the nvcc beside it) agrees with both.

use std::process::Command;

use vgpu_cuda::ir::*;
use vgpu_cuda::ptx::{LoadError, load};

use crate::library::nvcc;

/// A kernel whose body, one line, is line 15.
fn kernel(body: &str) -> String {
    format!(
        ".version 8.6\n.target sm_90a\n.address_size 64\n.visible .entry k(.param .u64 p0, .param .align 64 .b8 map[128]) {{\n\
         .reg .pred %p<9>;\n.reg .b16 %h<9>;\n.reg .b32 %r<300>;\n.reg .f32 %f<300>;\n.reg .b64 %rd<9>;\n.reg .f64 %fd<9>;\n\
         .shared .align 128 .b8 sm[2048];\n.shared .align 8 .b64 bar;\nmov.u64 %rd1, 0;\n\n{body}\nret;\n}}\n"
    )
}

/// The operation of the body, which may have others before it.
fn op(body: &str) -> Op {
    let program = load(&kernel(body)).unwrap_or_else(|error| panic!("{error}\n{body}"));
    let code = &program.kernels[0].code;
    // Behind it: `ret`, and the end.
    code[code.len() - 3].op.clone()
}

fn list(prefix: &str, count: usize) -> String {
    let names: Vec<String> = (0..count).map(|i| format!("{prefix}{i}")).collect();
    format!("{{{}}}", names.join(","))
}

/// A product's text: `rest` comes behind its result.
fn product(shape: &str, count: usize, prefix: &str, rest: &str) -> String {
    format!("wgmma.mma_async.sync.aligned.{shape} {}, {rest};", list(prefix, count))
}

fn known() -> Vec<String> {
    let mut lines: Vec<String> = KNOWN.iter().map(|line| line.to_string()).collect();
    for space in ["", ".shared", ".shared::cta"] {
        let a = if space.is_empty() { "[%rd1+8]" } else { "[%r1+8]" };
        for scope in ["", ".acquire.cta", ".acquire.cluster", ".relaxed.cluster"] {
            lines.push(format!("mbarrier.test_wait.parity{scope}{space}.b64 %p1, {a}, %r2;"));
            lines.push(format!("mbarrier.test_wait{scope}{space}.b64 %p1, {a}, %rd2;"));
            lines.push(format!("mbarrier.try_wait.parity{scope}{space}.b64 %p1, {a}, 1;"));
            lines.push(format!("mbarrier.try_wait{scope}{space}.b64 %p1, {a}, %rd2, 0x989680;"));
        }
        for scope in ["", ".release.cta", ".release.cluster", ".relaxed.cta"] {
            for drop in ["arrive", "arrive_drop"] {
                lines.push(format!("mbarrier.{drop}{scope}{space}.b64 %rd2, {a};"));
                lines.push(format!("mbarrier.{drop}{scope}{space}.b64 _, {a}, 3;"));
                lines.push(format!("mbarrier.{drop}.expect_tx{scope}{space}.b64 %rd2, {a}, %r2;"));
            }
        }
        lines.push(format!("mbarrier.arrive.noComplete{space}.b64 %rd2, {a}, 2;"));
        lines.push(format!("mbarrier.arrive_drop.noComplete.release.cta{space}.b64 %rd2, {a}, 2;"));
        lines.push(format!("mbarrier.init{space}.b64 {a}, %r2;"));
        lines.push(format!("mbarrier.inval{space}.b64 {a};"));
        lines.push(format!("mbarrier.expect_tx.relaxed.cta{space}.b64 {a}, 64;"));
        lines.push(format!("mbarrier.complete_tx{space}.b64 {a}, 64;"));
        lines.push(format!("cp.async.mbarrier.arrive{space}.b64 {a};"));
        lines.push(format!("cp.async.mbarrier.arrive.noinc{space}.b64 {a};"));
    }
    for dims in 1..=5 {
        let at = list("%r", dims);
        for to in ["shared::cluster", "shared::cta"] {
            for tile in ["", ".tile"] {
                lines.push(format!(
                    "cp.async.bulk.tensor.{dims}d.{to}.global{tile}.mbarrier::complete_tx::bytes [%r9], [%rd1, {at}], [bar];"
                ));
            }
        }
        lines.push(format!(
            "cp.async.bulk.tensor.{dims}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster\
             .L2::cache_hint [%r9], [%rd1, {at}], [bar], %h1, %rd2;"
        ));
        lines.push(format!("cp.async.bulk.tensor.{dims}d.global.shared::cta.bulk_group [%rd1, {at}], [%r9];"));
        lines.push(format!(
            "cp.async.bulk.tensor.{dims}d.global.shared::cta.tile.bulk_group.L2::cache_hint [%rd1, {at}], [%r9], %rd2;"
        ));
        lines.push(format!(
            "cp.reduce.async.bulk.tensor.{dims}d.global.shared::cta.add.bulk_group [%rd1, {at}], [%r9];"
        ));
        lines.push(format!("cp.async.bulk.prefetch.tensor.{dims}d.L2.global.tile [%rd1, {at}];"));
        if dims >= 3 {
            let offsets = list("%h", dims - 2);
            lines.push(format!(
                "cp.async.bulk.tensor.{dims}d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%r9], \
                 [%rd1, {at}], [bar], {offsets};"
            ));
            lines.push(format!(
                "cp.async.bulk.tensor.{dims}d.global.shared::cta.im2col_no_offs.bulk_group [%rd1, {at}], [%r9];"
            ));
            lines.push(format!("cp.async.bulk.prefetch.tensor.{dims}d.L2.global.im2col [%rd1, {at}], {offsets};"));
        }
    }
    for (op, types) in [
        ("add", "u32 s32 u64 f32 f64"),
        ("add.noftz", "f16 bf16"),
        ("min", "u32 s32 u64 s64 f16 bf16"),
        ("max", "u32 s32 u64 s64 f16 bf16"),
        ("inc", "u32"),
        ("dec", "u32"),
        ("and", "b32 b64"),
        ("or", "b32 b64"),
        ("xor", "b32 b64"),
    ] {
        for ty in types.split(' ') {
            lines.push(format!("cp.reduce.async.bulk.global.shared::cta.bulk_group.{op}.{ty} [%rd1], [%r1], 16;"));
        }
    }
    for (op, types) in [("add", "u32 s32 u64"), ("min", "u32 s32"), ("max", "u32 s32"), ("inc", "u32"), ("xor", "b32")]
    {
        for ty in types.split(' ') {
            lines.push(format!(
                "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.{op}.{ty} [%r1], [%r2], 16, [%r3];"
            ));
            let b = if ty.ends_with("64") { "%rd2" } else { "%r2" };
            lines.push(format!(
                "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.{op}.{ty} [%r1], {b}, [%r3];"
            ));
        }
    }
    for n in (8..=256).step_by(8) {
        lines.push(product(&format!("m64n{n}k16.f32.f16.f16"), n / 2, "%f", "%rd1, %rd2, %p1, 1, -1, 0, 1"));
        lines.push(product(&format!("m64n{n}k16.f16.f16.f16"), n / 4, "%r", "%rd1, %rd2, %p1, 1, 1, 1, 0"));
        lines.push(product(&format!("m64n{n}k16.f32.bf16.bf16"), n / 2, "%f", "{%r1,%r2,%r3,%r4}, %rd2, 1, 1, 1, 1"));
        lines.push(product(&format!("m64n{n}k8.f32.tf32.tf32"), n / 2, "%f", "%rd1, %rd2, %p1, -1, 1"));
        lines.push(product(&format!("m64n{n}k32.f32.e4m3.e5m2"), n / 2, "%f", "{%r1,%r2,%r3,%r4}, %rd2, 0, 1, 1"));
        lines.push(product(&format!("m64n{n}k32.f16.e5m2.e5m2"), n / 4, "%r", "%rd1, %rd2, %p1, 1, 1"));
    }
    for n in [8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 256] {
        lines.push(product(&format!("m64n{n}k32.s32.s8.u8"), n / 2, "%r", "%rd1, %rd2, %p1"));
        lines.push(product(
            &format!("m64n{n}k32.s32.u8.s8.satfinite"),
            n / 2,
            "%r",
            "{%r200,%r201,%r202,%r203}, %rd2, %p1",
        ));
    }
    lines
}

const KNOWN: &[&str] = &[
    "mbarrier.init.shared::cta.b64 [bar], 12;",
    "mbarrier.arrive.shared::cluster.b64 _, [%r1];",
    "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r1], 2;",
    "mbarrier.arrive.expect_tx.release.cluster.shared::cluster.b64 _, [%r1], 2;",
    "mbarrier.arrive_drop.shared::cluster.b64 _, [%r1];",
    "mbarrier.expect_tx.relaxed.cluster.shared::cluster.b64 [%r1], 16;",
    "mbarrier.complete_tx.relaxed.cluster.shared::cluster.b64 [%r1], 16;",
    "mbarrier.pending_count.b64 %r1, %rd2;",
    "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [sm], [%rd1], 64, [bar];",
    "cp.async.bulk.shared::cta.global.mbarrier::complete_tx::bytes.L2::cache_hint [%r1], [%rd1], %r2, [%r3], %rd2;",
    "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%r1], [%rd1], %r2, [%r3], %h1;",
    "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r1], [sm], 64, [%r3];",
    "cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r1], %r2;",
    "cp.async.bulk.global.shared::cta.bulk_group.L2::cache_hint [%rd1], [%r1], %r2, %rd2;",
    "cp.async.bulk.prefetch.L2.global [%rd1], 64;",
    "cp.async.bulk.prefetch.L2.global.L2::cache_hint [%rd1], 64, %rd2;",
    "cp.async.bulk.commit_group;",
    "cp.async.bulk.wait_group 3;",
    "cp.async.bulk.wait_group.read 0;",
    "prefetch.tensormap [%rd1];",
    "prefetch.param.tensormap [map];",
    "prefetch.const.tensormap [%rd1];",
    "fence.proxy.async;",
    "fence.proxy.async.global;",
    "fence.proxy.async.shared::cta;",
    "fence.proxy.async.shared::cluster;",
    "fence.proxy.alias;",
    "fence.mbarrier_init.release.cluster;",
    "fence.acq_rel.cluster;",
    "fence.sc.cluster;",
    "fence.acquire.cluster;",
    "fence.release.cta;",
    "barrier.cluster.arrive;",
    "barrier.cluster.arrive.aligned;",
    "barrier.cluster.arrive.release.aligned;",
    "barrier.cluster.arrive.relaxed;",
    "barrier.cluster.arrive.relaxed.aligned;",
    "barrier.cluster.wait;",
    "barrier.cluster.wait.acquire.aligned;",
    "mapa.shared::cluster.u32 %r1, %r2, %r3;",
    "mapa.shared::cluster.u32 %r1, sm+16, 1;",
    "mapa.shared::cluster.u64 %rd2, %rd3, 1;",
    "mapa.u64 %rd2, %rd3, %r1;",
    "getctarank.shared::cluster.u32 %r1, %r2;",
    "getctarank.shared::cluster.u64 %r1, %rd2;",
    "getctarank.u64 %r1, %rd2;",
    "ld.shared::cluster.u32 %r1, [%r2+4];",
    "ld.acquire.cluster.shared::cluster.b32 %r1, [%r2];",
    "ld.volatile.shared::cluster.v4.f32 {%f1,%f2,%f3,%f4}, [sm];",
    "st.shared::cluster.b64 [%r1], %rd2;",
    "st.release.cluster.shared::cluster.u32 [%rd1], %r2;",
    "atom.shared::cluster.add.u32 %r1, [%r2], 1;",
    "red.release.cluster.shared::cluster.max.s32 [%r2], %r1;",
    "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.u32 [%r1], %r2, [%r3];",
    "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%r1], {%r2,%r3,%r4,%r5}, [%r6];",
    "st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.s64 [%r1], {%rd2,%rd3}, [%r6];",
    "st.async.mbarrier::complete_tx::bytes.v2.f32 [%rd1], {%f1,%f2}, [%rd2];",
    "red.async.relaxed.cluster.mbarrier::complete_tx::bytes.or.b32 [%rd1], %r1, [%rd2];",
    "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.dec.u32 [%r1], %r2, [%r3];",
    "cvta.shared::cluster.u64 %rd2, %rd3;",
    "cvta.to.shared::cluster.u64 %rd2, %rd3;",
    "isspacep.shared::cluster %p1, %rd2;",
    "cvta.param.u64 %rd2, %rd3;",
    "mov.b64 %rd2, map;",
    "setmaxnreg.inc.sync.aligned.u32 240;",
    "setmaxnreg.dec.sync.aligned.u32 24;",
    "griddepcontrol.wait;",
    "griddepcontrol.launch_dependents;",
    "wgmma.fence.sync.aligned;",
    "wgmma.commit_group.sync.aligned;",
    "wgmma.wait_group.sync.aligned 7;",
    "elect.sync %r1|%p1, -1;",
    "elect.sync _|%p1, %r1;",
    "cvt.rn.satfinite.e4m3x2.f32 %h1, %f1, %f2;",
    "cvt.rn.satfinite.relu.e5m2x2.f32 %h1, %f1, %f2;",
    "cvt.rn.satfinite.e4m3x2.f16x2 %h1, %r1;",
    "cvt.rn.satfinite.relu.e5m2x2.f16x2 %h1, %r1;",
    "cvt.rn.f16x2.e4m3x2 %r1, %h1;",
    "cvt.rn.relu.f16x2.e5m2x2 %r1, %h1;",
    "mov.u32 %r1, %clusterid.x;",
    "mov.u32 %r1, %nclusterid.z;",
    "mov.u32 %r1, %cluster_ctaid.y;",
    "mov.u32 %r1, %cluster_nctaid.x;",
    "mov.u32 %r1, %cluster_ctarank;",
    "mov.u32 %r1, %cluster_nctarank;",
    "mov.pred %p1, %is_explicit_cluster;",
    "mov.u32 %r1, %aggr_smem_size;",
    "mov.u32 %r1, %total_smem_size;",
];

/// What ptxas refuses too.
const WRONG: &[&str] = &[
    "mbarrier.init.b64 [%r1], 1;",
    "mbarrier.init.shared.b32 [%r1], 1;",
    "mbarrier.init.shared::cluster.b64 [%r1], 1;",
    "mbarrier.inval.shared::cluster.b64 [%r1];",
    "mbarrier.init.shared.b64 [%r1];",
    "mbarrier.init.shared.b64 [%r1], %rd1;",
    "mbarrier.arrive.shared::cluster.b64 %rd1, [%r1];",
    "mbarrier.arrive.acquire.cta.shared.b64 %rd1, [%r1];",
    "mbarrier.arrive.expect_tx.shared.b64 %rd1, [%r1];",
    "mbarrier.arrive.noComplete.shared.b64 %rd1, [%r1];",
    "mbarrier.arrive.noComplete.shared::cluster.b64 _, [%r1], 1;",
    "mbarrier.arrive.release.gpu.shared.b64 %rd1, [%r1];",
    "mbarrier.arrive.release.shared.b64 %rd1, [%r1];",
    "mbarrier.test_wait.parity.shared.b64 %p1, [%r1], %rd1;",
    "mbarrier.test_wait.shared.b64 %p1, [%r1], %r2;",
    "mbarrier.test_wait.shared.b64 %p1, [%r1], %rd1, 5;",
    "mbarrier.try_wait.release.cta.shared.b64 %p1, [%r1], %rd1;",
    "mbarrier.try_wait.shared::cluster.b64 %p1, [%r1], %rd1;",
    "mbarrier.try_wait.shared.b64 %r2, [%r1], %rd1;",
    "mbarrier.pending_count.b64 %rd1, %rd2;",
    "mbarrier.frob.shared.b64 [%r1];",
    "cp.async.mbarrier.arrive.shared::cluster.b64 [%r1];",
    "cp.async.bulk.shared.global.mbarrier::complete_tx::bytes [%r1], [%rd1], 64, [%r3];",
    "cp.async.bulk.shared::cluster.global.bulk_group [%r1], [%rd1], 64;",
    "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd1], 64;",
    "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd1], 64, [%r3], %h1;",
    "cp.async.bulk.shared::cta.global.mbarrier::complete_tx::bytes.multicast::cluster [%r1], [%rd1], 64, [%r3], %h1;",
    "cp.async.bulk.global.shared::cta.mbarrier::complete_tx::bytes [%rd1], [%r1], 64, [%r3];",
    "cp.async.bulk.global.shared::cluster.bulk_group [%rd1], [%r1], 64;",
    "cp.async.bulk.global.shared::cta [%rd1], [%r1], 64;",
    "cp.async.bulk.wait_group %r1;",
    "cp.async.bulk.tensor.6d.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd1, {%r1}], [%r3];",
    "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd1, {%r1}], [%r3];",
    "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd1], [%r3];",
    "cp.async.bulk.tensor.2d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%r1], [%rd1, {%r1, %r2}], [%r3], {%h1};",
    "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%r1], [%rd1, {%r1,%r2,%r3,%r4}], [%r3], {%h1};",
    "cp.async.bulk.tensor.2d.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r1], [%rd1, {%r1, %r2}], [%r3];",
    "cp.reduce.async.bulk.tensor.2d.global.shared::cta.bulk_group [%rd1, {%r1, %r2}], [%r9];",
    "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f16 [%rd1], [%r1], 16;",
    "cp.reduce.async.bulk.global.shared::cta.bulk_group.min.f32 [%rd1], [%r1], 16;",
    "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.add.f32 [%r1], [%r2], 16, [%r3];",
    "fence.proxy.frob;",
    "fence.mbarrier_init.release.gpu;",
    "fence.mbarrier_init.acq_rel.cluster;",
    "barrier.cluster.sync;",
    "barrier.cluster.arrive.acquire;",
    "barrier.cluster.wait.relaxed;",
    "barrier.cluster.wait %r1;",
    "mapa.shared.u32 %r1, %r2, %r3;",
    "mapa.u64 %rd1, %r2, %r3;",
    "getctarank.u64 %rd1, %rd2;",
    "st.async.shared::cluster.u32 [%r1], %r2, [%r3];",
    "st.async.shared::cluster.mbarrier::complete_tx::bytes.u16 [%r1], %h2, [%r3];",
    "red.async.relaxed.cta.shared::cluster.mbarrier::complete_tx::bytes.add.u32 [%r1], %r2, [%r3];",
    "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.f32 [%r1], %f2, [%r3];",
    "setmaxnreg.inc.sync.aligned.u32 241;",
    "setmaxnreg.inc.sync.aligned.u32 264;",
    "setmaxnreg.inc.sync.aligned.u32 16;",
    "setmaxnreg.sync.aligned.u32 40;",
    "griddepcontrol.frob;",
    "wgmma.wait_group.sync.aligned;",
    "wgmma.wait_group.sync.aligned %r1;",
    "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%f1,%f2,%f3}, %rd1, %rd2, %p1, 1, 1, 0, 0;",
    "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%f1,%f2,%f3,%f4}, %rd1, %rd2, %p1, 1, 1, 0;",
    "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%f1,%f2,%f3,%f4}, {%r1,%r2,%r3,%r4}, %rd2, %p1, 1, 1, 0, 0;",
    "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%f1,%f2,%f3,%f4}, %rd1, %rd2, %p1, 2, 1, 0, 0;",
    "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%f1,%f2,%f3,%f4}, %rd1, %rd2, %p1, 1, 1, 2, 0;",
    "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.bf16 {%f1,%f2,%f3,%f4}, %rd1, %rd2, %p1, 1, 1, 0, 0;",
    "wgmma.mma_async.sync.aligned.m64n8k8.f32.f16.f16 {%f1,%f2,%f3,%f4}, %rd1, %rd2, %p1, 1, 1, 0, 0;",
    "wgmma.mma_async.sync.aligned.m64n12k16.f32.f16.f16 {%f1,%f2,%f3,%f4,%f5,%f6}, %rd1, %rd2, %p1, 1, 1, 0, 0;",
    "wgmma.mma_async.sync.aligned.m64n8k16.f16.bf16.bf16 {%r1,%r2}, %rd1, %rd2, %p1, 1, 1, 0, 0;",
    "wgmma.mma_async.sync.aligned.m64n8k8.f32.tf32.tf32 {%f1,%f2,%f3,%f4}, %rd1, %rd2, %p1, 1, 1, 0, 0;",
    "wgmma.mma_async.sync.aligned.m64n8k32.s32.s8.s8 {%r1,%r2,%r3,%r4}, %rd1, %rd2, %p1, 1, 1;",
    "wgmma.mma_async.sync.aligned.m64n40k32.s32.s8.s8 {%r1,%r2,%r3,%r4,%r5,%r6,%r7,%r8,%r9,%r10,%r11,%r12,%r13,%r14,%r15,%r16,%r17,%r18,%r19,%r20}, %rd1, %rd2, %p1;",
    "wgmma.mma_async.sync.aligned.m64n8k32.f32.e4m3.e4m3.satfinite {%f1,%f2,%f3,%f4}, %rd1, %rd2, %p1, 1, 1;",
    "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%f1,%f2,%f3,%f4}, %rd1, %r2, %p1, 1, 1, 0, 0;",
];

/// What the language has and the virtual GPU refuses by name.
const NOT_HERE: &[&str] = &[
    "fence.proxy.tensormap::generic.release.gpu;",
    "fence.proxy.tensormap::generic.acquire.gpu [%rd1], 128;",
    "wgmma.mma_async.sync.aligned.m64n8k256.s32.b1.b1.and.popc {%r1,%r2,%r3,%r4}, %rd1, %rd2, %p1;",
];

/// What the language does not have, though ptxas takes it.
const LENIENT: &[&str] = &[
    "wgmma.fence.sync;",
    "mapa.shared::cluster.s32 %r1, %r2, %r3;",
    "mapa.u32 %r1, %r2, %r3;",
    "st.async.shared::cta.mbarrier::complete_tx::bytes.u32 [%r1], %r2, [%r3];",
    "st.async.mbarrier::complete_tx::bytes.u32 [%r1], %r2, [%r3];",
];

#[test]
fn what_is_known_loads() {
    for line in known() {
        load(&kernel(&line)).unwrap_or_else(|error| panic!("{error}\n{line}"));
    }
}

#[test]
fn near_misses_are_refused_with_their_line() {
    let is_refused = |body: &&&str| match load(&kernel(body)) {
        Err(LoadError::Syntax { line: 15, .. }) => true,
        Err(LoadError::Unknown { line: 15, text, .. }) => body.starts_with(&text),
        _ => false,
    };
    let others: Vec<_> = WRONG.iter().chain(NOT_HERE).chain(LENIENT).filter(|body| !is_refused(body)).collect();
    assert!(others.is_empty(), "{others:#?}");
}

/// Whether ptxas takes the text, and what it says.
fn assembles(name: &str, text: &str) -> Option<(bool, String)> {
    let directory = std::env::temp_dir().join(format!("vgpu_forms_{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let source = directory.join(name);
    std::fs::write(&source, text).expect("written");
    let found = Command::new(nvcc()?.with_file_name("ptxas"))
        .args(["-arch=sm_90a", "-O0", "-o", "/dev/null"])
        .arg(&source)
        .output()
        .expect("ptxas runs");
    std::fs::remove_file(&source).expect("removed");
    Some((found.status.success(), String::from_utf8_lossy(&found.stderr).into_owned()))
}

#[test]
fn ptxas_agrees() {
    let all: Vec<String> = known();
    // In one module: a kernel for each few lines, so that ptxas has not all registers at once.
    let Some((taken, said)) = assembles("known.ptx", &kernel(&all.join("\n"))) else { return };
    assert!(taken, "{said}");
    let takes = |line: &&&str| assembles("wrong.ptx", &kernel(line)).expect("found before").0;
    let taken: Vec<_> = WRONG.iter().filter(takes).collect();
    assert!(taken.is_empty(), "ptxas takes {taken:#?}");
    for line in NOT_HERE {
        let (taken, said) = assembles("other.ptx", &kernel(line)).expect("found before");
        assert!(taken, "{line}: {said}");
    }
}

#[test]
fn barriers_of_transactions() {
    let mbarrier = |body: &str| match op(body) {
        Op::Mbarrier(mbarrier) => *mbarrier,
        other => panic!("{other:?}"),
    };
    let init = mbarrier("mbarrier.init.shared::cta.b64 [bar], 12;");
    assert_eq!((init.space, init.a.base, init.order), (Space::Shared, None, Order::Weak));
    let arrive = mbarrier("mbarrier.arrive.expect_tx.shared.b64 _, [%r1+8], %r2;");
    assert_eq!((arrive.order, arrive.a.offset, arrive.a.narrow), (Order::Release(Scope::Cta), 8, true));
    assert!(matches!(
        arrive.op,
        MbarrierOp::Arrive { state: None, count: None, expect: Some(_), drop: false, no_complete: false }
    ));
    let remote = mbarrier("mbarrier.arrive_drop.release.cluster.shared::cluster.b64 _, [%r1], 2;");
    assert_eq!((remote.order, remote.space), (Order::Release(Scope::Cluster), Space::SharedCluster));
    assert!(matches!(remote.op, MbarrierOp::Arrive { state: None, count: Some(_), expect: None, drop: true, .. }));
    let partial = mbarrier("mbarrier.arrive.noComplete.b64 %rd2, [%rd1], 2;");
    assert_eq!(partial.space, Space::Generic);
    assert!(matches!(partial.op, MbarrierOp::Arrive { state: Some(_), no_complete: true, .. }));
    let wait = mbarrier("mbarrier.try_wait.parity.shared.b64 %p1, [%r1], %r2, 99;");
    assert_eq!(wait.order, Order::Acquire(Scope::Cta));
    assert!(matches!(wait.op, MbarrierOp::Test { phase: WaitPhase::Parity(_), may_wait: true, .. }));
    let test = mbarrier("mbarrier.test_wait.relaxed.cluster.shared.b64 %p1, [%r1], %rd2;");
    assert_eq!(test.order, Order::Relaxed(Scope::Cluster));
    assert!(matches!(test.op, MbarrierOp::Test { phase: WaitPhase::State(_), may_wait: false, .. }));
    let expect = mbarrier("mbarrier.expect_tx.relaxed.cluster.shared::cluster.b64 [%r1], 16;");
    assert_eq!(expect.order, Order::Relaxed(Scope::Cluster));
    let after = mbarrier("cp.async.mbarrier.arrive.noinc.shared.b64 [%r1];");
    assert_eq!(after.op, MbarrierOp::AfterCopies { no_increment: true });
}

#[test]
fn copies_in_bulk() {
    let bulk = |body: &str| match op(body) {
        Op::Bulk(bulk) => *bulk,
        other => panic!("{other:?}"),
    };
    let tile = bulk(
        "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster.L2::cache_hint \
         [sm], [%rd1, {%r1, 5, %r3}], [bar], %h1, %rd2;",
    );
    assert_eq!(tile.direction, BulkDirection::GlobalToShared);
    assert!(matches!(
        (&tile.shared, &tile.mbarrier),
        (Some((Space::SharedCluster, _)), Some((Space::SharedCluster, _)))
    ));
    assert!(tile.multicast.is_some() && tile.bytes.is_none() && tile.reduce.is_none());
    assert!(matches!(&tile.tensor, Some(TensorTile { coordinates, im2col: None }) if coordinates.len() == 3));
    let image = bulk(
        "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%r9], \
         [%rd1, {%r1,%r2,%r3,%r4}], [bar], {%h1,%h2};",
    );
    assert!(matches!(image.tensor, Some(TensorTile { im2col: Some(offsets), .. }) if offsets.len() == 2));
    let store = bulk("cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.bulk_group [%rd1, {%r1,%r2}], [%r9];");
    assert_eq!(store.direction, BulkDirection::SharedToGlobal);
    assert!(matches!(store.shared, Some((Space::Shared, _))));
    assert_eq!((store.mbarrier, store.reduce), (None, Some((BulkReduce::Op(BinOp::Add), None))));
    let sum =
        bulk("cp.reduce.async.bulk.global.shared::cta.bulk_group.L2::cache_hint.add.f32 [%rd1], [%r1], 16, %rd2;");
    assert_eq!(sum.reduce, Some((BulkReduce::Op(BinOp::Add), Some(Ty::F32))));
    assert!(sum.bytes.is_some() && sum.tensor.is_none());
    let peer = bulk("cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r1], [sm], 64, [%r3];");
    assert_eq!(peer.direction, BulkDirection::SharedToCluster);
    assert!(matches!((&peer.shared, peer.other.base), (Some((Space::SharedCluster, _)), None)));
    let own = bulk("cp.async.bulk.shared::cta.global.mbarrier::complete_tx::bytes [%r1], [%rd1], %r2, [%r3];");
    assert!(matches!((own.shared, own.mbarrier), (Some((Space::Shared, _)), Some((Space::Shared, _)))));
    let ahead = bulk("cp.async.bulk.prefetch.L2.global [%rd1], 64;");
    assert_eq!((ahead.direction, ahead.shared), (BulkDirection::Prefetch, None));
    assert_eq!(op("cp.async.bulk.wait_group.read 3;"), Op::BulkWait { pending: 3, read: true });
    assert_eq!(op("cp.async.bulk.commit_group;"), Op::BulkCommit);
}

#[test]
fn products_of_warpgroups() {
    let wgmma = |body: &str| match op(body) {
        Op::Wgmma(wgmma) => *wgmma,
        other => panic!("{other:?}"),
    };
    let w = wgmma(&product("m64n256k16.f32.f16.f16", 128, "%f", "%rd1, %rd2, !%p1, 1, -1, 0, 1"));
    assert_eq!((w.n, w.a_type, w.b_type, w.acc), (256, Element::F16, Element::F16, Accumulator::F32));
    assert_eq!((w.d.len(), &w.d), (128, &w.c));
    assert_eq!((w.negate_a, w.negate_b, w.transpose_a, w.transpose_b), (false, true, false, true));
    assert!(w.add.negate && matches!(w.a, WgmmaA::Shared(_)));
    let w = wgmma(&product("m64n64k16.f16.f16.f16", 16, "%r", "{%r20,%r21,%r22,%r23}, %rd2, 1, -1, 1, 1"));
    assert_eq!((w.d.len(), w.acc), (16, Accumulator::F16));
    assert_eq!((w.negate_a, w.negate_b, w.transpose_a, w.transpose_b), (true, false, false, true));
    assert!(matches!(w.a, WgmmaA::Registers(a) if a.len() == 4));
    let w = wgmma(&product("m64n32k32.s32.u8.s8.satfinite", 16, "%r", "%rd1, %rd2, %p1"));
    assert_eq!((w.a_type, w.b_type, w.acc, w.saturate), (Element::U8, Element::S8, Accumulator::S32, true));
    assert!(
        load(&kernel(&product("m64n8k16.f32.f16.f16", 4, "%f", "%rd1, %rd2, %p1, 1, 1, 0, 0").replace("%f3", "%f2")))
            .is_err()
    );
}

/// A result and a factor of `wgmma` share their slots with nothing, and what else touches them is in the table.
#[test]
fn registers_of_products_are_kept_apart() {
    let others: String =
        (10..40).map(|i| format!("mov.f32 %f{i}, 0f00000000;\nst.shared.f32 [%r50], %f{i};\n")).collect();
    let text = kernel(&format!(
        "mov.u32 %r50, sm;\nmov.f32 %f1, 0f00000000;\nmov.f32 %f2, %f1;\nmov.f32 %f3, %f1;\nmov.f32 %f4, %f1;\nmov.u32 %r1, 7;\n\
         {others}wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {{%f1,%f2,%f3,%f4}}, {{%r1,%r1,%r1,%r1}}, %rd1, 1, 1, 1, 0;\n\
         {others}st.shared.f32 [%r50], %f4;"
    ));
    let program = load(&text).unwrap();
    let kernel = &program.kernels[0];
    let w = kernel.code.iter().find_map(|inst| if let Op::Wgmma(w) = &inst.op { Some(w) } else { None }).unwrap();
    let WgmmaA::Registers(a) = &w.a else { panic!() };
    let kept: Vec<Slot> = w.d.iter().chain(&a[..1]).copied().collect();
    let mut uses = Vec::new();
    for (index, inst) in kernel.code.iter().enumerate() {
        match &inst.op {
            Op::Mov { d, a, .. } => {
                uses.extend(kept.contains(a).then_some((index as u32, *a, false)));
                uses.extend(kept.contains(d).then_some((index as u32, *d, true)));
            }
            Op::St { b, .. } if kept.contains(&b[0]) => uses.push((index as u32, b[0], false)),
            _ => {}
        }
    }
    // Six writes, three reads of %f1, one of %f4: no other value lies in these slots.
    assert_eq!(uses.len(), 9);
    let mut table: Vec<_> = kernel
        .asynchronous
        .iter()
        .flat_map(|(at, uses)| uses.iter().map(|(slot, write)| (*at, *slot, *write)))
        .collect();
    uses.sort_by_key(|&(at, slot, write)| (at, slot.0, write));
    table.sort_by_key(|&(at, slot, write)| (at, slot.0, write));
    assert_eq!(uses, table);
    assert!(kernel.asynchronous.is_sorted_by_key(|(at, _)| *at));
}

#[test]
fn other_operations() {
    let async_fence = |body: &str| match op(body) {
        Op::ProxyFence(ProxyFence::Async { shared, global }) => (shared, global),
        other => panic!("{other:?}"),
    };
    assert_eq!(async_fence("fence.proxy.async;"), (true, true));
    assert_eq!(async_fence("fence.proxy.async.global;"), (false, true));
    assert_eq!(async_fence("fence.proxy.async.shared::cta;"), (true, false));
    assert_eq!(op("fence.mbarrier_init.release.cluster;"), Op::ProxyFence(ProxyFence::MbarrierInit));
    assert_eq!(op("fence.proxy.alias;"), Op::ProxyFence(ProxyFence::Alias));
    let barrier = |arrive, relaxed, aligned| Op::ClusterBarrier(ClusterBarrier { arrive, relaxed, aligned });
    assert_eq!(op("barrier.cluster.arrive.relaxed.aligned;"), barrier(true, true, true));
    assert_eq!(op("barrier.cluster.arrive;"), barrier(true, false, false));
    assert_eq!(op("barrier.cluster.wait.acquire;"), barrier(false, false, false));
    assert!(matches!(op("mapa.shared::cluster.u32 %r1, sm+16, 1;"), Op::Mapa { wide: false, .. }));
    assert!(matches!(op("mapa.u64 %rd2, %rd3, 1;"), Op::Mapa { wide: true, .. }));
    // Into a 64-bit register: widened behind it.
    assert!(matches!(op("mapa.shared::cluster.u64 %rd2, %rd3, 1;"), Op::Cvt { to: Ty::U64, from: Ty::U32, .. }));
    assert!(matches!(op("getctarank.u64 %r1, %rd3;"), Op::GetCtaRank { wide: true, .. }));
    let ordered = Order::Acquire(Scope::Cluster);
    assert!(matches!(op("ld.acquire.cluster.shared::cluster.b32 %r1, [%r2];"),
        Op::Ld { space: Space::SharedCluster, order, .. } if order == ordered));
    assert!(matches!(op("st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.s64 [%r1], {%rd2,%rd3}, [%r6];"),
        Op::StAsync { ty: Ty::S64, reduce: None, b, .. } if b.len() == 2));
    assert!(matches!(op("red.async.relaxed.cluster.mbarrier::complete_tx::bytes.or.b32 [%rd1], %r1, [%rd2];"),
        Op::StAsync { reduce: Some(AtomOp::Or), a, .. } if !a.narrow));
    assert_eq!(op("setmaxnreg.dec.sync.aligned.u32 40;"), Op::MaxRegisters { count: 40, increase: false });
    assert_eq!(op("griddepcontrol.wait;"), Op::GridDependency(GridDependency::Wait));
    assert!(matches!(op("prefetch.param.tensormap [map];"), Op::PrefetchMap { space: Space::Param, .. }));
}

#[test]
fn directives_of_clusters_and_targets() {
    let head = |target: &str, directives: &str| {
        load(&format!(".version 8.6\n.target {target}\n.address_size 64\n.entry k() {directives} {{ ret; }}"))
    };
    let program = head("sm_90a, debug", ".reqnctapercluster 2, 3 .explicitcluster .maxclusterrank 8").unwrap();
    let kernel = &program.kernels[0];
    assert_eq!(
        (kernel.required_cluster, kernel.explicit_cluster, kernel.max_cluster),
        (Some([2, 3, 1]), true, Some(8))
    );
    assert_eq!((program.target, program.exact_target), (90, true));
    assert!(head("sm_100a", "").unwrap().exact_target);
    assert!(!head("sm_100f", "").unwrap().exact_target && !head("sm_90", "").unwrap().exact_target);
    // The launch would count clusters.
    assert!(matches!(head("sm_90", ".blocksareclusters"), Err(LoadError::Unknown { line: 4, .. })));
}
