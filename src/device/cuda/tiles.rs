//! Which tile a product gets, and in how many parts its depth is cut: by a small model of time, from the shape and the
//! GPU's size alone.

use super::driver::Info;

/// The tiles of kernels/product.cuh that products and convolutions are compiled for: four warps, wide ones eight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tile {
    /// 128×256.
    Wide,
    /// 128×128.
    Large,
    /// 128×64.
    Middle,
    /// 64×64.
    Small,
}

/// A tile, and the parts of the depth that different blocks sum up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    pub tile: Tile,
    pub parts: usize,
}

/// A product: `items` times [rows, depth] · [columns, depth].
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub items: usize,
    pub rows: usize,
    pub columns: usize,
    pub depth: usize,
}

/// What of a GPU matters here.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub multiprocessors: usize,
    /// Bytes of shared memory of a multiprocessor.
    pub shared: usize,
    /// Multiply-adds that a multiprocessor's tensor cores do in a clock, by mma.sync with float32 sums.
    pub rate: f64,
    /// Bytes that each multiprocessor gets from the L2 cache in a clock where all ask for them (about; from published
    /// measurements). It is what small tiles cost on a GPU of quick tensor cores.
    pub l2: f64,
}

/// Blocks of four warps that a multiprocessor's registers hold.
const RESIDENT: usize = 2;
/// What CUDA takes of shared memory for itself, for each block.
const RESERVED: usize = 1024;
/// Clocks of each stage in which a block that is alone, a warp for each tensor core, waits: nobody else fills them.
const WAITS: f64 = 128.0;
/// The same of eight warps that wait for each other, where two blocks of four would not.
const WIDE_WAITS: f64 = 32.0;
/// Clocks until a block's first tiles have come, and until its last results have left.
const ENDS: f64 = 1500.0;
/// Bytes a clock that a multiprocessor writes or reads of parts.
const BYTES: f64 = 32.0;
/// Parts must gain at least a tenth: their way through memory is in the way of others.
const CUT: f64 = 1.1;

/// Parts are summed up through memory; more are never worth it.
pub const MOST_PARTS: usize = 8;

impl Tile {
    pub const ALL: [Tile; 4] = [Tile::Wide, Tile::Large, Tile::Middle, Tile::Small];

    pub fn rows(self) -> usize {
        match self {
            Tile::Wide | Tile::Large | Tile::Middle => 128,
            Tile::Small => 64,
        }
    }

    pub fn columns(self) -> usize {
        match self {
            Tile::Wide => 256,
            Tile::Large => 128,
            Tile::Middle | Tile::Small => 64,
        }
    }

    /// Depth of one stage.
    pub fn step(self) -> usize {
        match self {
            Tile::Wide | Tile::Large => 32,
            Tile::Middle | Tile::Small => 64,
        }
    }

    /// Bytes of shared memory of a block: three stages of both operands.
    pub fn shared_bytes(self) -> usize {
        3 * (self.rows() + self.columns()) * self.step() * 2
    }

    fn area(self) -> usize {
        self.rows() * self.columns()
    }

    /// What of the tensor cores' rate shared memory lets it use: a clock moves 128 bytes, in which an A100 multiplies 16×8×16
    /// half. 64×64 by a warp takes four passes of 512 bytes for every 16 of these, 32×64 six, and every value is written once.
    fn share(self) -> f64 {
        match self {
            Tile::Wide | Tile::Large => 1.0,
            Tile::Middle => 0.95,
            Tile::Small => 0.75,
        }
    }
}

impl Size {
    pub fn of(gpu: &Info) -> Size {
        let (rate, l2) = match gpu.capability {
            (8, 0 | 7) => (1024.0, 32.0),
            (9 | 10, _) => (1228.0, 22.0),
            _ => (256.0, 16.0),
        };
        let shared = gpu.shared_per_block + RESERVED;
        Size { multiprocessors: gpu.multiprocessors as usize, shared, rate, l2 }
    }

