//! docs/kernels.md: what each kernel does at the real model's shapes, held to what the virtual GPU counts
//! (`LSEG_WRITE_KERNELS=1` writes it anew).

use std::fs;
use std::path::Path;

use lseg_fast::bench::case::plan_of;
use lseg_fast::bench::kernel_page::{HEAD, of_case};
use lseg_fast::device::cuda::{GpuLimits, Launched, MODULES, Target, compile};

use testing::cases::Case;

const INTRODUCTION: &str = "\
# The kernels at the real model's shapes

Written by a test (`LSEG_CUDA_ARCHS=ptx LSEG_WRITE_KERNELS=1 cargo xtask test --test cuda real_shapes`), which holds it to what the
virtual GPU counts; `lseg-fast bench kernels --markdown` prints a table of it. Counts, not times: no kernel has run on silicon yet.
Shapes are those of vitl16 at 480×480, and what rn101 and the text tower have of their own, an operation after the other
(the cases named `real` in `src/ops/`).

- *registers* of a thread at its launch: the most that ptxas of nvcc 13.0 gives it for sm_80 and sm_90a, of the PTX that every build
  has. A build with machine code for more architectures is not held to this column.
- *shared* memory of a block; *tensor GFLOP*: work on tensor cores; *conflicts* of banks of shared memory.
- *coalesced*: the fewest sectors of 32 bytes that hold the loaded bytes, of those that were touched; bulk copies (TMA) apart.
- *memory*: the different bytes touched, over those of inputs, weights and output.

The convolution of three channels (`conv_64x64_any`) gathers values one by one. Points read a part of their map, a stride of two
leaves out three quarters: below 1.00. Where a depth is cut in parts for more blocks their sums come on top, above 1.00, and stay
in the L2 cache. No kernel keeps anything in local memory on any architecture: the build would fail.

Not in the tables, for shapes of other models: `similarity_64`, `attention_full_64`, `layer_norm_256`, `patchify_single` and
`patchify_…_single`; for sums of float16 maps `add_window_half`; tiles of `conv_…` and `wgmma_…` that no shape here takes ([sass.md](sass.md) has all of the
latter); for photos of other formats: `patchify_yuyv_pairs`, `patchify_float_pairs`, `patchify_half_pairs`, and all of
`to_rgb.cu` but `to_rgb_nv12`.
";

/// The page in the making.
#[derive(Default)]
pub struct Page {
    text: String,
}

impl Page {
    /// A table of its own for each device.
    pub fn begin(&mut self, device: &str) {
        let which = if self.text.is_empty() { "" } else { ", where it takes other kernels" };
        self.text += &format!("\n## {device}{which}\n\n{HEAD}");
    }

    pub fn push(&mut self, case: &'static Case, launches: &[Launched]) {
        self.text += &of_case(case, launches);
    }

    /// Compares it with the document.
    pub fn hold(self) {
        let (path, page) =
            (Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/kernels.md"), INTRODUCTION.to_owned() + &self.text);
        if std::env::var_os("LSEG_WRITE_KERNELS").is_some() {
            assert!(
                is_ptx_alone(),
                "of several architectures the registers are the most; write it with LSEG_CUDA_ARCHS=ptx"
            );
            fs::write(&path, &page).expect("the document's place");
        }
        let document = fs::read_to_string(&path).unwrap_or_default();
        let (expected, found): (Vec<String>, Vec<String>) = (held(&page), held(&document));
        let other: Vec<&String> = expected.iter().filter(|line| !found.contains(line)).collect();
        assert!(
            expected == found,
            "docs/kernels.md differs from what nvcc 13.0's kernels do (LSEG_WRITE_KERNELS=1 writes it); it lacks:\n{other:#?}"
        );
    }
}

fn is_ptx_alone() -> bool {
    MODULES.iter().all(|embedded| embedded.cubins.is_empty())
}

/// The lines, without the registers where they are the most of several architectures.
fn held(page: &str) -> Vec<String> {
    const REGISTERS: usize = 3;
    let line = |line: &str| {
        let cells: Vec<&str> = line.split('|').collect();
        let kept = cells.iter().enumerate().filter(|(i, _)| is_ptx_alone() || cells.len() < 9 || *i != REGISTERS);
        kept.map(|(_, cell)| *cell).collect::<Vec<_>>().join("|")
    };
    page.lines().map(line).collect()
}

/// The kernels that compute a case on a GPU, which need not be there.
pub fn kernels(case: &Case, gpu: GpuLimits) -> Vec<&'static str> {
    let launches = compile(&plan_of(case, 2, &case.shapes()), Target::absent(gpu)).expect("the real model fits a GPU");
    launches.of_step(0).iter().map(|launch| launch.kernel.name).collect()
}
