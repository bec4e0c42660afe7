//! Tensor maps: how a bulk copy finds a box of a tensor. Rules of cuTensorMapEncodeTiled (CUDA driver API, "Tensor Map
//! Object Management"), tiled and not interleaved; packed elements and coarser swizzles came with compute capability 10.0.

use crate::ir::Ty;

/// Most dimensions of a tensor.
pub const MAX_RANK: usize = 5;
/// Bytes that a swizzle moves as one.
const LINE: usize = 16;
/// First bytes of an encoded map.
const MAGIC: [u8; 4] = *b"vTMA";
const CHECKSUM: usize = 4;
const BODY: usize = 12;

/// A CUtensorMapDataType: what an element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapElement {
    U8,
    U16,
    U32,
    S32,
    U64,
    S64,
    F16,
    F32,
    F64,
    Bf16,
    /// Subnormal numbers arrive as zero.
    F32Ftz,
    Tf32,
    Tf32Ftz,
}

impl MapElement {
    const ALL: [MapElement; 13] = {
        use MapElement::*;
        [U8, U16, U32, S32, U64, S64, F16, F32, F64, Bf16, F32Ftz, Tf32, Tf32Ftz]
    };

    /// The one of this number; `None`: packed, or none at all.
    pub fn from_code(code: u32) -> Option<MapElement> {
        MapElement::ALL.get(code as usize).copied()
    }

    pub fn bytes(self) -> usize {
        use MapElement::*;
        match self {
            U8 => 1,
            U16 | F16 | Bf16 => 2,
            U32 | S32 | F32 | F32Ftz | Tf32 | Tf32Ftz => 4,
            U64 | S64 | F64 => 8,
        }
    }

    /// As an operand.
    pub fn ty(self) -> Ty {
        match self {
            MapElement::U8 => Ty::U8,
            MapElement::U16 => Ty::U16,
            MapElement::U32 => Ty::U32,
            MapElement::S32 => Ty::S32,
            MapElement::U64 => Ty::U64,
            MapElement::S64 => Ty::S64,
            MapElement::F16 => Ty::F16,
            MapElement::Bf16 => Ty::Bf16,
            MapElement::F64 => Ty::F64,
            MapElement::F32 | MapElement::F32Ftz | MapElement::Tf32 | MapElement::Tf32Ftz => Ty::F32,
        }
    }

    fn is_float(self) -> bool {
        use MapElement::*;
        matches!(self, F16 | F32 | F64 | Bf16 | F32Ftz | Tf32 | Tf32Ftz)
    }
}

/// The span within which lines of 16 bytes change places: 32, 64 or 128 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swizzle {
    None,
    B32,
    B64,
    B128,
}

impl Swizzle {
    const ALL: [Swizzle; 4] = [Swizzle::None, Swizzle::B32, Swizzle::B64, Swizzle::B128];

    /// A CUtensorMapSwizzle of compute capability 9.0.
    pub fn from_code(code: u32) -> Option<Swizzle> {
        Swizzle::ALL.get(code as usize).copied()
    }

    /// Most bytes of a box's inner dimension.
    fn span(self) -> usize {
        match self {
            Swizzle::None => usize::MAX,
            Swizzle::B32 => 32,
            Swizzle::B64 => 64,
            Swizzle::B128 => 128,
        }
    }
}

/// The shared-memory address where byte `address` of a swizzled tile lies: the bits that number the line within its span are
/// mixed with those that number the rows of 128 bytes.
pub fn swizzled(address: u64, swizzle: Swizzle) -> u64 {
    let mask = match swizzle {
        Swizzle::None => 0,
        Swizzle::B32 => 0x10,
        Swizzle::B64 => 0x30,
        Swizzle::B128 => 0x70,
    };
    address ^ ((address >> 3) & mask)
}

/// A tiled tensor map. Dimensions are innermost first; those from `rank` on do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorMap {
    pub element: MapElement,
    pub rank: usize,
    pub address: u64,
    /// In elements.
    pub dims: [u64; MAX_RANK],
    /// In bytes; the first is an element's.
    pub strides: [u64; MAX_RANK],
    /// Elements that a box spans.
    pub box_dims: [u32; MAX_RANK],
    /// Of so many elements of the box one is copied. The first does not count.
    pub element_strides: [u32; MAX_RANK],
    pub swizzle: Swizzle,
    /// A CUtensorMapL2promotion.
    pub l2: u32,
    /// Elements outside the tensor are NaN, not zero.
    pub nan_fill: bool,
}

