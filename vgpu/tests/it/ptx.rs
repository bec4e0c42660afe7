//! PTX text → program: each feature of the syntax in a few lines, errors with their lines, and hostile text.

use std::time::Instant;

use vgpu_cuda::ir::{BinOp, MmaKind, Op, Order, Program, Scope, Slot, Space, Special, Ty};
use vgpu_cuda::ptx::{LoadError, check_target, check_version, load};

const HEAD: &str = ".version 9.0\n.target sm_80\n.address_size 64\n";

/// A kernel `k` with a few registers of each size; the body begins at line 12.
fn kernel(body: &str) -> String {
    format!(
        "{HEAD}.visible .entry k(.param .u64 p0, .param .u32 p1) {{\n.reg .pred %p<9>;\n.reg .b16 %h<9>;\n\
         .reg .b32 %r<40>;\n.reg .f32 %f<9>;\n.reg .b64 %rd<9>;\n.reg .f64 %fd<9>;\n\n{body}\nret;\n}}\n"
    )
}

fn program(body: &str) -> Program {
    load(&kernel(body)).unwrap_or_else(|error| panic!("{error}\n{body}"))
}

fn ops(body: &str) -> Vec<Op> {
    program(body).kernels[0].code.iter().map(|inst| inst.op.clone()).collect()
}

fn constant(program: &Program, slot: Slot) -> u32 {
    assert!(slot.is_constant(), "{slot:?}");
    program.constants[slot.index()]
}

fn first_source(program: &Program) -> Slot {
    match &program.kernels[0].code[0].op {
        Op::Mov { a, .. } => *a,
        other => panic!("{other:?}"),
    }
}

#[test]
fn immediates() {
    for (text, value) in [
        ("5", 5),
        ("-5", -5i32 as u32),
        ("0x10", 16),
        ("010", 8),
        ("0b11", 3),
        ("7U", 7),
        ("0f3F800000", 0x3f80_0000),
        ("~0", u32::MAX),
    ] {
        let program = program(&format!("mov.b32 %r1, {text};"));
        assert_eq!(constant(&program, first_source(&program)), value, "{text}");
    }
    let wide = program("mov.f64 %fd1, 0d3FF0000000000000;");
    let low = first_source(&wide);
    assert_eq!(wide.constants[low.index()..][..2], [0, 0x3ff0_0000]);
}

#[test]
fn a_scope_hides_the_outer_one() {
    let text = "mov.u32 %r1, 1;\n{ .reg .b64 %r1; mov.u64 %r1, 2; st.global.u64 [%rd1], %r1; }\n\
                { .reg .b32 %r1; L: mov.u32 %r1, 3; bra L; }\nL: st.global.u32 [%rd1], %r1;";
    let found = ops(text);
    assert!(matches!(found[1], Op::Mov { wide: true, .. }));
    // The jump goes to the label of its own scope, instruction 3.
    assert!(matches!(found[4], Op::Bra { target: 3 }));
    assert!(matches!(found[5], Op::St { ty: Ty::U32, .. }));
}

#[test]
fn vectors_sinks_and_pairs() {
    let found =
        ops("mov.b32 {%h1, _}, %r1;\nmov.b64 %rd2, {%r1, %r2};\nld.global.v4.u32 {%r3, _, %r4, %r5}, [%rd2+16];\n\
                     shfl.sync.bfly.b32 %r6|%p1, %r3, 1, 31, -1;\n@!%p1 st.shared.v2.f32 [%r6+-4], {%f1, 0f00000000};");
    assert!(matches!(found[0], Op::Unpack16x2 { d: [Some(_), None], .. }));
    assert!(matches!(found[1], Op::Pack32x2 { .. }));
    assert!(matches!(&found[2], Op::Ld { d, a, .. } if d.len() == 4 && d[1].is_none() && a.offset == 16));
    assert!(matches!(found[3], Op::Shfl { p: Some(_), .. }));
    assert!(matches!(&found[4], Op::St { space: Space::Shared, a, .. } if a.narrow && a.offset == -4));
}

