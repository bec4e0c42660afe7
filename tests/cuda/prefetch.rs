//! What attention has brought to the L2 cache for the products behind it.

use lseg_fast::device::cuda::Record;
use lseg_fast::device::{Device, Upload};
use lseg_fast::ops::{Element, Epilogue, Linear, PlanBuilder};
use lseg_fast::plan;

use crate::gpu::{device, open, ordinal};
use crate::host::small::pattern;

/// Attention with three products behind it, of 64 → 64, 64 → 200 and 200 → 64: the weights of the first two, whole.
#[test]
fn attention_prefetches_the_next_products_weights() {
    if !device().is_some_and(|cuda| cuda.info().is_virtual) {
        return;
    }
    let expected = [("h100:sched=0", 2 * (64 * 64 + 200 * 64)), ("orin:sched=1", 0)];
    for (board, bytes) in expected {
        let mut cuda = open(ordinal(board)).expect("it was there before");
        let weights = [(64, 64), (200, 64), (64, 200)]
            .map(|(n, k)| Linear { weight: cuda.matrix(n, k, &pattern(n * k, n)).unwrap(), bias: None });
        let (plan, x) = plan::record(cuda.activation_bytes(), &[], |d| {
            let buffer = |d: &mut PlanBuilder, name, width| d.buffer(name, [1, 1, 33, width], Element::Activation);
            let qkv = buffer(d, "qkv", 3 * 64);
            d.input(qkv);
            let mut x = buffer(d, "attention", 64);
            d.attention(qkv, 1, false, x);
            for (linear, name) in weights.iter().zip(["first", "second", "third"]) {
                let out = buffer(d, name, linear.weight.n);
                d.gemm(x.all(), linear, Epilogue::NONE, out.all());
                x = out;
            }
            d.output(x);
            qkv
        });
        let mut program = cuda.compile(plan).unwrap();
        cuda.write(&mut program, x, 0, &vec![0; 2 * x.len()]).unwrap();
        cuda.record(Record::Counts);
        cuda.run(&mut program).unwrap();
        let found: Vec<u64> = cuda.take_launches().iter().map(|launch| launch.counts.bulk_prefetch_bytes).collect();
        assert_eq!(found, [bytes, 0, 0, 0], "{board}");
    }
}
