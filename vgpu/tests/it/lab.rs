//! Kernels written as operations, without PTX.

use vgpu_cuda::counts::Counts;
use vgpu_cuda::exec::{self, Launch, Options, TensorMode};
use vgpu_cuda::fault::Fault;
use vgpu_cuda::ir::*;
use vgpu_cuda::mem::GlobalMemory;
use vgpu_cuda::profile::Profile;

pub const OPTIONS: Options =
    Options { schedule: 0, tensor: TensorMode::Fast, jitter: false, trace: false, threads: 1, limit: 100_000_000 };

pub const MODE: Mode = Mode { round: Round::Rn, ftz: false, saturate: false, relu: false, nan: false };

/// Runs a program's first kernel on (blocks, threads a block) with pointers as its parameters.
#[allow(clippy::result_large_err)]
pub fn launch(
    program: &Program,
    memory: &GlobalMemory,
    pointers: &[u64],
    (grid, block): (u32, u32),
    options: &Options,
) -> Result<Counts, Fault> {
    let mut const_bank = vec![0; program.const_bytes];
    for variable in program.variables.iter().filter(|variable| variable.space == Space::Const) {
        const_bank[variable.offset..][..variable.init.len()].copy_from_slice(&variable.init);
    }
    let launch = Launch {
        program,
        kernel: &program.kernels[0],
        constants: &program.constants,
        const_bank: &const_bank,
        params: &pointers.iter().flat_map(|pointer| pointer.to_le_bytes()).collect::<Vec<u8>>(),
        grid: [grid, 1, 1],
        block: [block, 1, 1],
        dynamic_shared: 0,
        cluster: program.kernels[0].required_cluster.unwrap_or([1, 1, 1]),
        unfinished: &[],
        workspace: 0,
    };
    // What is tested here is alike on all profiles, but for what only this one has.
    let profile = if program.exact_target { "h100" } else { "a100" };
    exec::run(&launch, memory, &Profile::named(profile).expect("known"), options).map(|ran| ran.counts)
}