#[test]
fn modifiers_reach_the_operation() {
    let found = ops(
        "add.rz.ftz.sat.f32 %f1, %f2, %f3;\nmul.wide.s32 %rd1, %r1, 4;\nld.global.nc.L1::no_allocate.L2::128B.u32 %r1, [%rd1];\n\
                     ld.volatile.global.u32 %r2, [%rd1];\natom.global.add.f32 %f1, [%rd1], %f2;",
    );
    assert!(matches!(&found[0], Op::Bin { op: BinOp::Add, mode, .. } if mode.ftz && mode.saturate));
    assert!(matches!(found[1], Op::Bin { op: BinOp::MulWide, ty: Ty::S32, .. }));
    assert!(matches!(found[2], Op::Ld { order: Order::NonCoherent, .. }));
    assert!(matches!(found[3], Op::Ld { order: Order::Relaxed(Scope::Sys), .. }));
    assert!(matches!(found[4], Op::Atom { d: Some(_), order: Order::Relaxed(Scope::Gpu), .. }));
}

#[test]
fn registers_that_a_driver_may_fill_load() {
    let found = ops(
        "mov.u32 %r1, %envreg2;\nmov.u32 %r2, %reserved_smem_offset_begin;\nmov.u32 %r1, %reserved_smem_offset_end;",
    );
    let read = found.iter().filter_map(|op| if let Op::Special { what, .. } = op { Some(*what) } else { None });
    assert_eq!(read.collect::<Vec<_>>(), [Special::EnvReg(2), Special::Zero, Special::ReservedSmemSize]);
}

#[test]
fn scopes_reach_the_operation() {
    let found = ops("atom.global.cta.add.u32 %r1, [%rd1], %r2;\nred.release.sys.global.add.u32 [%rd1], %r2;\n\
                     ld.acquire.cta.global.u32 %r1, [%rd1];\nst.relaxed.gpu.global.u32 [%rd1], %r1;\nmembar.cta;\nmembar.gl;\n\
                     fence.acq_rel.sys;\nfence.sc.cluster;");
    let orders = found.iter().filter_map(|op| match op {
        Op::Atom { order, .. } | Op::Ld { order, .. } | Op::St { order, .. } => Some(*order),
        _ => None,
    });
    let expected = [
        Order::Relaxed(Scope::Cta),
        Order::Release(Scope::Sys),
        Order::Acquire(Scope::Cta),
        Order::Relaxed(Scope::Gpu),
    ];
    assert_eq!(orders.collect::<Vec<_>>(), expected);
    let scopes = found.iter().filter_map(|op| if let Op::Fence { scope } = op { Some(*scope) } else { None });
    assert_eq!(scopes.collect::<Vec<_>>(), [Scope::Cta, Scope::Gpu, Scope::Sys, Scope::Cluster]);
}

#[test]
fn wider_registers_are_extended_and_cut() {
    let found = ops(
        "ld.global.s32 %rd1, [%rd2];\nst.global.u32 [%rd2], %rd1;\nld.global.s8 %h1, [%rd2];\ncvt.s8.s32 %r1, %r2;",
    );
    assert!(matches!(found[1], Op::Cvt { to: Ty::S64, from: Ty::S32, .. }));
    assert!(matches!(found[2], Op::Cvt { to: Ty::U32, from: Ty::U64, .. }));
    assert!(matches!(found[5], Op::Cvt { to: Ty::S16, from: Ty::S8, .. }));
    assert!(matches!(found[7], Op::Cvt { to: Ty::S32, from: Ty::S8, .. }));
}

