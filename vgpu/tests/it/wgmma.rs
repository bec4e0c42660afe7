//! Warpgroup products against plain loops in float64, over types, sizes, layouts and schedules.
//!
//! Where an element lies in shared memory: PTX ISA, "Asynchronous Warpgroup Level Matrix Shared Memory Layout", written down
//! here once more, element by element.

mod checks;

use crate::lab::{Lab, OPTIONS, launch};
use crate::mma::Format;
use crate::random::Random;
use vgpu_cuda::exec::{Options, TensorMode};
use vgpu_cuda::fault::Fault;
use vgpu_cuda::ir::*;
use vgpu_cuda::mem::{GlobalMemory, SHARED_START};

const WARPGROUP: u32 = 128;

/// How a factor lies in shared memory.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Layout {
    /// 16-byte chunks of a swizzled row: 1 (none), 2, 4, 8.
    width: usize,
    mn_major: bool,
    /// Bytes that the factor begins behind its atom's first: the next k of a swizzled row.
    advance: usize,
}

const PLAIN: Layout = Layout { width: 1, mn_major: false, advance: 0 };
const SWIZZLED: Layout = Layout { width: 8, mn_major: false, advance: 0 };

impl Layout {
    /// Bytes of one atom.
    fn atom(self) -> usize {
        128 * self.width
    }

    /// (leading, stride) in bytes, for a factor of `rows` rows.
    fn offsets(self, rows: usize) -> (usize, usize) {
        let groups = rows / 8;
        match (self.mn_major, self.width) {
            // The second half of k behind all rows.
            (false, 1) => (128 * groups, 128),
            (false, _) => (16, self.atom()),
            (true, 1) => (128 * groups, 128),
            // The next eight k behind all rows.
            (true, width) => (self.atom(), self.atom() * groups.div_ceil(width)),
        }
    }

    /// The byte of the factor's element (row, k) of `size` bytes.
    fn place(self, rows: usize, size: usize, row: usize, k: usize) -> usize {
        let (leading, stride) = self.offsets(rows);
        let swizzle = |row: usize| match self.width {
            8 => row % 8,
            4 => row % 8 / 2,
            2 => row % 8 / 4,
            _ => 0,
        };
        if self.mn_major {
            let chunk = row / 8;
            if self.width == 1 {
                return chunk * stride + k / 8 * leading + k % 8 * 16 + row % 8 * 2;
            }
            let (atom, chunk) = (chunk / self.width, (chunk % self.width) ^ swizzle(k));
            return atom * leading + k / 8 * stride + k % 8 * 16 * self.width + chunk * 16 + row % 8 * 2;
        }
        let byte = k * size + self.advance;
        if self.width == 1 {
            return row / 8 * stride + row % 8 * 16 + byte / 16 * leading + byte % 16;
        }
        row / 8 * stride + row % 8 * 16 * self.width + ((byte / 16) ^ swizzle(row)) * 16 + byte % 16
    }

    /// All bytes that the atoms of a factor take.
    fn bytes(self, rows: usize) -> usize {
        let groups = rows / 8;
        match (self.mn_major, self.width) {
            (_, 1) => 2 * 128 * groups,
            (false, _) => self.atom() * groups,
            (true, width) => 2 * self.atom() * groups.div_ceil(width),
        }
    }

    fn descriptor(self, start: usize, rows: usize) -> u64 {
        let (leading, stride) = self.offsets(rows);
        let field = |bytes: usize| (bytes as u64 & 0x3ffff) >> 4;
        let mode = match self.width {
            8 => 1,
            4 => 2,
            2 => 3,
            _ => 0u64,
        };
        field(SHARED_START as usize + start + self.advance) | field(leading) << 16 | field(stride) << 32 | mode << 62
    }
}

#[derive(Clone, Copy, Debug)]
struct Case {
    a: Element,
    b: Element,
    acc: Accumulator,
    n: usize,
    /// `None`: in registers.
    left: Option<Layout>,
    right: Layout,
    add: bool,
    negate: [bool; 2],
    saturate: bool,
}

const CASE: Case = Case {
    a: Element::F16,
    b: Element::F16,
    acc: Accumulator::F32,
    n: 64,
    left: Some(SWIZZLED),
    right: SWIZZLED,
    add: true,
    negate: [false; 2],
    saturate: false,
};

