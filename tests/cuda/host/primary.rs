//! Engines in the GPU's primary context, which they share with whatever else is in the process.

use lseg_fast::Error;
use lseg_fast::device::cuda::{ContextKind, ContextOptions, Cuda, Waiting};

use testing::process::child;

use super::small::Layers;
use super::{has, is_there, is_virtual};

fn options(waiting: Waiting) -> ContextOptions {
    ContextOptions { kind: ContextKind::Primary, waiting }
}

fn open(waiting: Waiting) -> Cuda {
    Cuda::open(0, options(waiting)).unwrap()
}

#[test]
fn a_frame_in_the_primary_context_is_the_frame() {
    if !is_there() {
        return;
    }
    let mut own = Cuda::new(0).unwrap();
    let expected = Layers::new(&mut own, 16).compile(&mut own, 8).run(&mut own, 0).unwrap();
    for asleep in [false, true] {
        let [mut one, mut two] = [(), ()].map(|()| open(Waiting { asleep, limit: None }));
        let [mut first, mut second] = [&mut one, &mut two].map(|cuda| Layers::new(cuda, 16).compile(cuda, 8));
        for _ in 0..3 {
            assert_eq!(first.run(&mut one, 0).unwrap(), expected);
            second.submit(&mut two, 0, 0).unwrap();
            assert_eq!(second.finish(&mut two, 0).unwrap(), expected);
        }
        // What one gives back, the other has still.
        drop((one, first));
        assert_eq!(second.run(&mut two, 0).unwrap(), expected);
    }
}

#[test]
fn what_ends_the_primary_context_ends_all_engines_in_it_and_no_other() {
    const TEST: &str = "host::primary::what_ends_the_primary_context_ends_all_engines_in_it_and_no_other";
    if !is_virtual() {
        return;
    }
    if std::env::var_os("VGPU_FAIL").is_none() {
        let output = child(TEST).env("VGPU_FAIL", "cuGraphLaunch:1:700!").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let mut own = Cuda::new(0).unwrap();
    let [mut one, mut two] = [(), ()].map(|()| open(Waiting::default()));
    let [mut right, mut first, mut second] =
        [&mut own, &mut one, &mut two].map(|cuda| Layers::new(cuda, 16).compile(cuda, 8));
    let expected = right.run(&mut own, 0).unwrap();
    assert_eq!(first.run(&mut one, 0).unwrap(), expected);
    second.submit(&mut two, 0, 0).unwrap();
    // The replay of the one is what fails.
    let reasons = [first.run(&mut one, 0), second.finish(&mut two, 0), second.run(&mut two, 0)].map(Result::unwrap_err);
    for error in reasons {
        assert!(matches!(error, Error::Lost(_)), "{error}");
        has(
            &error.to_string(),
            &["CUDA error 700 ", "a new one in a context of its own", "until all of them have released it"],
        );
    }
    // The other holds the context: a new engine has the same one, and is lost from its beginning.
    drop((one, first));
    let error = Cuda::open(0, options(Waiting::default())).err().unwrap();
    assert!(matches!(error, Error::Lost(_)), "{error}");
    has(&error.to_string(), &["CUDA error 700 ", "a new one in a context of its own"]);
    assert_eq!(right.run(&mut own, 0).unwrap(), expected);
    drop((two, second));
    // Released by all, it is another.
    let mut new = open(Waiting::default());
    assert_eq!(Layers::new(&mut new, 16).compile(&mut new, 8).run(&mut new, 0).unwrap(), expected);
}
