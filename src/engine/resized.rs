//! Embeddings at the network's or the photo's size, made by the device piece by piece while they are written.

use std::io::{self, Write};

use super::collect::unscale;
use super::lane::write_image;
use super::{Lane, finite};
use crate::device::Program;
use crate::embedding::{At, beyond_f16};
use crate::error::Result;
use crate::image::npy::{self, Dtype};
use crate::model::resized::{ResizedIo, Resizing};
use crate::ops::Element;
use crate::pixels::Image;
use crate::plan;

/// Bytes of a piece at most, where a plane is not larger: eight float16 channels of 1920×1080 pixels, of which a GPU reads the map's
/// in whole sectors. A processor's last cache holds about as much, and a frame takes several times more.
const PIECE: usize = 32 << 20;
/// float32 values that are looked at together.
const LOOK: usize = 1 << 18;

/// The embeddings of a frame, computed and found to be numbers, to be resized while they are written.
pub struct Resized<'a> {
    lane: &'a mut Lane,
    program: Program,
    io: ResizedIo,
    size: (usize, usize),
    dtype: Dtype,
    beyond_f16: Option<f32>,
}

impl Lane {
    /// The pixels' embeddings at the network's or the photo's size, in the type in which they are to be written. With `normalise` each
    /// pixel's vector is brought to length 1 last of all (a zero vector stays zero). Needs no labels. Memory: the half-size map and a
    /// piece of 32 MiB, or one channel where that is larger, and a plane of lengths where they are normalised.
    ///
    /// ```
    /// use lseg_fast::embedding::At;
    /// use lseg_fast::image::npy::Dtype;
    /// use lseg_fast::{Engine, Image, Options};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut engine = Engine::load_demo(&Options::default())?;
    /// engine.set_size("64x96".parse()?);
    /// let rgb = vec![128; 50 * 30 * 3];
    /// let mut resized = engine.embed_resized(&Image::rgb8(50, 30, &rgb), At::Photo, Dtype::F16, true)?;
    /// let [channels, height, width] = resized.shape();
    /// assert_eq!((height, width), (30, 50));
    ///
    /// let mut npy = Vec::new(); // any `Write`: a file that NumPy reads
    /// resized.write(&mut npy)??;
    /// assert_eq!(npy.len(), 128 + channels * height * width * 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Lane::run`].
    pub fn embed_resized(&mut self, frame: &Image<'_>, at: At, dtype: Dtype, normalise: bool) -> Result<Resized<'_>> {
        self.locate(std::slice::from_ref(frame))?;
        let shape = self.frame_shape(std::slice::from_ref(frame))?;
        self.network_size = shape.network;
        let size = if at == At::Full { shape.network } else { shape.photo };
        let element = if dtype == Dtype::F16 { Element::F16 } else { Element::F32 };
        let resizing = Resizing { size, dtype: element, normalise, piece: PIECE };
        let activation = self.device.activation_bytes();
        let model = &self.network.shared().model;
        let (plan, io) = plan::record(activation, &[], |d| model.forward_resized(d, shape, &resizing));
        let (height, width) = shape.network;
        let what = format!("this model at {height}×{width} with embeddings at {}×{}", size.0, size.1);
        // Not kept: to plan it takes no time beside what is written.
        let mut program = self.compile(plan, &what)?;
        self.forget_buffer();
        write_image(frame, io.photo, 0, |buf, first, rows| self.device.write_rows(&mut program, buf, first, rows))?;
        if !self.located.is_empty() {
            self.device.write_images(&mut program, io.photo.buf, &self.located)?;
        }
        self.device.run_steps(&mut program, 0..io.made)?;
        self.note_times();
        let beyond_f16 = self.check_map(&program, io)?;
        Ok(Resized { lane: self, program, io, size, dtype, beyond_f16 })
    }

    /// The first value of the map that float16 cannot hold.
    ///
    /// # Errors
    /// As of [`finite::check_embeddings`].
    fn check_map(&mut self, program: &Program, io: ResizedIo) -> Result<Option<f32>> {
        let Lane { device, network, .. } = self;
        let (network, mut beyond) = (network.shared(), None);
        let mut values = vec![0.0; LOOK.min(io.map.len())];
        for first in (0..io.map.len()).step_by(LOOK) {
            let values = &mut values[..LOOK.min(io.map.len() - first)];
            device.read(program, io.map, 4 * first, bytemuck::cast_slice_mut(values))?;
            unscale(network, "head1", values);
            finite::check_embeddings(network, values, first)?;
            beyond = beyond.or_else(|| beyond_f16(values));
        }
        Ok(beyond)
    }
}

impl Resized<'_> {
    /// `[channels, height, width]`
    pub fn shape(&self) -> [usize; 3] {
        [self.io.map.channels(), self.size.0, self.size.1]
    }

    /// The first value before resizing and normalising that float16 cannot hold, if there is one. Resizing only averages, so that
    /// its results fit where the map does.
    pub fn beyond_f16(&self) -> Option<f32> {
        self.beyond_f16
    }

    /// Writes a NumPy file of this shape, one channel after the other.
    ///
    /// # Errors
    /// The outer are the device's: [`Error::Device`](crate::Error::Device), [`Error::Lost`](crate::Error::Lost). The inner are what
    /// writing to `out` yields.
    pub fn write(&mut self, out: &mut impl Write) -> Result<io::Result<()>> {
        self.lane.device.check()?;
        if let Err(error) = npy::write_header(out, self.dtype, &self.shape()) {
            return Ok(Err(error));
        }
        let last = self.program.plan().steps.len() - 1;
        self.lane.device.run_steps(&mut self.program, self.io.made..last)?;
        let [channels, height, width] = self.shape();
        let at_once = self.io.piece.shape[1];
        let plane = height * width * self.io.piece.element.bytes(0);
        let mut brought = Vec::new();
        for first in (0..channels).step_by(at_once) {
            let device = &mut self.lane.device;
            device.write(&mut self.program, self.io.first, 0, &(first as u32).to_ne_bytes())?;
            device.run_steps(&mut self.program, last..last + 1)?;
            let bytes = plane * at_once.min(channels - first);
            let written = match device.output_memory(&self.program, self.io.piece)? {
                Some(memory) => out.write_all(&memory[..bytes]),
                None => {
                    brought.resize(bytes, 0);
                    device.read(&self.program, self.io.piece, 0, &mut brought)?;
                    out.write_all(&brought)
                }
            };
            if written.is_err() {
                return Ok(written);
            }
        }
        Ok(Ok(()))
    }
}