fn format(element: Element) -> Format {
    match element {
        Element::F16 => Format::F16,
        Element::Bf16 => Format::Bf16,
        Element::Tf32 => Format::Tf32,
        Element::E4m3 => Format::E4m3,
        Element::E5m2 => Format::E5m2,
        Element::S8 | Element::U8 => Format::S8,
    }
}

fn value(element: Element, bits: u32) -> f64 {
    if element == Element::U8 { f64::from(bits as u8) } else { format(element).value(bits) }
}

/// Bits of a (64 rows), b (n rows) and c (64 rows).
struct Data {
    a: Vec<Vec<u32>>,
    b: Vec<Vec<u32>>,
    c: Vec<Vec<u32>>,
}

fn put(bytes: &mut [u8], at: usize, size: usize, bits: u32) {
    bytes[at..at + size].copy_from_slice(&bits.to_le_bytes()[..size]);
}

impl Case {
    fn depth(&self) -> usize {
        self.a.depth()
    }

    fn registers(&self) -> usize {
        if self.acc == Accumulator::F16 { self.n / 4 } else { self.n / 2 }
    }

    fn any(&self, random: &mut Random) -> Data {
        let mut matrix = |rows: usize, columns: usize, any: &dyn Fn(&mut Random) -> u32| -> Vec<Vec<u32>> {
            (0..rows).map(|_| (0..columns).map(|_| any(random)).collect()).collect()
        };
        Data {
            a: matrix(64, self.depth(), &|random| format(self.a).any(random)),
            b: matrix(self.n, self.depth(), &|random| format(self.b).any(random)),
            c: matrix(64, self.n, &|random| match self.acc {
                Accumulator::F32 => (random.below(1 << 20) as f32 - 5e5).to_bits(),
                Accumulator::F16 => Format::F16.any(random),
                Accumulator::S32 => random.next() as u32,
            }),
        }
    }

    fn right_start(&self) -> usize {
        self.left.map_or(0, |left| left.bytes(64)).next_multiple_of(1024)
    }

    fn shared_bytes(&self) -> usize {
        (self.right_start() + self.right.bytes(self.n)).next_multiple_of(2048)
    }

    /// What the block finds in global memory: shared memory's bytes, each thread's a, each thread's sums.
    fn image(&self, data: &Data) -> Vec<u8> {
        let size = self.a.bytes();
        let mut bytes = vec![0; self.shared_bytes()];
        for (k, row) in (0..self.depth()).flat_map(|k| (0..64).map(move |row| (k, row))) {
            if let Some(left) = self.left {
                put(&mut bytes, left.place(64, size, row, k), size, data.a[row][k]);
            }
        }
        for (k, row) in (0..self.depth()).flat_map(|k| (0..self.n).map(move |row| (k, row))) {
            put(&mut bytes, self.right_start() + self.right.place(self.n, size, row, k), size, data.b[row][k]);
        }
        for thread in 0..128 {
            let (warp, lane) = (thread / 32, thread % 32);
            for i in 0..4 {
                let row = 16 * warp + lane / 4 + 8 * (i % 2);
                let first = 4 / size * (lane % 4) + 16 / size * (i / 2);
                let word = (0..4 / size).fold(0, |word, part| word | data.a[row][first + part] << (8 * size * part));
                bytes.extend(word.to_le_bytes());
            }
        }
        for thread in 0..128 {
            for i in 0..self.registers() {
                let word = self
                    .places(thread, i)
                    .iter()
                    .rev()
                    .fold(0u64, |word, &(row, column)| word << 16 | u64::from(data.c[row][column]));
                bytes.extend((word as u32).to_le_bytes());
            }
        }
        bytes
    }

    /// Rows and columns of the sums in a thread's register.
    fn places(&self, thread: usize, register: usize) -> Vec<(usize, usize)> {
        let (warp, lane) = (thread / 32, thread % 32);
        let row = 16 * warp + lane / 4;
        if self.acc == Accumulator::F16 {
            let column = 8 * (register / 2) + 2 * (lane % 4);
            return vec![(row + 8 * (register % 2), column), (row + 8 * (register % 2), column + 1)];
        }
        vec![(row + 8 * (register % 4 / 2), 8 * (register / 4) + 2 * (lane % 4) + register % 2)]
    }