#[test]
fn tensor_cores() {
    let found = ops(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f1,%f2,%f3,%f4}, {%r1,%r2,%r3,%r4}, {%r5,%r6}, {%f5,%f6,%f7,%f8};\n\
         mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%r1,%r2,%r3,%r4}, {%r5,%r6}, {%r7}, {%r8,%r9,%r10,%r11};\n\
         ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%r1,%r2,%r3,%r4}, [%r5];\n\
         cp.async.cg.shared.global.L2::128B [%r1], [%rd1], 16, %r2;\ncp.async.wait_group 2;",
    );
    assert!(matches!(&found[0], Op::Mma(mma) if mma.kind == MmaKind::F16K16 && mma.a.len() == 4));
    assert!(
        matches!(&found[1], Op::Mma(mma) if mma.kind == MmaKind::S8K32 && mma.a[2] == mma.a[3] && mma.b.len() == 2)
    );
    assert!(matches!(found[2], Op::Ldmatrix { transpose: true, .. }));
    assert!(matches!(found[3], Op::CpAsync { bytes: 16, src_size: Some(_), .. }));
    assert!(matches!(found[4], Op::CpAsyncWait { pending: 2 }));
}

#[test]
fn variables_and_their_addresses() {
    let text = format!(
        "{HEAD}.global .align 4 .u32 a = 7;\n.global .align 8 .u64 b[2] = {{generic(a)+4, a}};\n.const .f32 c[3] = {{0f3F800000, 2.0}};\n\
         .extern .shared .align 128 .b8 dyn[];\n.shared .align 4 .b8 fixed[12];\n\
         .entry k() {{ .reg .b64 %rd<3>; .reg .b32 %r<5>; .shared .b32 own;\n\
         mov.u64 %rd1, a; ld.const.b32 %r1, [c+4]; mov.u32 %r2, dyn; mov.u32 %r3, fixed; mov.u32 %r4, own; ret; }}"
    );
    let program = load(&text).unwrap();
    assert_eq!(program.variables[0].init, [7, 0, 0, 0]);
    assert_eq!(program.variables[1].pointers, [(0, 4), (8, 0)]);
    assert_eq!(program.variables[1].offset, 8);
    assert_eq!(program.variables[2].init[4..], 2.0f32.to_le_bytes());
    assert_eq!(program.relocations.len(), 1);
    let kernel = &program.kernels[0];
    assert_eq!((kernel.shared_bytes, kernel.dynamic_align), (16, 128));
    let address = |index: usize| match &kernel.code[index].op {
        Op::Mov { a, .. } => constant(&program, *a),
        other => panic!("{other:?}"),
    };
    // The window's start is a multiple of 128.
    assert_eq!((address(2) - address(4), address(3) - address(4)), (128, 4));
}

#[test]
fn parameters_lie_aligned() {
    let text = format!(
        "{HEAD}.entry k(.param .u8 a, .param .align 8 .b8 b[12], .param .u64 .ptr .global .align 16 c)\n.maxntid 32, 4, 2 .minnctapersm 3 {{ ret; }}"
    );
    let program = load(&text).unwrap();
    let kernel = &program.kernels[0];
    assert_eq!(
        kernel.params.iter().map(|param| (param.offset, param.size)).collect::<Vec<_>>(),
        [(0, 1), (8, 12), (24, 8)]
    );
    assert_eq!((kernel.param_bytes, kernel.max_threads, kernel.min_blocks), (32, Some(256), Some(3)));
}

#[test]
fn places_in_the_source() {
    let body = ".loc 1 20 3\nmov.u32 %r1, 1;\n.loc 2 400 1, function_name $L, inlined_at 1 30 5\nmov.u32 %r2, 2;\n\
                .loc 3 5 1, function_name $M, inlined_at 1 40 1\nmov.u32 %r3, 3;\n.loc 1 0 1\nmov.u32 %r4, 4;";
    let text = kernel(body)
        + ".file 1 \"/home/me/k.cu\"\n.file 2 \"/cuda/include/x.hpp\"\n.file 3 \"/home/me/mine.cuh\"\n\
           .section .debug_str { L0: .b8 1,2 }";
    let program = load(&text).unwrap();
    let places: Vec<_> = program.kernels[0].code.iter().map(|inst| inst.source).collect();
    assert_eq!(places[..4], [Some((0, 20)), Some((0, 30)), Some((2, 5)), Some((2, 5))]);
    assert_eq!(program.kernels[0].code[0].line, 13);
}

