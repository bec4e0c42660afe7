//! Operations of sizes that no kernel takes: the CPU computes them, and the GPU says so before anything runs.

use lseg_fast::Error;
use lseg_fast::device::cuda::Cuda;
use lseg_fast::device::{Device, Upload};
use lseg_fast::ops::{Element, Epilogue, Linear, PlanBuilder, layer_norm};
use lseg_fast::plan::{self, Plan};

use super::small::Layers;
use super::{REPLAYED, has, is_there};

fn record(forward: impl FnOnce(&mut PlanBuilder)) -> Plan {
    plan::record(2, &[], forward).0
}

/// A row too wide for LayerNorm.
fn wide_norm(cuda: &mut Cuda) -> Plan {
    let [weight, bias] = [1.0, 0.0].map(|value| cuda.vector(&[value; 2000]).unwrap());
    record(|d| {
        let x = d.buffer("x", [1, 1, 8, 2000], Element::F32);
        let out = d.buffer("out", x.shape, Element::Activation);
        d.layer_norm(x, &layer_norm::Weights { weight, bias, eps: 1e-5 }, out);
    })
}

/// A product whose rows are no whole chunks of 16 bytes.
fn ragged_product(cuda: &mut Cuda) -> Plan {
    let weight = cuda.matrix(16, 12, &[1.0; 16 * 12]).unwrap();
    record(|d| {
        let x = d.buffer("x", [1, 1, 8, 12], Element::Activation);
        let out = d.buffer("out", [1, 1, 8, 16], Element::Activation);
        d.gemm(x.all(), &Linear { weight, bias: None }, Epilogue::NONE, out.all());
    })
}

/// Two heads of 20 channels.
fn small_heads(_: &mut Cuda) -> Plan {
    record(|d| {
        let qkv = d.buffer("qkv", [1, 1, 8, 3 * 40], Element::Activation);
        let out = d.buffer("out", [1, 1, 8, 40], Element::Activation);
        d.attention(qkv, 2, false, out);
    })
}

#[test]
fn what_no_kernel_takes_is_refused_by_name_and_the_device_goes_on() {
    if !is_there() {
        return;
    }
    let mut cuda = Cuda::new(0).unwrap();
    let layers = Layers::new(&mut cuda, 16);
    let mut small = layers.compile(&mut cuda, 20);
    let expected = small.run(&mut cuda, 0).unwrap();
    for (make, words) in [
        (wide_norm as fn(&mut Cuda) -> Plan, ["layer_norm 8×2000: ", "2000 channels"]),
        (ragged_product, ["gemm 8×12 · 12→16: ", "12"]),
        (small_heads, ["attention ", "heads of 20 channels"]),
    ] {
        let plan = make(&mut cuda);
        let error = cuda.compile(plan).err().expect("no kernel takes it");
        assert!(matches!(error, Error::Device(_)), "{error}");
        let reason = error.to_string();
        has(&reason, &words);
        has(&reason, &["--device cpu"]);
        assert!(!reason.contains('\n') && !reason.ends_with('.'), "{reason}");
        assert_eq!(small.run(&mut cuda, 0).unwrap(), expected, "after {reason}");
        assert_eq!(layers.compile(&mut cuda, 20).run(&mut cuda, 0).unwrap(), expected, "after {reason}");
    }
    small.run(&mut cuda, 0).unwrap();
    assert_eq!(small.counted(&mut cuda, 0), (expected, REPLAYED));
}