    /// Blocks that one multiprocessor holds.
    fn resident(&self, tile: Tile) -> usize {
        let most = if tile == Tile::Wide { 1 } else { RESIDENT };
        (self.shared / (tile.shared_bytes() + RESERVED)).clamp(1, most)
    }

    /// Bytes for the sums of parts: what two large blocks on every multiprocessor write.
    pub fn workspace_bytes(&self) -> usize {
        self.multiprocessors * RESIDENT * Tile::Large.area() * 4
    }

    /// Tiles of a product that is cut in parts, at most: more fill the GPU as they are.
    pub fn most_cut_tiles(&self) -> usize {
        self.multiprocessors * RESIDENT
    }
}

impl Shape {
    /// Tiles of the output.
    pub fn tiles(&self, tile: Tile) -> usize {
        self.items * self.rows.div_ceil(tile.rows()) * self.columns.div_ceil(tile.columns())
    }
}

/// The quickest of all tiles and parts by the model.
pub fn choose(shape: Shape, gpu: Size) -> Choice {
    choose_among(&Tile::ALL, shape, gpu)
}

/// What was chosen elsewhere, where the shape allows it; else the quickest.
pub fn choose_or(forced: Option<Choice>, shape: Shape, gpu: Size) -> Choice {
    forced.filter(|choice| allowed(shape, *choice, gpu)).unwrap_or_else(|| choose(shape, gpu))
}

/// The same where some tiles alone have a kernel. `tiles` is not empty.
pub fn choose_among(tiles: &[Tile], shape: Shape, gpu: Size) -> Choice {
    let all = tiles.iter().flat_map(|&tile| (1..=MOST_PARTS).map(move |parts| Choice { tile, parts }));
    all.filter(|choice| allowed(shape, *choice, gpu))
        .min_by(|a, b| clocks(shape, *a, gpu).total_cmp(&clocks(shape, *b, gpu)))
        .expect("a product in one part is always allowed")
}

fn allowed(shape: Shape, Choice { tile, parts }: Choice, gpu: Size) -> bool {
    let (tiles, steps) = (shape.tiles(tile), shape.depth.div_ceil(tile.step()));
    let fits = tiles <= gpu.most_cut_tiles() && tiles * parts * tile.area() * 4 <= gpu.workspace_bytes();
    parts == 1 || (fits && steps >= 4 * parts)
}

