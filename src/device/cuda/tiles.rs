//! Which tile a product gets, and in how many parts its depth is cut: by a small model of time, from the shape and the
//! number of multiprocessors alone.

/// The tiles of kernels/product.cuh that gemm and conv are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tile {
    /// 128×128 by four warps.
    Large,
    /// 64×64 by two warps.
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

/// Parts are summed up through memory; more are never worth it.
const MOST_PARTS: usize = 8;
/// Multiply-adds a multiprocessor does in a clock: A100's; only the relation to the costs below matters.
const RATE: f64 = 1024.0;
/// Clocks until a block's first tiles have come, and until its last results have left.
const ENDS: f64 = 1500.0;
/// Bytes a clock that a multiprocessor writes or reads of parts.
const BYTES: f64 = 32.0;

impl Tile {
    pub fn side(self) -> usize {
        match self {
            Tile::Large => 128,
            Tile::Small => 64,
        }
    }

    /// Depth of one stage.
    pub fn step(self) -> usize {
        match self {
            Tile::Large => 32,
            Tile::Small => 64,
        }
    }

    fn warps(self) -> usize {
        match self {
            Tile::Large => 4,
            Tile::Small => 2,
        }
    }

    /// Blocks that one multiprocessor holds.
    fn resident(self) -> usize {
        match self {
            Tile::Large => 2,
            Tile::Small => 4,
        }
    }

    /// What of the tensor cores' rate its main loop can use: the small tile loads 0.375 fragments for an mma, the large
    /// one 0.25.
    fn share(self) -> f64 {
        match self {
            Tile::Large => 1.0,
            Tile::Small => 0.75,
        }
    }
}

impl Shape {
    /// Tiles of the output.
    pub fn tiles(&self, tile: Tile) -> usize {
        self.items * self.rows.div_ceil(tile.side()) * self.columns.div_ceil(tile.side())
    }
}

/// Bytes for the sums of parts: what two large blocks on every multiprocessor write.
pub fn workspace_bytes(multiprocessors: usize) -> usize {
    multiprocessors * 2 * Tile::Large.side().pow(2) * 4
}

/// Tiles of a product that is cut in parts, at most: those that do not fill the GPU.
pub fn most_cut_tiles(multiprocessors: usize) -> usize {
    multiprocessors * Tile::Small.resident()
}

/// The quickest of all tiles and parts by the model.
pub fn choose(shape: Shape, multiprocessors: usize) -> Choice {
    let all = [Tile::Large, Tile::Small]
        .into_iter()
        .flat_map(|tile| (1..=MOST_PARTS).map(move |parts| Choice { tile, parts }))
        .filter(|choice| allowed(shape, *choice, multiprocessors));
    all.min_by(|a, b| clocks(shape, *a, multiprocessors).total_cmp(&clocks(shape, *b, multiprocessors)))
        .expect("a product in one part is always allowed")
}

fn allowed(shape: Shape, Choice { tile, parts }: Choice, multiprocessors: usize) -> bool {
    let (tiles, steps) = (shape.tiles(tile), shape.depth.div_ceil(tile.step()));
    let fits = tiles * parts * tile.side().pow(2) * 4 <= workspace_bytes(multiprocessors);
    parts == 1 || (fits && tiles <= most_cut_tiles(multiprocessors) && steps >= 4 * parts)
}

/// Clocks until the last block has ended.
fn clocks(shape: Shape, Choice { tile, parts }: Choice, multiprocessors: usize) -> f64 {
    let area = tile.side().pow(2) as f64;
    let steps = shape.depth.div_ceil(tile.step()).div_ceil(parts) * tile.step();
    // Blocks that the busiest multiprocessor does, and those of them that it does at a time.
    let blocks = (shape.tiles(tile) * parts).div_ceil(multiprocessors);
    let together = blocks.min(tile.resident());
    // Fewer warps than the tensor cores need to be always busy.
    let busy = match together * tile.warps() {
        0..=2 => 0.45,
        3..=4 => 0.7,
        5..=6 => 0.85,
        _ => 1.0,
    };
    let sums = blocks as f64 * area * steps as f64 / (RATE * tile.share() * busy);
    let ends = ENDS * blocks.div_ceil(together) as f64;
    let joining = if parts == 1 { 0.0 } else { ENDS + area * 4.0 * (1 + parts) as f64 / BYTES };
    sums + ends + joining
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(rows: usize, depth: usize, columns: usize) -> Shape {
        Shape { items: 1, rows, columns, depth }
    }

    /// The products of vitl16 at 480×480.
    const REAL: [(usize, usize, usize); 9] = [
        (900, 768, 1024),
        (901, 1024, 3072),
        (901, 1024, 1024),
        (901, 1024, 4096),
        (901, 4096, 1024),
        (900, 1024, 256),
        (900, 1024, 512),
        (14_400, 256, 256),
        (57_600, 256, 512),
    ];

    #[test]
    fn wide_products_get_large_tiles_uncut() {
        for multiprocessors in [16, 108, 128, 132] {
            for (rows, depth, columns) in [(901, 1024, 4096), (57_600, 256, 512)] {
                let choice = choose(shape(rows, depth, columns), multiprocessors);
                assert_eq!(
                    choice,
                    Choice { tile: Tile::Large, parts: 1 },
                    "{rows}×{depth}→{columns} on {multiprocessors}"
                );
            }
        }
    }

    #[test]
    fn products_that_leave_multiprocessors_idle_are_cut() {
        for multiprocessors in [108, 128, 132] {
            let deep = choose(shape(901, 4096, 1024), multiprocessors);
            assert!(deep.parts > 1, "{deep:?} on {multiprocessors}");
            let narrow = shape(900, 1024, 256);
            let choice = choose(narrow, multiprocessors);
            assert!(narrow.tiles(choice.tile) * choice.parts > multiprocessors / 2, "{choice:?} on {multiprocessors}");
        }
        // Orin's sixteen are busy with tiles as they are.
        assert_eq!(choose(shape(901, 4096, 1024), 16).parts, 1);
    }

    #[test]
    fn no_choice_leaves_its_bounds() {
        let odd = [(1, 1, 1), (1, 4096, 1), (20, 512, 2048), (4097, 1024, 1024), (901, 33, 17)];
        for multiprocessors in [1, 14, 16, 108, 132] {
            for (rows, depth, columns) in REAL.into_iter().chain(odd) {
                let shape = shape(rows, depth, columns);
                let Choice { tile, parts } = choose(shape, multiprocessors);
                let (tiles, steps) = (shape.tiles(tile), depth.div_ceil(tile.step()));
                assert!((1..=steps).contains(&parts), "every part has something to sum");
                if parts > 1 {
                    assert!(tiles * parts * tile.side().pow(2) * 4 <= workspace_bytes(multiprocessors));
                    assert!(tiles <= most_cut_tiles(multiprocessors));
                }
            }
        }
    }
}