/// Runs the only kernel of a module, whose parameters are pointers to `input` and to zeros, by one warp; the zeros after.
#[allow(clippy::result_large_err)]
pub fn run_ptx(text: &str, input: &[u32], out_words: usize, options: &Options) -> Result<Vec<u32>, Fault> {
    let program = vgpu_cuda::ptx::load(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let memory = GlobalMemory::new(1 << 30);
    let (from, out) = (memory.alloc(4 * input.len()).expect("room"), memory.alloc(4 * out_words).expect("room"));
    let bytes: Vec<u8> = input.iter().flat_map(|x| x.to_le_bytes()).collect();
    memory.write(from, &bytes).expect("allocated");
    memory.fill(out, &[0], 4 * out_words).expect("allocated");
    launch(&program, &memory, &[from, out], (1, 32), options)?;
    let mut bytes = vec![0; 4 * out_words];
    memory.read(out, &mut bytes).expect("allocated");
    Ok(bytes.chunks_exact(4).map(|w| u32::from_le_bytes(w.try_into().expect("four"))).collect())
}

/// A kernel with one pointer parameter, `out`. Slots 0–9 are taken: 2 holds the thread's number in the grid (x only), 8–9
/// the address of its 64 bits of output.
#[derive(Clone)]
pub struct Lab {
    pub code: Vec<Inst>,
    pub constants: Vec<u32>,
    pub shared_bytes: usize,
    pub local_bytes: usize,
    pub communicates: bool,
    pub asynchronous: Vec<(u32, SlotUses)>,
    slots: u16,
    preds: u16,
}

pub const THREAD: Slot = Slot(2);
pub const BASE: Slot = Slot(0);
pub const OUT: Address = Address { base: Some(Slot(8)), narrow: false, offset: 0 };

impl Lab {
    pub fn new() -> Lab {
        let mut lab = Lab {
            code: vec![],
            constants: vec![],
            shared_bytes: 0,
            local_bytes: 0,
            communicates: false,
            asynchronous: vec![],
            slots: 10,
            preds: 0,
        };
        let address = Address { base: None, narrow: false, offset: 0 };
        let order = Order::Weak;
        lab.op(Op::Ld { space: Space::Param, order, ty: Ty::U64, d: Box::new([Some(BASE)]), a: address });
        lab.op(Op::Special { what: Special::TidX, d: THREAD });
        let (block, size) = (lab.slot(), lab.slot());
        lab.op(Op::Special { what: Special::CtaidX, d: block });
        lab.op(Op::Special { what: Special::NtidX, d: size });
        lab.op(Op::Tern { op: TernOp::MadLo, ty: Ty::U32, mode: MODE, d: THREAD, a: block, b: size, c: THREAD });
        let eight = lab.constant(8);
        lab.op(Op::Tern { op: TernOp::MadWide, ty: Ty::U32, mode: MODE, d: Slot(8), a: THREAD, b: eight, c: BASE });
        lab
    }

    pub fn op(&mut self, op: Op) -> u32 {
        self.guarded(None, op)
    }

    pub fn guarded(&mut self, guard: Option<Condition>, op: Op) -> u32 {
        let line = self.code.len() as u32 + 1;
        self.code.push(Inst { op, guard, line, source: None });
        line - 1
    }

    pub fn slot(&mut self) -> Slot {
        self.slots += 2;
        Slot(self.slots - 2)
    }

    pub fn pred(&mut self) -> Pred {
        self.preds += 1;
        Pred(self.preds - 1)
    }

    pub fn constant(&mut self, value: u32) -> Slot {
        self.constants.push(value);
        Slot(Slot::CONSTANT | (self.constants.len() - 1) as u16)
    }

    pub fn wide_constant(&mut self, value: u64) -> Slot {
        let low = self.constant(value as u32);
        self.constant((value >> 32) as u32);
        low
    }

    pub fn store(&mut self, ty: Ty, value: Slot) {
        self.op(Op::St { space: Space::Global, order: Order::Weak, ty, a: OUT, b: Box::new([value]) });
    }

    /// p = thread's number < limit
    pub fn below(&mut self, limit: u32) -> Pred {
        let (p, limit) = (self.pred(), self.constant(limit));
        self.op(Op::Setp { cmp: Cmp::Lt, ty: Ty::U32, ftz: false, combine: None, p, q: None, a: THREAD, b: limit });
        p
    }

    pub fn program(&self) -> Program {
        let kernel = Kernel {
            name: "lab".to_string(),
            code: self.code.clone(),
            params: vec![Param { offset: 0, size: 8 }],
            param_bytes: 8,
            slots: self.slots as usize,
            preds: self.preds as usize,
            shared_bytes: self.shared_bytes,
            dynamic_align: 16,
            local_bytes: self.local_bytes,
            max_threads: None,
            required_threads: None,
            required_cluster: None,
            explicit_cluster: false,
            max_cluster: None,
            min_blocks: None,
            registers: 32,
            communicates: self.communicates,
            uniform_guards: vec![],
            asynchronous: self.asynchronous.clone(),
        };
        Program {
            version: (8, 0),
            target: 80,
            exact_target: false,
            kernels: vec![kernel],
            variables: vec![],
            global_bytes: 0,
            const_bytes: 0,
            constants: self.constants.clone(),
            relocations: vec![],
            files: vec![],
        }
    }

    #[allow(clippy::result_large_err)]
    /// Runs it; the threads' 64 bits of output (zero where they wrote less) and the counts.
    pub fn run(&self, grid: u32, block: u32, options: &Options) -> Result<(Vec<u64>, Counts), Fault> {
        let program = self.program();
        let memory = GlobalMemory::new(1 << 30);
        let count = (grid * block) as usize;
        let out = memory.alloc(8 * count).expect("room");
        memory.fill(out, &[0], 8 * count).expect("allocated");
        let counts = launch(&program, &memory, &[out], (grid, block), options)?;
        let mut bytes = vec![0; 8 * count];
        memory.read(out, &mut bytes).expect("allocated");
        let words = bytes.chunks_exact(8).map(|w| u64::from_le_bytes(w.try_into().expect("eight"))).collect();
        Ok((words, counts))
    }
}