/// Clocks until the last block has ended.
fn clocks(shape: Shape, Choice { tile, parts }: Choice, gpu: Size) -> f64 {
    let area = tile.area() as f64;
    let stages = shape.depth.div_ceil(tile.step()).div_ceil(parts);
    // Blocks that the busiest multiprocessor does: as many as it can at a time, then what is left.
    let blocks = (shape.tiles(tile) * parts).div_ceil(gpu.multiprocessors);
    let resident = gpu.resident(tile);
    let alone = if resident == 1 { blocks } else { blocks % resident };
    let sum = area * (stages * tile.step()) as f64 / (gpu.rate * tile.share());
    let waits = if tile == Tile::Wide { WIDE_WAITS } else { WAITS };
    let sums = blocks as f64 * sum + (alone * stages) as f64 * waits;
    let operands = 2 * shape.tiles(tile) * (tile.rows() + tile.columns()) * shape.depth;
    let sums = sums.max(operands as f64 / (gpu.l2 * gpu.multiprocessors as f64));
    let ends = ENDS * blocks.div_ceil(resident) as f64;
    if parts == 1 {
        return sums + ends;
    }
    // The last parts are written, then one block reads all of its tile.
    let joining = ENDS + (blocks.min(resident) + parts) as f64 * area * 4.0 / BYTES;
    CUT * (sums + ends + joining)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIN: Size = Size { multiprocessors: 16, shared: 164 << 10, rate: 1024.0, l2: 32.0 };
    const A100: Size = Size { multiprocessors: 108, shared: 164 << 10, rate: 1024.0, l2: 32.0 };
    const RTX4090: Size = Size { multiprocessors: 128, shared: 100 << 10, rate: 256.0, l2: 16.0 };
    const H100: Size = Size { multiprocessors: 132, shared: 228 << 10, rate: 1228.0, l2: 22.0 };
    const GPUS: [Size; 4] = [ORIN, A100, RTX4090, H100];

    /// The products of vitl16 at 480×480: rows, depth, columns.
    const REAL: [(usize, usize, usize); 10] = [
        (900, 768, 1024),
        (901, 1024, 3072),
        (901, 1024, 1024),
        (901, 1024, 4096),
        (901, 4096, 1024),
        (900, 1024, 256),
        (900, 1024, 512),
        (900, 256, 4096),
        (14_400, 256, 256),
        (57_600, 256, 512),
    ];

    fn shape((rows, depth, columns): (usize, usize, usize)) -> Shape {
        Shape { items: 1, rows, columns, depth }
    }

    #[test]
    fn wide_products_get_wide_tiles_uncut() {
        for gpu in GPUS {
            for real in [(901, 1024, 3072), (901, 1024, 4096), (57_600, 256, 512)] {
                let Choice { tile, parts } = choose(shape(real), gpu);
                assert!(tile != Tile::Small && parts == 1, "{real:?} on {gpu:?}: {tile:?}, {parts} parts");
            }
        }
    }

    #[test]
    fn tiles_are_as_large_as_reaches_every_multiprocessor() {
        // 64 large tiles, 128 middle ones, 240 small ones.
        let tokens = shape((901, 1024, 1024));
        assert_eq!(choose(tokens, ORIN), Choice { tile: Tile::Large, parts: 1 });
        for gpu in [RTX4090, H100] {
            assert_eq!(choose(tokens, gpu), Choice { tile: Tile::Middle, parts: 1 }, "{gpu:?}");
        }
        for gpu in [A100, RTX4090, H100] {
            assert_eq!(choose(shape((900, 1024, 256)), gpu).tile, Tile::Small, "{gpu:?}");
        }
    }

    #[test]
    fn deep_products_that_leave_multiprocessors_idle_are_cut() {
        // Two rounds of middle tiles on 108 multiprocessors would do 59 % of what they could.
        assert!(choose(shape((901, 4096, 1024)), A100).parts > 1);
        for gpu in GPUS {
            let Choice { tile, parts } = choose(shape((5, 4096, 256)), gpu);
            assert!(parts > 1, "{gpu:?}: {tile:?}");
        }
        // Orin's sixteen are busy with tiles as they are.
        for real in REAL {
            assert_eq!(choose(shape(real), ORIN).parts, 1, "{real:?}");
        }
    }

    #[test]
    fn geforce_holds_two_large_blocks() {
        assert_eq!([Tile::Large, Tile::Middle, Tile::Small].map(|tile| RTX4090.resident(tile)), [2, 1, 2]);
        assert_eq!([Tile::Large, Tile::Middle, Tile::Small].map(|tile| A100.resident(tile)), [2, 2, 2]);
    }

    #[test]
    fn no_choice_leaves_its_bounds() {
        let odd = [(1, 1, 1), (1, 4096, 1), (20, 512, 2048), (4097, 1024, 1024), (901, 33, 17)];
        let tiny = Size { multiprocessors: 1, shared: 64 << 10, rate: 1024.0, l2: 32.0 };
        for gpu in GPUS.into_iter().chain([tiny]) {
            for (rows, depth, columns) in REAL.into_iter().chain(odd) {
                for items in [1, 3] {
                    let shape = Shape { items, ..shape((rows, depth, columns)) };
                    for choice in [choose(shape, gpu), choose_among(&[Tile::Small], shape, gpu)] {
                        let Choice { tile, parts } = choice;
                        let (tiles, steps) = (shape.tiles(tile), depth.div_ceil(tile.step()));
                        assert!((1..=steps).contains(&parts), "every part has something to sum");
                        if parts > 1 {
                            assert!(tiles * parts * tile.area() * 4 <= gpu.workspace_bytes());
                            assert!(tiles <= gpu.most_cut_tiles());
                        }
                    }
                }
            }
        }
    }
}