#[test]
fn switches_and_calls() {
    let text = format!(
        "{HEAD}.func (.param .b32 out) twice(.param .b32 in) {{ .reg .b32 %r<3>; ld.param.b32 %r1, [in]; add.s32 %r2, %r1, %r1; st.param.b32 [out], %r2; ret; }}\n\
         .entry k() {{ .reg .b32 %r<3>; mov.u32 %r1, 4;\n\
         T: .branchtargets A, B;\nbrx.idx %r1, T;\nA: {{ .param .b32 x; .param .b32 y; st.param.b32 [x], %r1; call.uni (y), twice, (x); ld.param.b32 %r2, [y]; }}\nB: exit; }}"
    );
    let program = load(&text).unwrap();
    let kernel = &program.kernels[0];
    assert!(matches!(&kernel.code[1].op, Op::Brx { targets, .. } if **targets == [2, 8]), "{:?}", kernel.code[1]);
    assert!(matches!(kernel.code[3].op, Op::Ld { space: Space::Local, .. }));
    assert_eq!(kernel.local_bytes, 8);
}

#[test]
fn slots_are_shared_but_not_with_undefined_values() {
    // A chain of values takes two slots, however long it is.
    let chain: String =
        (1..30).map(|i| format!("add.f32 %f{}, %f{}, 0f3F800000;\n", i % 8 + 1, (i - 1) % 8 + 1)).collect();
    assert!(program(&format!("mov.f32 %f1, 0f00000000;\n{chain}")).kernels[0].slots <= 2);
    // A value that a loop carries keeps its slot through the whole loop.
    let looped = program(
        "mov.u32 %r1, 1;\nL: mov.u32 %r2, 5;\nadd.u32 %r3, %r2, 1;\nadd.u32 %r1, %r1, %r3;\nsetp.lt.u32 %p1, %r1, 9;\n@%p1 bra L;",
    );
    let written = |index: usize| match &looped.kernels[0].code[index].op {
        Op::Mov { d, .. } | Op::Bin { d, .. } => *d,
        other => panic!("{other:?}"),
    };
    assert_eq!(written(3), written(0));
    assert!(written(1) != written(0) && written(2) != written(0));
    // Destinations lie apart from dying sources where the operation is not element by element, or has 64 bits.
    let apart = program(
        "mov.u32 %r1, 1;\nshfl.sync.idx.b32 %r2, %r1, 0, 31, -1;\ncvt.u64.u32 %rd1, %r2;\nadd.u64 %rd2, %rd1, %rd1;\nst.global.u64 [%rd2], %rd2;",
    );
    let code = &apart.kernels[0].code;
    assert!(matches!(&code[1].op, Op::Shfl { d, a, .. } if d != a));
    assert!(matches!(&code[3].op, Op::Bin { d, a, .. } if d.0.abs_diff(a.0) >= 2));
    // %r2 is written under a guard alone: alive from the entry on, its slot is nobody else's before.
    let program =
        program("mov.u32 %r1, 1;\nsetp.eq.s32 %p1, %r1, %r1;\n@%p1 mov.u32 %r2, 3;\nst.global.u32 [%rd1], %r2;");
    let code = &program.kernels[0].code;
    let (Op::Mov { d: first, .. }, Op::Mov { d: guarded, .. }) = (&code[0].op, &code[2].op) else { panic!() };
    assert_ne!(first, guarded);
}