    fn kernel(&self) -> Kit {
        let mut kit = Kit::new(self.shared_bytes());
        kit.fill(self.shared_bytes());
        kit.lab.op(Op::ProxyFence(ProxyFence::Async { shared: true, global: false }));
        kit.barrier();
        let a = kit.load_thread(self.shared_bytes(), 4);
        let d = kit.load_thread(self.shared_bytes() + 2048, self.registers());
        kit.lab.op(Op::WgmmaFence);
        kit.product(self, a, &d);
        kit.lab.op(Op::WgmmaCommit);
        kit.lab.op(Op::WgmmaWait { pending: 0 });
        kit.store_thread(self.shared_bytes() + 2048, &d);
        kit
    }

    /// The sums' bits.
    fn run(&self, data: &Data, options: &Options) -> Vec<Vec<u32>> {
        let image = self.image(data);
        let bytes = self.kernel().run(&image, options).unwrap_or_else(|fault| panic!("{self:?}: {fault}"));
        let mut sums = vec![vec![0; self.n]; 64];
        for thread in 0..128 {
            for i in 0..self.registers() {
                let at = self.shared_bytes() + 2048 + 4 * (thread * self.registers() + i);
                let word = u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
                let places = self.places(thread, i);
                for (part, &(row, column)) in places.iter().enumerate() {
                    let bits = if places.len() == 2 { word >> (16 * part) & 0xffff } else { word };
                    sums[row][column] = bits;
                }
            }
        }
        sums
    }

    fn check(&self, seed: u64, options: &Options) {
        let data = self.any(&mut Random(seed));
        let sums = self.run(&data, options);
        let is_fast = options.tensor == TensorMode::Fast;
        let sign = if self.negate[0] != self.negate[1] { -1.0 } else { 1.0 };
        let sum_value = |bits: u32| match self.acc {
            Accumulator::F32 => f64::from(f32::from_bits(bits)),
            Accumulator::F16 => Format::F16.value(bits),
            Accumulator::S32 => f64::from(bits as i32),
        };
        for (row, column) in (0..64).flat_map(|row| (0..self.n).map(move |column| (row, column))) {
            let c = if self.add { sum_value(data.c[row][column]) } else { 0.0 };
            let (mut exact, mut size) = (c, c.abs());
            for k in 0..self.depth() {
                let product = sign * value(self.a, data.a[row][k]) * value(self.b, data.b[column][k]);
                (exact, size) = (exact + product, size + product.abs());
            }
            let what = format!("{self:?} {options:?}: ({row}, {column})");
            if self.acc == Accumulator::S32 {
                let exact = if self.saturate { exact.clamp(f64::from(i32::MIN), f64::from(i32::MAX)) } else { exact };
                assert_eq!(sums[row][column], exact as i64 as u32, "{what}");
                continue;
            }
            let each = match (is_fast, self.a.bytes()) {
                (true, _) => 2f64.powi(-24),
                (false, 1) => 2f64.powi(-12),
                (false, _) => 2f64.powi(-22),
            };
            let mut bound = (self.depth() as f64 + 1.0) * each * size;
            if self.acc == Accumulator::F16 {
                bound += 2f64.powi(-11) * (exact.abs() + bound) + 2f64.powi(-24);
                if exact.abs() + bound >= 65504.0 {
                    continue;
                }
            }
            let found = sum_value(sums[row][column]);
            assert!((found - exact).abs() <= bound, "{what} is {found}, expected {exact} ± {bound:e}");
        }
    }
}

/// A kernel of warpgroups whose parameter points to what [`Case::image`] says.
struct Kit {
    lab: Lab,
    thread16: Slot,
}

const GLOBAL_BASE: Slot = crate::lab::BASE;

impl Kit {
    fn new(shared_bytes: usize) -> Kit {
        let mut lab = Lab::new();
        lab.shared_bytes = shared_bytes;
        let thread16 = lab.slot();
        let sixteen = lab.constant(16);
        let mode = crate::lab::MODE;
        let a = crate::lab::THREAD;
        lab.op(Op::Bin { op: BinOp::MulLo, ty: Ty::U32, mode, d: thread16, a, b: sixteen });
        Kit { lab, thread16 }
    }

