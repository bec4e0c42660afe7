//! Nanoseconds of a warp's part of a warpgroup product, checks included: `cargo bench -p vgpu --bench wgmma`.
//!
//! One warpgroup, four steps of k a group as in a pipeline of tiles of 64; `mma.sync` takes 145 ns for 4096 operations.

use std::time::Instant;

use vgpu_cuda::exec::{self, Launch, Options, TensorMode};
use vgpu_cuda::ir::*;
use vgpu_cuda::mem::{GlobalMemory, SHARED_START};
use vgpu_cuda::profile::Profile;

const OPTIONS: Options =
    Options { schedule: 0, tensor: TensorMode::Fast, jitter: false, trace: false, threads: 1, limit: 100_000_000 };
const MODE: Mode = Mode { round: Round::Rn, ftz: false, saturate: false, relu: false, nan: false };
const GROUPS: usize = 400;
const STEPS: usize = 4;
const REPEATS: usize = 5;
/// Of a: 64 rows of 128 bytes, swizzled.
const LEFT: usize = 8192;

#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    n: usize,
    element: Element,
    in_registers: bool,
}

const CASES: &[Case] = &[
    Case { name: "m64n256k16 f16", n: 256, element: Element::F16, in_registers: false },
    Case { name: "m64n128k16 f16", n: 128, element: Element::F16, in_registers: false },
    Case { name: "m64n64k16 f16", n: 64, element: Element::F16, in_registers: false },
    Case { name: "m64n64k16 f16, a in registers", n: 64, element: Element::F16, in_registers: true },
    Case { name: "m64n256k32 e4m3", n: 256, element: Element::E4m3, in_registers: false },
    Case { name: "m64n256k32 s8", n: 256, element: Element::S8, in_registers: false },
];

fn descriptor(at: usize) -> u64 {
    ((SHARED_START as usize + at) as u64 >> 4) | 1 << 16 | (1024 >> 4) << 32 | 1 << 62
}

struct Code {
    insts: Vec<Inst>,
    constants: Vec<u32>,
}

impl Code {
    fn op(&mut self, op: Op) {
        self.insts.push(Inst { op, guard: None, line: 1, source: None });
    }

    fn constant(&mut self, value: u64) -> Slot {
        self.constants.extend([value as u32, (value >> 32) as u32]);
        Slot(Slot::CONSTANT | (self.constants.len() - 2) as u16)
    }
}

/// `groups` groups of products after shared memory was filled.
fn program(case: Case, groups: usize) -> Program {
    let mut code = Code { insts: vec![], constants: vec![] };
    let shared = LEFT + 128 * case.n;
    let (thread, address, d) = (Slot(0), Slot(1), Slot(10));
    let (sixteen, one, first) = (code.constant(16), code.constant(0x3c00_3c00), code.constant(SHARED_START));
    code.op(Op::Special { what: Special::TidX, d: thread });
    code.op(Op::Tern { op: TernOp::MadLo, ty: Ty::U32, mode: MODE, d: address, a: thread, b: sixteen, c: first });
    for i in 0..shared / 2048 {
        let a = Address { base: Some(address), narrow: true, offset: 2048 * i as i64 };
        code.op(Op::St { space: Space::Shared, order: Order::Weak, ty: Ty::U32, a, b: Box::new([one; 4]) });
    }
    code.op(Op::ProxyFence(ProxyFence::Async { shared: true, global: false }));
    let id = code.constant(0);
    code.op(Op::Barrier { kind: BarrierKind::Sync, id, threads: None, d: None, p: None, a: None });
    code.op(Op::PredConst { d: Pred(0), value: false });
    code.op(Op::Mov { wide: false, d: Slot(2), a: id });
    let again = code.insts.len() as u32;
    code.op(Op::WgmmaFence);
    let acc = if case.element == Element::S8 { Accumulator::S32 } else { Accumulator::F32 };
    let sums: Box<[Slot]> = (0..case.n / 2).map(|i| Slot(d.0 + i as u16)).collect();
    for step in 0..STEPS {
        let left = code.constant(descriptor(32 * step));
        let right = code.constant(descriptor(LEFT + 32 * step));
        let a = if case.in_registers { WgmmaA::Registers(Box::new([one; 4])) } else { WgmmaA::Shared(left) };
        code.op(Op::Wgmma(Box::new(Wgmma {
            n: case.n as u16,
            a_type: case.element,
            b_type: case.element,
            acc,
            d: sums.clone(),
            c: sums.clone(),
            a,
            b: right,
            add: Condition { pred: Pred(0), negate: false },
            negate_a: false,
            negate_b: false,
            transpose_a: false,
            transpose_b: false,
            saturate: false,
        })));
        code.op(Op::PredConst { d: Pred(0), value: true });
    }
    code.op(Op::WgmmaCommit);
    code.op(Op::WgmmaWait { pending: 0 });
    let (count, limit) = (Slot(2), code.constant(groups as u64));
    let step = code.constant(1);
    code.op(Op::Bin { op: BinOp::Add, ty: Ty::U32, mode: MODE, d: count, a: count, b: step });
    let setp =
        Op::Setp { cmp: Cmp::Lt, ty: Ty::U32, ftz: false, combine: None, p: Pred(1), q: None, a: count, b: limit };
    code.op(setp);
    code.op(Op::Bra { target: again });
    code.insts.last_mut().expect("the jump").guard = Some(Condition { pred: Pred(1), negate: false });
    let kernel = Kernel {
        name: case.name.to_string(),
        code: code.insts,
        params: vec![],
        param_bytes: 0,
        slots: 10 + case.n / 2,
        preds: 2,
        shared_bytes: shared,
        dynamic_align: 16,
        local_bytes: 0,
        max_threads: None,
        required_threads: None,
        required_cluster: None,
        explicit_cluster: false,
        max_cluster: None,
        min_blocks: None,
        registers: 200,
        communicates: false,
        uniform_guards: vec![],
        asynchronous: vec![],
    };
    Program {
        version: (8, 0),
        target: 90,
        exact_target: true,
        kernels: vec![kernel],
        variables: vec![],
        global_bytes: 0,
        const_bytes: 0,
        constants: code.constants,
        relocations: vec![],
        files: vec![],
    }
}

/// The fastest of some runs.
fn seconds(case: Case, groups: usize) -> f64 {
    let program = program(case, groups);
    let memory = GlobalMemory::new(1 << 20);
    let launch = Launch {
        program: &program,
        kernel: &program.kernels[0],
        constants: &program.constants,
        const_bank: &[],
        params: &[],
        grid: [1; 3],
        block: [128, 1, 1],
        dynamic_shared: 0,
        cluster: [1; 3],
        unfinished: &[],
        workspace: 0,
    };
    let profile = Profile::named("h100").expect("known");
    let run = || {
        let start = Instant::now();
        exec::run(&launch, &memory, &profile, &OPTIONS).unwrap_or_else(|fault| panic!("{fault}"));
        start.elapsed().as_secs_f64()
    };
    (0..REPEATS).map(|_| run()).fold(f64::INFINITY, f64::min)
}

fn main() {
    for &case in CASES {
        let spent = seconds(case, GROUPS + 1) - seconds(case, 1);
        let each = spent * 1e9 / (4 * STEPS * GROUPS) as f64;
        let flop = (2 * 16 * case.n * case.element.depth()) as f64;
        println!("{:32} {each:8.0} ns a warp, {:6.1} ns per 4096 operations", case.name, each * 4096.0 / flop);
    }
}
