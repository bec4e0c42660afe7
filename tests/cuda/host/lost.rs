//! A kernel that faults.

use lseg_fast::Error;
use lseg_fast::device::cuda::{Cuda, MODULES};
use lseg_fast::device::{Device, Upload};

use testing::process::alone;

use super::small::Layers;
use super::{has, is_there};

/// The kernels of a module, each of which writes where nothing is allocated.
fn broken(module: &str) -> String {
    let embedded = MODULES.iter().find(|embedded| embedded.module == module).unwrap();
    let kernels = embedded.kernels.iter().map(|kernel| {
        let (name, params, threads) = (kernel.name, kernel.params, kernel.threads);
        format!(
            ".visible .entry {name}(.param .align 8 .b8 {name}_param_0[{params}])\n.maxntid {threads}, 1, 1\n{{\n\
             .reg .b64 %rd<2>;\n.reg .b32 %r<2>;\nmov.u64 %rd1, 4096;\nmov.u32 %r1, 7;\nst.global.u32 [%rd1], %r1;\n\
             ret;\n}}\n"
        )
    });
    format!(".version 7.4\n.target sm_80\n.address_size 64\n{}", kernels.collect::<String>())
}

/// In a process of its own: CUDA's documentation says that such an error leaves the whole process inconsistent, so on a real GPU no
/// other test may stand beside it.
#[test]
fn a_faulting_kernel_loses_its_engine_and_no_other() {
    if is_there() {
        alone("host::lost::a_faulting_kernel_loses_its_engine_and_no_other", lose_an_engine);
    }
}

fn lose_an_engine() {
    let ptx = broken("layer_norm");
    let (mut other, mut lost) = (Cuda::new(0).unwrap(), Cuda::with_ptx(0, &[("layer_norm", &ptx)]).unwrap());
    let mut right = Layers::new(&mut other, 16).compile(&mut other, 8);
    let mut wrong = Layers::new(&mut lost, 16).compile(&mut lost, 8);
    let expected = right.run(&mut other, 0).unwrap();

    let error = wrong.run(&mut lost, 0).unwrap_err();
    assert!(matches!(error, Error::Lost(_)));
    let reason = error.to_string();
    let words = ["700", "CUDA_ERROR_ILLEGAL_ADDRESS", "make a new one", "a pass of 2 operations", "layer_norm 8×64"];
    has(&reason, &words);
    has(&reason, if other.info().is_virtual { &["OutOfBounds in layer_norm"] } else { &[] });
    // Whatever is asked of it later has the same answer, and what caused it.
    let later = [
        wrong.run(&mut lost, 0).unwrap_err(),
        lost.compile(wrong.program.plan().clone()).err().unwrap(),
        lost.vector(&[1.0]).unwrap_err(),
    ];
    assert!(later.iter().all(|error| matches!(error, Error::Lost(_))));
    for error in later.map(|error| error.to_string()) {
        has(&error, &["lost to an earlier error", "ILLEGAL_ADDRESS"]);
    }
    assert_eq!(right.run(&mut other, 0).unwrap(), expected);
    drop(lost);
    let mut new = Cuda::new(0).unwrap();
    assert_eq!(Layers::new(&mut new, 16).compile(&mut new, 8).run(&mut new, 0).unwrap(), expected);
}

/// What one has in flight ends with the context too.
#[test]
fn siblings_are_lost_together() {
    if is_there() {
        alone("host::lost::siblings_are_lost_together", lose_siblings);
    }
}

fn lose_siblings() {
    let ptx = broken("layer_norm");
    let mut lost = Cuda::with_ptx(0, &[("layer_norm", &ptx)]).unwrap();
    let layers = Layers::new(&mut lost, 16);
    let mut siblings = [lost.another().unwrap(), lost.another().unwrap()];
    let mut wrong = layers.compile(&mut lost, 8);
    let [mut one, mut two] = siblings.each_mut().map(|cuda| layers.compile(cuda, 8));
    let [first, second] = &mut siblings;
    one.submit(first, 0, 0).unwrap();
    let error = wrong.run(&mut lost, 0).unwrap_err();
    has(&error.to_string(), &["ILLEGAL_ADDRESS", "a pass of 2 operations"]);
    let later = [
        one.finish(first, 0).unwrap_err(),
        one.submit(first, 1, 0).unwrap_err(),
        two.submit(second, 0, 0).unwrap_err(),
        two.run(second, 0).unwrap_err(),
        second.another().err().unwrap(),
        second.bank(1, 8, &[0.0; 8], &[0.0]).err().unwrap(),
    ];
    for error in later {
        assert!(matches!(error, Error::Lost(_)), "{error}");
        has(&error.to_string(), &["ILLEGAL_ADDRESS"]);
    }
    // A new one has the GPU to itself.
    drop((lost, wrong));
    drop(siblings);
    let mut new = Cuda::new(0).unwrap();
    Layers::new(&mut new, 16).compile(&mut new, 8).run(&mut new, 0).unwrap();
}