    /// The address of `bytes` bytes for each thread, from `at` of the parameter's on.
    fn thread_address(&mut self, at: usize, bytes: usize) -> Address {
        let (base, scale) = (self.lab.slot(), self.lab.constant(bytes as u32));
        let (a, mode) = (crate::lab::THREAD, crate::lab::MODE);
        self.lab.op(Op::Tern { op: TernOp::MadWide, ty: Ty::U32, mode, d: base, a, b: scale, c: GLOBAL_BASE });
        Address { base: Some(base), narrow: false, offset: at as i64 }
    }

    /// Shared memory's first `bytes` from global memory.
    fn fill(&mut self, bytes: usize) {
        let mut from = self.thread_address(0, 16);
        let mut to = Address { base: Some(self.thread16), narrow: true, offset: SHARED_START as i64 };
        for _ in 0..bytes / 2048 {
            let d: Vec<Slot> = (0..4).map(|_| self.lab.slot()).collect();
            let some = d.iter().map(|&slot| Some(slot)).collect();
            self.lab.op(Op::Ld { space: Space::Global, order: Order::Weak, ty: Ty::U32, d: some, a: from });
            self.lab.op(Op::St { space: Space::Shared, order: Order::Weak, ty: Ty::U32, a: to, b: d.into() });
            from.offset += 2048;
            to.offset += 2048;
        }
    }

    fn barrier(&mut self) {
        let id = self.lab.constant(0);
        self.lab.op(Op::Barrier { kind: BarrierKind::Sync, id, threads: None, d: None, p: None, a: None });
    }

    fn load_thread(&mut self, at: usize, count: usize) -> Vec<Slot> {
        let mut from = self.thread_address(at, 4 * count);
        let slots: Vec<Slot> = (0..count).map(|_| self.lab.slot()).collect();
        for &slot in &slots {
            let d = Box::new([Some(slot)]);
            let pc = self.lab.op(Op::Ld { space: Space::Global, order: Order::Weak, ty: Ty::U32, d, a: from });
            self.lab.asynchronous.push((pc, Box::new([(slot, true)])));
            from.offset += 4;
        }
        slots
    }

    fn store_thread(&mut self, at: usize, slots: &[Slot]) {
        let mut to = self.thread_address(at, 4 * slots.len());
        for &slot in slots {
            let b = Box::new([slot]);
            let pc = self.lab.op(Op::St { space: Space::Global, order: Order::Weak, ty: Ty::U32, a: to, b });
            self.lab.asynchronous.push((pc, Box::new([(slot, false)])));
            to.offset += 4;
        }
    }

    fn product(&mut self, case: &Case, a: Vec<Slot>, d: &[Slot]) -> u32 {
        let a = match case.left {
            Some(left) => WgmmaA::Shared(self.lab.wide_constant(left.descriptor(0, 64))),
            None => WgmmaA::Registers(a.into()),
        };
        let b = self.lab.wide_constant(case.right.descriptor(case.right_start(), case.n));
        self.issue(case, a, b, d)
    }

    fn issue(&mut self, case: &Case, a: WgmmaA, b: Slot, d: &[Slot]) -> u32 {
        let pred = self.lab.pred();
        self.lab.op(Op::PredConst { d: pred, value: case.add });
        self.lab.op(Op::Wgmma(Box::new(Wgmma {
            n: case.n as u16,
            a_type: case.a,
            b_type: case.b,
            acc: case.acc,
            d: d.into(),
            c: d.into(),
            a,
            b,
            add: Condition { pred, negate: false },
            negate_a: case.negate[0],
            negate_b: case.negate[1],
            transpose_a: case.left.is_some_and(|left| left.mn_major),
            transpose_b: case.right.mn_major,
            saturate: case.saturate,
        })))
    }

    /// The bytes of the parameter after one block of a warpgroup ran.
    #[allow(clippy::result_large_err)]
    fn run(&self, image: &[u8], options: &Options) -> Result<Vec<u8>, Fault> {
        self.run_on(WARPGROUP, image, options)
    }

