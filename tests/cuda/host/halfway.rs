//! Calls of the driver that fail half way through something: nothing uses what is gone by then, and the device works on.

use lseg_fast::device::cuda::{Cuda, Forced, configs};
use lseg_fast::device::{Device, Upload};
use lseg_fast::ops::{Element, Epilogue, Linear, layer_norm};
use lseg_fast::{Error, Result, plan};

use super::small::{Layers, Small, WIDTH, bank, pattern};
use super::{failing, is_virtual};

/// A depth that can be cut in parts.
const DEEP: usize = 1024;

/// What a device of its own makes of 20 rows and these weights.
fn fresh(rows: &[f32], seed: usize) -> Vec<u32> {
    let mut cuda = Cuda::new(0).unwrap();
    Layers::with_bank(&mut cuda, rows).compile(&mut cuda, 20).run(&mut cuda, seed).unwrap()
}

/// Either of the two copies to the larger place, each when the graph is there.
#[test]
fn a_bank_that_cannot_be_set_leaves_the_one_before() {
    if !is_virtual() {
        return;
    }
    let failures = "cuMemcpyDtoDAsync_v2:3:1,cuMemcpyDtoDAsync_v2:5:1";
    failing("host::halfway::a_bank_that_cannot_be_set_leaves_the_one_before", failures, || {
        let mut cuda = Cuda::new(0).unwrap();
        let rows = |seed| pattern(16 * WIDTH, seed);
        let layers = Layers::with_bank(&mut cuda, &rows(1));
        let mut small = layers.compile(&mut cuda, 20);
        let expected: Vec<u32> = (0..3).map(|_| small.run(&mut cuda, 0).unwrap()).next_back().unwrap();
        for _ in 0..2 {
            let larger = bank(&cuda, &pattern(4096 * WIDTH, 5));
            let error = cuda.set_bank(Some(layers.linear), &larger).unwrap_err();
            assert!(matches!(error, Error::Device(_)), "{error}");
            // It takes the place of what was given back.
            cuda.matrix(16, WIDTH, &[f32::NAN; 16 * WIDTH]).unwrap();
            assert_eq!(small.run(&mut cuda, 0).unwrap(), expected);
        }
        // As many as there were.
        let other = bank(&cuda, &rows(9));
        assert_eq!(cuda.set_bank(Some(layers.linear), &other).unwrap(), layers.linear);
        assert_eq!(small.run(&mut cuda, 0).unwrap(), fresh(&rows(9), 0));
    });
}

/// A product of these rows that is cut in so many parts, which meet in the device's workspace where there is more than one.
fn cut(cuda: &mut Cuda, layers: &Layers, rows: usize, parts: usize) -> Result<Small> {
    let cut = configs(Element::Activation).filter(|config| config.parts == parts && !config.tile.is_of_warpgroups());
    let config = cut.max_by_key(|config| config.tile.rows * config.tile.columns);
    cuda.force(Forced { config, ..Forced::default() });
    let (plan, [x, out]) = plan::record(cuda.activation_bytes(), &[], |d| {
        let x = d.buffer("x", [1, 1, rows, DEEP], Element::F32);
        d.input(x);
        let normed = d.buffer("normed", x.shape, Element::Activation);
        d.layer_norm(x, &layers.norm, normed);
        let out = d.buffer("out", [1, 1, rows, layers.linear.weight.n], Element::F32);
        d.gemm(normed.all(), &layers.linear, Epilogue::NONE, out.all());
        d.output(out);
        [x, out]
    });
    Ok(Small { program: cuda.compile(plan)?, x, out })
}

/// Where there is no room for a larger workspace, the smaller one is gone.
#[test]
fn a_workspace_that_cannot_grow_is_made_anew() {
    if !is_virtual() {
        return;
    }
    failing("host::halfway::a_workspace_that_cannot_grow_is_made_anew", "cuMemAlloc_v2:8:2", || {
        let mut cuda = Cuda::new(0).unwrap();
        let [ones, zeros] = [1.0, 0.0].map(|value| cuda.vector(&[value; DEEP]).unwrap());
        let weight = cuda.matrix(256, DEEP, &pattern(256 * DEEP, 1)).unwrap();
        let norm = layer_norm::Weights { weight: ones, bias: zeros, eps: 1e-5 };
        let layers = Layers { norm, linear: Linear { weight, bias: None } };
        // The arena and the host's memory are large enough for all that follows.
        cut(&mut cuda, &layers, 300, 1).unwrap();
        let mut small = cut(&mut cuda, &layers, 20, 4).unwrap();
        let expected = small.run(&mut cuda, 0).unwrap();
        (0..2).for_each(|_| assert_eq!(small.run(&mut cuda, 0).unwrap(), expected));
        let error = cut(&mut cuda, &layers, 129, 4).err().unwrap();
        assert!(error.to_string().contains("the products' workspace needs"), "{error}");
        (0..3).for_each(|_| assert_eq!(small.run(&mut cuda, 0).unwrap(), expected));
    });
}

/// Whichever call of the device it is that does not reach its context: it costs that call, and a slot is free afterwards.
#[test]
fn a_call_that_does_not_reach_its_context_leaves_the_slot_free() {
    if !is_virtual() {
        return;
    }
    let failures: Vec<String> =
        (0..40).map(|i| format!("cuCtxPushCurrent_v2:{}:1", 200 + 11 * i + i * i % 7)).collect();
    let test = "host::halfway::a_call_that_does_not_reach_its_context_leaves_the_slot_free";
    failing(test, &failures.join(","), || {
        let mut cuda = Cuda::new(0).unwrap();
        let layers = Layers::new(&mut cuda, 16);
        let mut small = layers.compile(&mut cuda, 20);
        let expected: Vec<Vec<u32>> = (0..7).map(|seed| small.run(&mut cuda, seed).unwrap()).collect();
        // Both slots are made before anything fails.
        for slot in [0, 1] {
            small.submit(&mut cuda, slot, 0).unwrap();
            small.finish(&mut cuda, slot).unwrap();
        }
        let (mut submitting, mut finishing) = (0, 0);
        for round in 0..250 {
            let (slot, seed) = (round % 2, round % expected.len());
            if let Err(error) = small.submit(&mut cuda, slot, seed) {
                assert!(matches!(error, Error::Device(_)), "{error}");
                submitting += 1;
                continue;
            }
            match small.finish(&mut cuda, slot) {
                Ok(got) => assert_eq!(got, expected[seed], "round {round}"),
                Err(error) => {
                    assert!(matches!(error, Error::Device(_)), "{error}");
                    finishing += 1;
                }
            }
        }
        assert!(submitting > 5 && finishing > 5, "{submitting}, {finishing}");
        assert_eq!(small.run(&mut cuda, 0).unwrap(), expected[0]);
    });
}
