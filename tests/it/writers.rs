//! Whichever write fails, a writer says so: none takes half a file for a whole one.

use std::cell::RefCell;
use std::io::{self, Write};

use half::f16;
use lseg_fast::embedding::At;
use lseg_fast::image::mask;
use lseg_fast::image::npy::{self, Dtype};
use lseg_fast::{DeviceChoice, Embedding, Engine, Image, Options};

/// Takes so many writes, then none.
struct Full {
    left: usize,
}

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self.left.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
        // Less than was given, as a disk's last block does.
        Ok(bytes.len().div_ceil(2))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.left = self.left.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
        Ok(())
    }
}

/// Lets every write fail in turn, until there are enough for the whole file.
fn each_failure_is_told(what: &str, write: impl Fn(&mut Full) -> io::Result<()>) {
    for writes in 0..100_000 {
        match write(&mut Full { left: writes }) {
            Ok(()) => {
                assert!(writes > 1, "{what}: nothing was written");
                // Nothing was left out because the last one failed.
                let mut plenty = Full { left: 1 << 20 };
                write(&mut plenty).unwrap();
                assert_eq!((1 << 20) - plenty.left, writes, "{what}");
                return;
            }
            Err(error) => assert!(error.to_string().contains("no storage space"), "{what}: {error}"),
        }
    }
    panic!("{what}: endless");
}

#[test]
fn every_write_that_fails_is_told() {
    let (width, height) = (61, 47);
    let values: Vec<u16> = (0..width * height).map(|i| (i * i % 3) as u16).collect();
    let colours: Vec<[u8; 3]> = (0..300_u16).map(|i| [i as u8, 2, 3]).collect();
    let embedding =
        Embedding { channels: 5, height: 8, width: 9, data: (0..5 * 8 * 9).map(|i| (i % 7) as f32 + 1.0).collect() };
    let options = Options { device: DeviceChoice::Cpu, threads: Some(1), ..Options::default() };
    let mut engine = Engine::load_demo(&options).unwrap();
    engine.set_size("32x32".parse().unwrap());
    each_failure_is_told("mask", |out| mask::write(out, &values, width, height, &colours[..3]));
    each_failure_is_told("mask of many labels", |out| mask::write(out, &values, width, height, &colours));
    each_failure_is_told("binary mask", |out| mask::write_binary(out, &values, width, height, 1));
    each_failure_is_told("float32", |out| npy::write(out, &[4, 25], &[1.5_f32; 100]));
    each_failure_is_told("float16", |out| npy::write(out, &[4, 25], &[f16::ONE; 100]));
    for (dtype, normalise) in [(Dtype::F32, false), (Dtype::F16, true)] {
        each_failure_is_told("embedding", |out| embedding.write(out, dtype, normalise));
        let rgb = [99; 21 * 13 * 3];
        let frame = Image::rgb8(21, 13, &rgb);
        let resized = RefCell::new(engine.embed_resized(&frame, At::Photo, dtype, normalise).unwrap());
        each_failure_is_told("resized embedding", |out| resized.borrow_mut().write(out).unwrap());
    }
}