    #[allow(clippy::result_large_err)]
    fn run_on(&self, threads: u32, image: &[u8], options: &Options) -> Result<Vec<u8>, Fault> {
        let mut program = self.lab.program();
        program.exact_target = true;
        let memory = GlobalMemory::new(1 << 30);
        let at = memory.alloc(image.len()).expect("room");
        memory.write(at, image).expect("allocated");
        launch(&program, &memory, &[at], (1, threads), options)?;
        let mut bytes = vec![0; image.len()];
        memory.read(at, &mut bytes).expect("allocated");
        Ok(bytes)
    }
}

fn schedules() -> [Options; 2] {
    [OPTIONS, Options { schedule: 1, ..OPTIONS }]
}

const TYPES: &[(Element, Element, Accumulator)] = {
    use {Accumulator::*, Element as E};
    &[
        (E::F16, E::F16, F32),
        (E::F16, E::F16, F16),
        (E::Bf16, E::Bf16, F32),
        (E::Tf32, E::Tf32, F32),
        (E::E4m3, E::E4m3, F32),
        (E::E4m3, E::E5m2, F32),
        (E::E5m2, E::E4m3, F16),
        (E::S8, E::S8, S32),
        (E::U8, E::S8, S32),
        (E::U8, E::U8, S32),
    ]
};

#[test]
fn every_type_and_size_agrees_with_plain_loops() {
    for (i, &(a, b, acc)) in TYPES.iter().enumerate() {
        for n in [8, 24, 64, 136, 256] {
            for (left, options) in [Some(SWIZZLED), None].into_iter().flat_map(|left| schedules().map(|o| (left, o))) {
                Case { a, b, acc, n, left, ..CASE }.check(100 * i as u64 + n as u64, &options);
            }
        }
        let hardware = Options { tensor: TensorMode::Hardware, ..OPTIONS };
        Case { a, b, acc, n: 16, ..CASE }.check(i as u64, &hardware);
    }
}

#[test]
fn every_layout_agrees_with_plain_loops() {
    let layouts = |both: bool| {
        let k_major = [1, 2, 4, 8].map(|width| Layout { width, ..PLAIN });
        let steps = [(4, 32), (8, 32), (8, 96)].map(|(width, advance)| Layout { width, advance, ..PLAIN });
        let mn_major = [1, 2, 4, 8].map(|width| Layout { width, mn_major: true, ..PLAIN });
        let mn_major = if both { &mn_major[..] } else { &[] };
        k_major.iter().chain(&steps).chain(mn_major).copied().collect::<Vec<Layout>>()
    };
    for (a, acc) in
        [(Element::F16, Accumulator::F32), (Element::E4m3, Accumulator::F32), (Element::Tf32, Accumulator::F32)]
    {
        for (i, layout) in layouts(a == Element::F16).into_iter().enumerate() {
            let case = Case { a, b: a, acc, n: 72, ..CASE };
            Case { left: Some(layout), ..case }.check(i as u64, &OPTIONS);
            Case { right: layout, ..case }.check(i as u64, &OPTIONS);
            Case { left: None, right: layout, ..case }.check(i as u64, &OPTIONS);
        }
    }
}

#[test]
fn scales_negate_and_leave_out() {
    for negate in [[true, false], [false, true], [true, true]] {
        for options in [OPTIONS, Options { tensor: TensorMode::Hardware, ..OPTIONS }] {
            Case { n: 16, negate, add: false, ..CASE }.check(3, &options);
            Case { n: 16, negate, left: None, a: Element::E5m2, b: Element::E5m2, ..CASE }.check(4, &options);
        }
    }
    let integers = Case { a: Element::S8, b: Element::S8, acc: Accumulator::S32, n: 32, saturate: true, ..CASE };
    let mut data = integers.any(&mut Random(9));
    data.c.iter_mut().flatten().for_each(|c| *c = if *c & 1 == 0 { i32::MAX } else { i32::MIN } as u32);
    let sums = integers.run(&data, &OPTIONS);
    assert!(sums.iter().flatten().any(|&sum| sum == i32::MAX as u32));
    assert!(sums.iter().flatten().any(|&sum| sum == i32::MIN as u32));
    integers.check(5, &OPTIONS);
}