#[test]
fn errors_name_the_line() {
    let syntax = |body: &str, part: &str| match load(&kernel(body)).unwrap_err() {
        LoadError::Syntax { line: 13, what } => assert!(what.contains(part), "{what}"),
        other => panic!("{body}: {other}"),
    };
    syntax("\nadd.s32 %r1, %r2;", "3 operands, found 2");
    syntax("\nadd.s32 %r1, %r2, %rd1;", "`%rd1` has 8 bytes where 4 are expected");
    syntax("\nadd.s32 %r1, %r2, %r99;", "`%r99` is not declared");
    syntax("\nbra nowhere;", "`nowhere`");
    syntax("\nmov.f32 %f1, %p1;", "predicate");
    syntax("\nadd.f32 %f1, %f2 %f3;", "expected `,`");
    for body in [
        "wmma.mma.sync.aligned.row.col.m8n8k4.f64.f64.f64.f64 {%fd1}, {%fd2}, {%fd3}, {%fd1};",
        "add.frob.s32 %r1, %r2, %r3;",
        "mov.u32 %r1, %pm0;",
        "tex.2d.v4.f32.f32 {%f1,%f2,%f3,%f4}, [%rd1, {%f1, %f2}];",
    ] {
        match load(&kernel(&format!("\n{body}"))).unwrap_err() {
            LoadError::Unknown { line: 13, text, .. } => assert_eq!(text, body),
            other => panic!("{body}: {other}"),
        }
    }
}

