//! A photo's map of features, or of scores, as a file that NumPy, safetensors or PyTorch reads, written piece by piece as it is
//! computed: no memory for the whole is taken.

mod torch;

use std::io::{self, SeekFrom};
use std::ops::Range;

use flate2::Crc;
use half::f16;

use crate::atomic_file::WriteSeek;
use crate::image::npy::{self, Dtype};
use crate::safetensors_header;

/// The kind of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// NumPy's.
    Npy,
    /// One tensor, `features`.
    Safetensors,
    /// As `torch.save` writes a tensor.
    Pt,
}

impl Kind {
    /// Of the file's name.
    pub fn ending(self) -> &'static str {
        match self {
            Kind::Npy => "npy",
            Kind::Safetensors => "safetensors",
            Kind::Pt => "pt",
        }
    }
}

/// The order of the dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `[channels, height, width]`
    Chw,
    /// `[height, width, channels]`
    Hwc,
    /// `[1, channels, height, width]`
    Nchw,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    pub kind: Kind,
    pub order: Order,
    pub dtype: Dtype,
}

impl Form {
    /// Of a map of (height, width).
    pub fn shape(&self, channels: usize, (height, width): (usize, usize)) -> Vec<usize> {
        match self.order {
            Order::Chw => vec![channels, height, width],
            Order::Hwc => vec![height, width, channels],
            Order::Nchw => vec![1, channels, height, width],
        }
    }

    /// Of all values.
    pub fn bytes(&self, channels: usize, (height, width): (usize, usize)) -> u64 {
        channels as u64 * height as u64 * width as u64 * self.value_bytes()
    }

    fn value_bytes(&self) -> u64 {
        if self.dtype == Dtype::F16 { 2 } else { 4 }
    }
}

/// A file in the making.
pub struct Writer<'a> {
    out: &'a mut dyn WriteSeek,
    form: Form,
    channels: usize,
    size: (usize, usize),
    /// Where the values begin.
    begin: u64,
    /// Of what was written of each run of values that comes in its order: planes, or the whole; their rows, where strips of columns
    /// come one after the other.
    sums: Vec<Crc>,
    by_rows: bool,
    torch: Option<torch::Archive>,
    memory: Vec<u8>,
}

impl<'a> Writer<'a> {
    /// Writes what stands before the values. `in_strips`: they come in strips of columns.
    ///
    /// # Errors
    /// What writing yields.
    pub fn new(
        mut out: &'a mut dyn WriteSeek,
        form: Form,
        channels: usize,
        size: (usize, usize),
        in_strips: bool,
    ) -> io::Result<Writer<'a>> {
        let shape = form.shape(channels, size);
        let mut torch = None;
        match form.kind {
            Kind::Npy => npy::write_header(&mut out, form.dtype, &shape)?,
            Kind::Safetensors => out.write_all(&safetensors_header(&form, &shape, form.bytes(channels, size)))?,
            Kind::Pt => torch = Some(torch::Archive::begin(out, form.dtype, &shape)?),
        }
        let begin = out.stream_position()?;
        let planes = if form.order == Order::Hwc { 1 } else { channels };
        let runs = if torch.is_none() {
            0
        } else if in_strips {
            planes * size.0
        } else {
            planes
        };
        let sums = (0..runs).map(|_| Crc::new()).collect();
        Ok(Writer { out, form, channels, size, begin, sums, by_rows: in_strips, torch, memory: Vec::new() })
    }

    /// Some rows of some columns: `values` are `[rows, columns, channels]`.
    ///
    /// # Errors
    /// What writing yields.
    pub fn put(&mut self, rows: Range<usize>, columns: Range<usize>, values: &[f32]) -> io::Result<()> {
        let (across, channels) = (columns.len(), self.channels);
        if self.form.order == Order::Hwc {
            for (y, row) in rows.clone().zip(values.chunks_exact(across * channels)) {
                self.memory.clear();
                push(self.form.dtype, row.iter().copied(), &mut self.memory);
                self.write_run(0, y, (y * self.size.1 + columns.start) * channels)?;
            }
            return Ok(());
        }
        let is_whole = across == self.size.1;
        for k in 0..channels {
            let plane = k * self.size.0 * self.size.1;
            let (width, first) = (self.size.1, columns.start);
            let at = |y: usize| plane + y * width + first;
            if is_whole && !self.by_rows {
                self.memory.clear();
                push(self.form.dtype, values.iter().skip(k).step_by(channels).copied(), &mut self.memory);
                self.write_run(k, rows.start, at(rows.start))?;
                continue;
            }
            for (y, row) in rows.clone().zip(values.chunks_exact(across * channels)) {
                self.memory.clear();
                push(self.form.dtype, row.iter().skip(k).step_by(channels).copied(), &mut self.memory);
                self.write_run(k, y, at(y))?;
            }
        }
        Ok(())
    }

    /// What is in memory, where the value numbered `first` lies; of a plane (or of all) and a row.
    fn write_run(&mut self, plane: usize, row: usize, first: usize) -> io::Result<()> {
        let to = self.begin + first as u64 * self.form.value_bytes();
        if self.out.stream_position()? != to {
            self.out.seek(SeekFrom::Start(to))?;
        }
        let run = if self.by_rows { plane * self.size.0 + row } else { plane };
        if let Some(sum) = self.sums.get_mut(run) {
            sum.update(&self.memory);
        }
        self.out.write_all(&self.memory)
    }

    /// Writes what stands behind the values.
    ///
    /// # Errors
    /// What writing yields.
    pub fn end(self) -> io::Result<()> {
        let Some(torch) = self.torch else { return Ok(()) };
        let mut sum = Crc::new();
        self.sums.iter().for_each(|run| sum.combine(run));
        self.out.seek(SeekFrom::Start(self.begin + self.form.bytes(self.channels, self.size)))?;
        torch.end(self.out, sum.sum())
    }
}

/// The values as the file has them. Its byte order is this machine's, as in all array files here.
fn push(dtype: Dtype, values: impl Iterator<Item = f32>, to: &mut Vec<u8>) {
    match dtype {
        Dtype::F16 => values.for_each(|value| to.extend_from_slice(&f16::from_f32(value).to_ne_bytes())),
        Dtype::F32 => values.for_each(|value| to.extend_from_slice(&value.to_ne_bytes())),
    }
}

fn safetensors_header(form: &Form, shape: &[usize], bytes: u64) -> Vec<u8> {
    let dtype = if form.dtype == Dtype::F16 { "F16" } else { "F32" };
    let tensor = serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": [0, bytes] });
    safetensors_header::framed(serde_json::json!({ "features": tensor }).to_string().into_bytes())
}