impl TensorMap {
    /// Every rule of cuTensorMapEncodeTiled; the message names the one that is broken, and the value.
    pub fn check(&self) -> Result<(), String> {
        if self.rank == 0 || self.rank > MAX_RANK {
            return Err(format!("tensorRank is {}, not 1 to {MAX_RANK}", self.rank));
        }
        if !self.address.is_multiple_of(16) {
            return Err(format!("globalAddress {:#x} is not a multiple of 16", self.address));
        }
        for i in 0..self.rank {
            self.check_dimension(i)?;
        }
        let inner = self.inner_bytes();
        if !inner.is_multiple_of(LINE) {
            let (count, bytes) = (self.box_dims[0], self.element.bytes());
            return Err(format!("boxDim[0] is {count} elements of {bytes} bytes, not a multiple of 16 bytes"));
        }
        if inner > self.swizzle.span() {
            let span = self.swizzle.span();
            return Err(format!("boxDim[0] is {inner} bytes, more than the {span} of the swizzle"));
        }
        if self.l2 > 3 {
            return Err(format!("l2Promotion is {}, not 0 to 3", self.l2));
        }
        if self.nan_fill && !self.element.is_float() {
            return Err(format!("oobFill is NaN, but elements are {:?}", self.element));
        }
        Ok(())
    }

    fn check_dimension(&self, i: usize) -> Result<(), String> {
        let (dim, stride) = (self.dims[i], self.strides[i]);
        if dim == 0 || dim > 1 << 32 {
            return Err(format!("globalDim[{i}] is {dim}, not 1 to 2^32"));
        }
        // C's array begins with the second dimension's.
        if i > 0 && (!stride.is_multiple_of(16) || stride >= 1 << 40) {
            return Err(format!("globalStrides[{}] is {stride}, not a multiple of 16 below 2^40", i - 1));
        }
        if self.box_dims[i] == 0 || self.box_dims[i] > 256 {
            return Err(format!("boxDim[{i}] is {}, not 1 to 256", self.box_dims[i]));
        }
        if self.element_strides[i] == 0 || self.element_strides[i] > 8 {
            return Err(format!("elementStrides[{i}] is {}, not 1 to 8", self.element_strides[i]));
        }
        Ok(())
    }