/// Text whose natural treatment takes its length squared, or cubed.
#[test]
fn hostile_text_takes_no_time() {
    let start = Instant::now();
    let body = |body: String| {
        format!("{HEAD}.entry k(.param .u64 p) {{ .reg .b32 %r<99999>; .reg .b64 %rd<9>;\n{body} ret; }}\n")
    };
    // Jumps through tables: as many targets as their number times the tables' length.
    let tables =
        body(format!("T: .branchtargets {}A;\n{}A: ", "A, ".repeat(16_000), "brx.idx %r1, T;\n".repeat(16_000)));
    let error = load(&tables).unwrap_err().to_string();
    assert!(error.contains("at most 262144 labels together"), "{error}");
    // Blocks that run from the text's end to its beginning, where everything is used.
    let registers = 4_000;
    let used: String = (0..registers).map(|i| format!("st.global.u32 [%rd1], %r{i};\n")).collect();
    let written: String = (0..registers).map(|i| format!("mov.u32 %r{i}, {i};\n")).collect();
    let chain: String = (1..30_000).map(|i| format!("L{i}: bra L{};\n", i - 1)).collect();
    let backwards = body(format!("mov.u64 %rd1, 0;\n{written} bra L29999;\nL0:\n{used} ret;\n{chain}"));
    assert_eq!(load(&backwards).unwrap().kernels[0].slots, registers + 2);
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

#[test]
fn versions_and_targets() {
    let program = program("");
    assert_eq!((program.version, program.target), ((9, 0), 80));
    assert!(check_version(&program, (9, 0)).is_ok() && check_target(&program, 8, 0).is_ok());
    assert!(matches!(check_version(&program, (8, 5)), Err(LoadError::Version { .. })));
    assert!(matches!(check_target(&program, 7, 5), Err(LoadError::Target { .. })));
}

#[test]
fn hostile_text() {
    let deep = "{".repeat(100_000);
    let nested = format!("{HEAD}.entry k() {{ {deep}");
    let chain: String =
        (0..200).map(|i| format!(".func f{i}() {{ call f{}; call f{}; ret; }}\n", i + 1, i + 1)).collect();
    for text in [
        String::new(),
        ".".to_owned(),
        nested,
        format!("{HEAD}{chain}.func f200() {{ ret; }}\n.entry k() {{ call f0; ret; }}"),
        format!("{HEAD}.func f() {{ call f; ret; }}\n.entry k() {{ call f; ret; }}"),
        format!("{HEAD}.global .b8 x[18446744073709551615];"),
        format!(
            "{HEAD}.entry k() {{ .local .b8 x[1099511627776]; ret; }} .entry k() {{ .shared .b64 x[9999999999999]; }}"
        ),
    ] {
        assert!(load(&text).is_err(), "{}", &text[..text.len().min(80)]);
    }
    // A huge range of registers costs nothing.
    let program = program(".reg .b32 %x<4000000000>;\nmov.u32 %x3999999999, 1;");
    assert!(program.kernels[0].slots <= 1);
}

/// Every deletion, doubling and exchange of neighbours in a text that has a bit of everything: never a panic.
#[test]
fn mutations_do_not_panic() {
    let text = kernel(
        ".loc 1 2 3, function_name $L+4, inlined_at 1 5 6\n{ .reg .f16 low, high; mov.b32 {low, high}, %r1; }\n\
         .shared .align 4 .b8 s[64];\nL1: ld.param.u64 %rd1, [p0];\nmov.u32 %r1, s;\nsetp.lt.and.s32 %p1|%p2, %r1, 0x10, !%p3;\n\
         @!%p1 bra L1;\nT: .branchtargets L1, L2;\nbrx.idx %r1, T;\nL2: shfl.sync.bfly.b32 %r6|%p1, %r3, 1, 31, -1;\n\
         ld.global.v4.u32 {%r3, _, %r4, %r5}, [%rd1+16];\ncvt.rn.f16x2.f32 %r1, %f1, 0f3F800000;\nmad.wide.u32 %rd2, %r1, %r2, %rd1;\n\
         mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%f1,%f2,%f3,%f4}, {%r1,%r2}, {%r3}, {%f1,%f2,%f3,%f4};\n\
         atom.global.cas.b32 %r1, [%rd1], %r2, %r3;\ncp.async.ca.shared.global [%r1], [%rd1], 4, %r2;\nbar.sync 0;\n\
         mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 %p1, [%r1+8], %r2, 99;\n\
         cp.async.bulk.tensor.3d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes.multicast::cluster [%r9], \
         [%rd1, {%r1, 5, %r3}], [s], {%h1}, %h2;\n{ .reg .v2 .f32 v; ld.global.v2.f32 v, [%rd1]; mov.f32 %f1, v.x; }\n\
         wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%f1,%f2,%f3,%f4}, {%r1,%r2,%r3,%r4}, %rd2, !%p1, 1, -1, 0;\n\
         wmma.load.a.sync.aligned.col.m32n8k16.shared.s8 {%r1,%r2,%r3,%r4}, [s+16], 48;\n\
         { .const .u32 c[2] = {1, 2}; call (%r1), f, (%r2, 3); cvt.pack.sat.u8.s32.b32 %r1, %r2, %r3, %r4; }",
    ) + ".file 1 \"/a.cu\"\n.global .u64 g[2] = {generic(h), 5};\n.global .u32 h;\n\
           .func (.reg .u32 o) f(.reg .u32 a, .reg .u32 b) { add.s16x2 o, a, b; ret; }";
    load(&text).unwrap();
    let mut pieces: Vec<&str> = Vec::new();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let word = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len()).max(1);
        let (piece, tail) = rest.split_at(word);
        pieces.push(piece);
        rest = tail;
    }
    let mut failed = 0;
    for at in 0..pieces.len() {
        let with = |middle: &[&str]| [&pieces[..at], middle, &pieces[at + 1..]].concat().concat();
        let other = pieces[(at * 7 + 13) % pieces.len()];
        for text in [with(&[]), with(&[pieces[at], pieces[at]]), with(&[other]), with(&["9999999999"])] {
            failed += usize::from(load(&text).is_err());
        }
    }
    assert!(failed > pieces.len(), "{failed} of {} mutants are refused", 4 * pieces.len());
}