    /// The 128 bytes of a CUtensorMap: a layout of this library's own. The map must have passed [`TensorMap::check`].
    pub fn encode(&self) -> [u8; 128] {
        let mut bytes = [0; 128];
        bytes[..CHECKSUM].copy_from_slice(&MAGIC);
        let mut place = BODY;
        let mut put = |field: &[u8]| {
            bytes[place..][..field.len()].copy_from_slice(field);
            place += field.len();
        };
        let flags = self.swizzle as u8 | (self.l2 as u8) << 2 | (self.nan_fill as u8) << 4;
        put(&[self.element as u8, self.rank as u8, flags]);
        put(&self.address.to_le_bytes());
        // 1 to 2^32 and 1 to 256, less one.
        for i in 0..MAX_RANK {
            put(&(self.dims[i].wrapping_sub(1) as u32).to_le_bytes());
            put(&self.strides[i].to_le_bytes());
            put(&[self.box_dims[i].wrapping_sub(1) as u8, self.element_strides[i] as u8]);
        }
        let sum = checksum(&bytes[BODY..]);
        bytes[CHECKSUM..BODY].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads it back; a map that was never encoded, or was changed since, is named as such.
    pub fn decode(bytes: &[u8; 128]) -> Result<TensorMap, String> {
        if bytes[..CHECKSUM] != MAGIC {
            return Err("these 128 bytes are no tensor map: cuTensorMapEncodeTiled did not write them".into());
        }
        if bytes[CHECKSUM..BODY] != checksum(&bytes[BODY..]).to_le_bytes() {
            return Err("the tensor map was changed after cuTensorMapEncodeTiled wrote it".into());
        }
        let mut fields = &bytes[BODY..];
        let mut take = |count: usize| {
            let (field, rest) = fields.split_at(count);
            fields = rest;
            let mut wide = [0; 8];
            wide[..count].copy_from_slice(field);
            u64::from_le_bytes(wide)
        };
        let (element, rank, flags, address) = (take(1) as u32, take(1) as usize, take(1) as u32, take(8));
        let mut map = TensorMap {
            // The checksum is no secret: whoever forges a map still gets a valid one, or none.
            element: MapElement::from_code(element).ok_or("the tensor map's elements are of no known type")?,
            rank,
            address,
            dims: [1; MAX_RANK],
            strides: [0; MAX_RANK],
            box_dims: [1; MAX_RANK],
            element_strides: [1; MAX_RANK],
            swizzle: Swizzle::ALL[flags as usize & 3],
            l2: flags >> 2 & 3,
            nan_fill: flags >> 4 & 1 != 0,
        };
        for i in 0..MAX_RANK {
            (map.dims[i], map.strides[i]) = (take(4) + 1, take(8));
            (map.box_dims[i], map.element_strides[i]) = (take(1) as u32 + 1, take(1) as u32);
        }
        map.check()?;
        Ok(map)
    }

    /// Bytes of shared memory that one box fills.
    pub fn box_bytes(&self) -> usize {
        self.inner_bytes() * (1..self.rank).map(|i| self.count(i)).product::<usize>()
    }

    /// What stands in a line of 16 bytes outside the tensor: zero, or NaN with every bit of its fraction set.
    pub fn fill(&self) -> [u8; LINE] {
        if !self.nan_fill {
            return [0; LINE];
        }
        let bytes = self.element.bytes();
        std::array::from_fn(|i| if i % bytes == bytes - 1 { 0x7f } else { 0xff })
    }

    /// Bytes of a box's row, the innermost dimension.
    fn inner_bytes(&self) -> usize {
        self.box_dims[0] as usize * self.element.bytes()
    }

    /// Elements copied along dimension `i` (not the first).
    fn count(&self, i: usize) -> usize {
        self.box_dims[i].div_ceil(self.element_strides[i].max(1)) as usize
    }

    /// Calls `each` for every run of bytes of the box at `coordinates`, in the order in which they lie in shared memory:
    /// `at` bytes from the box's start BEFORE swizzling, the global address of its first byte (`None`: outside the tensor,
    /// filled with zero or NaN), and its length (at most 16, never crossing a 16-byte line of shared memory).
    pub fn walk(&self, coordinates: &[i32], mut each: impl FnMut(usize, Option<u64>, usize)) {
        let coordinate = |i: usize| i64::from(coordinates.get(i).copied().unwrap_or(0));
        let row = Row::new(self, coordinate(0));
        // Where the row is: in elements of the box along each dimension, the first left out.
        let mut row_at = [0usize; MAX_RANK];
        for start in (0..self.box_bytes()).step_by(row.bytes.max(1)) {
            let mut outer = Some(self.address);
            for (i, &at) in row_at.iter().enumerate().take(self.rank).skip(1) {
                let place = coordinate(i) + at as i64 * i64::from(self.element_strides[i]);
                let inside = place >= 0 && (place as u64) < self.dims[i];
                outer = outer.filter(|_| inside).map(|a| a.wrapping_add((place as u64).wrapping_mul(self.strides[i])));
            }
            row.walk(start, outer, &mut each);
            for (i, at) in row_at.iter_mut().enumerate().take(self.rank).skip(1) {
                *at += 1;
                if *at < self.count(i) {
                    break;
                }
                *at = 0;
            }
        }
    }
}

/// The innermost dimension of a box: which of its bytes lie inside the tensor.
struct Row {
    bytes: usize,
    /// Bytes from the row's start: those inside are `first..end`.
    first: usize,
    end: usize,
    /// From the first element of the tensor's row to that of the box's; may be negative.
    offset: u64,
}

impl Row {
    fn new(map: &TensorMap, coordinate: i64) -> Row {
        let bytes = map.element.bytes() as i64;
        let length = i64::from(map.box_dims[0]);
        let first = (-coordinate).clamp(0, length);
        let end = (map.dims[0] as i64 - coordinate).clamp(first, length);
        Row {
            bytes: map.inner_bytes(),
            first: (first * bytes) as usize,
            end: (end * bytes) as usize,
            offset: (coordinate * bytes) as u64,
        }
    }

    /// `start`: of this row in the box; `outer`: of the tensor's row in memory, if there is one.
    fn walk(&self, start: usize, outer: Option<u64>, each: &mut impl FnMut(usize, Option<u64>, usize)) {
        let Some(outer) = outer else {
            return lines(0..self.bytes, |at, length| each(start + at, None, length));
        };
        let from = outer.wrapping_add(self.offset);
        lines(0..self.first, |at, length| each(start + at, None, length));
        lines(self.first..self.end, |at, length| each(start + at, Some(from.wrapping_add(at as u64)), length));
        lines(self.end..self.bytes, |at, length| each(start + at, None, length));
    }
}

/// The parts of a range in its lines of 16 bytes.
fn lines(range: std::ops::Range<usize>, mut each: impl FnMut(usize, usize)) {
    let mut at = range.start;
    while at < range.end {
        let next = (at / LINE + 1) * LINE;
        each(at, next.min(range.end) - at);
        at = next;
    }
}

/// Bit 21 of a map's second word, which CUTLASS clears for tensors below 128 KiB (a fault of drivers up to 13.1): never set here.
const CLEARED: u64 = 1 << 53;

/// FNV-1a, 64 bits less one.
fn checksum(bytes: &[u8]) -> u64 {
    let all =
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    all & !CLEARED
}
