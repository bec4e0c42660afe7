//! Where a tensor's elements lie in the file, and how they are read: whole chunks where they are contiguous,
//! gathered in the file's order where they are not.

use std::sync::Arc;

use crate::crc::{Reading, Summed};
use crate::elements::{self, element_f32, to_f32};
use crate::limits::{MAX_DIMENSIONS, MAX_REPEATED};
use crate::source::Source;
use crate::{Dtype, Result, TensorInfo};

/// Bytes read at once: large enough for the disk, small enough that they are in the processor's cache while they are
/// summed and converted.
pub(crate) const CHUNK: usize = 1 << 18;

/// The bytes of one storage in the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub offset: u64,
    pub len: u64,
}

/// A tensor as a view of the file.
#[derive(Debug)]
pub(crate) struct Layout {
    pub info: TensorInfo,
    /// Byte of the first element.
    offset: u64,
    /// `None` where the elements lie one after the other, last dimension fastest.
    gather: Option<Vec<Axis>>,
    /// The storage that the elements lie in, where the file has a checksum of it.
    summed: Option<Arc<Summed>>,
}

/// A dimension of a tensor that is not contiguous.
#[derive(Debug)]
struct Axis {
    size: usize,
    /// Elements from one index to the next, in the file and in the contiguous result.
    source: u64,
    target: usize,
}

impl Layout {
    /// Elements one after the other from byte `offset`; the caller has checked that the file holds them.
    pub fn contiguous(dtype: Dtype, shape: Vec<usize>, offset: u64) -> Self {
        Layout { info: TensorInfo { dtype, shape }, offset, gather: None, summed: None }
    }

    /// The same elements, of a storage that has a checksum (or has none).
    pub fn of(self, summed: Option<Arc<Summed>>) -> Self {
        Layout { summed, ..self }
    }

    /// Whether the file has a checksum of these elements.
    pub fn is_summed(&self) -> bool {
        self.summed.is_some()
    }

    /// A view of a storage: `start` and `strides` in elements, as PyTorch writes them.
    pub fn strided(
        dtype: Dtype,
        shape: Vec<usize>,
        strides: &[u64],
        start: u64,
        storage: Extent,
    ) -> Result<Self, String> {
        if shape.len() != strides.len() || shape.len() > MAX_DIMENSIONS {
            return Err(format!("{} sizes and {} strides make no tensor", shape.len(), strides.len()));
        }
        let size = elements::size(dtype) as u64;
        let capacity = storage.len / size;
        let out_of_bounds = || {
            format!(
                "shape {shape:?}, strides {strides:?} from element {start} do not fit its storage of {capacity} elements"
            )
        };
        // As the machine counts: `TensorInfo::count` must not overflow.
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(out_of_bounds)? as u64;
        if count > capacity.saturating_add(MAX_REPEATED) {
            return Err(out_of_bounds());
        }
        let mut last = start;
        if count > 0 {
            for (&d, &stride) in shape.iter().zip(strides) {
                let reach = (d as u64 - 1).checked_mul(stride).ok_or_else(out_of_bounds)?;
                last = last.checked_add(reach).ok_or_else(out_of_bounds)?;
            }
            if last >= capacity {
                return Err(out_of_bounds());
            }
        } else if start > capacity {
            return Err(out_of_bounds());
        }
        let offset = storage.offset + start * size;
        let gather = if count == 0 { None } else { axes(&shape, strides)? };
        Ok(Layout { info: TensorInfo { dtype, shape }, offset, gather, summed: None })
    }

    /// Bytes of the file that reading them goes through: all from the first to the last, where strides step over some.
    pub fn span(&self) -> u64 {
        let Some(axes) = &self.gather else { return self.info.bytes() };
        span(axes, elements::size(self.info.dtype) as u64)
    }

    /// The elements in their own type, little-endian, last dimension fastest.
    pub fn read_raw(&self, source: &Source, out: &mut Vec<u8>) -> Result<()> {
        let size = elements::size(self.info.dtype);
        out.clear();
        out.resize(addressable(source, &self.info, size)?, 0);
        let mut reading = self.reading(source)?;
        match &self.gather {
            None => {
                out.chunks_mut(CHUNK).try_for_each(|chunk| reading.next(chunk))?;
                reading.end()
            }
            Some(axes) => visit(source, self.offset, size, axes, |target, bytes| {
                out[target * size..][..size].copy_from_slice(bytes);
            }),
        }
    }

    /// The elements as float32; the type must be a float's ([`elements::is_float`]).
    pub fn read_f32(&self, source: &Source, out: &mut Vec<f32>) -> Result<()> {
        let dtype = self.info.dtype;
        out.clear();
        addressable(source, &self.info, size_of::<f32>())?;
        out.resize(self.info.count(), 0.0);
        let mut reading = self.reading(source)?;
        match &self.gather {
            None if dtype == Dtype::F32 => {
                for chunk in out.chunks_mut(CHUNK / 4) {
                    reading.next(bytemuck::cast_slice_mut(chunk))?;
                    if cfg!(target_endian = "big") {
                        chunk.iter_mut().for_each(|x| *x = f32::from_bits(x.to_bits().swap_bytes()));
                    }
                }
                reading.end()
            }
            None => {
                let size = elements::size(dtype);
                let mut bytes = vec![0; CHUNK.min(out.len().saturating_mul(size))];
                for chunk in out.chunks_mut(CHUNK / size) {
                    let bytes = &mut bytes[..chunk.len() * size];
                    reading.next(bytes)?;
                    to_f32(dtype, bytes, chunk);
                }
                reading.end()
            }
            Some(axes) => visit(source, self.offset, elements::size(dtype), axes, |target, bytes| {
                out[target] = element_f32(dtype, bytes);
            }),
        }
    }

    /// Ready to read the elements where they are contiguous; elsewhere their storage's checksum is compared already.
    fn reading<'a>(&'a self, source: &'a Source) -> Result<Reading<'a>> {
        let len = if self.gather.is_none() { self.info.bytes() } else { 0 };
        Reading::new(source, self.offset, len, self.summed.as_deref())
    }
}

/// Bytes of a tensor in elements of this size, where one vector of this machine can have so many.
fn addressable(source: &Source, info: &TensorInfo, size: usize) -> Result<usize> {
    info.count().checked_mul(size).filter(|&bytes| isize::try_from(bytes).is_ok()).ok_or_else(|| {
        source.damaged(format!("its tensor of {info} is more than this machine can address; read it on one of 64 bits"))
    })
}

/// The dimensions in the file's order (largest stride first), or `None` where the tensor is contiguous.
fn axes(shape: &[usize], strides: &[u64]) -> Result<Option<Vec<Axis>>, String> {
    let mut axes = Vec::new();
    let mut target = 1usize;
    let mut contiguous = true;
    for (&size, &source) in shape.iter().zip(strides).rev() {
        // The stride of a dimension of size 1 says nothing.
        if size > 1 {
            contiguous &= source == target as u64;
            axes.push(Axis { size, source, target });
        }
        target *= size;
    }
    if contiguous {
        return Ok(None);
    }
    axes.sort_by_key(|axis| std::cmp::Reverse(axis.source));
    // Every slice, permutation or expansion passes; only views that overlap themselves do not, and those could
    // be read no faster than element by element.
    let mut reach = 0u64;
    for axis in axes.iter().rev() {
        if axis.source != 0 && axis.source <= reach {
            return Err(format!(
                "shape {shape:?} with strides {strides:?} overlaps itself; save the tensor with .contiguous()"
            ));
        }
        reach += (axis.size as u64 - 1) * axis.source;
    }
    Ok(Some(axes))
}

/// Bytes from the first element to the end of the last.
fn span(axes: &[Axis], size: u64) -> u64 {
    (axes.iter().map(|axis| (axis.size as u64 - 1) * axis.source).sum::<u64>() + 1) * size
}

/// Calls `element(target index, bytes)` for every element, in the file's order, so that a window which only
/// moves forward serves all of them.
fn visit(source: &Source, base: u64, size: usize, axes: &[Axis], mut element: impl FnMut(usize, &[u8])) -> Result<()> {
    let end = base + span(axes, size as u64);
    let mut window = vec![0u8; (end - base).min(CHUNK as u64) as usize];
    let mut window_start = 0u64;
    let mut window_end = 0u64;
    let mut index = vec![0usize; axes.len()];
    let (mut at, mut target) = (base, 0usize);
    loop {
        if at + size as u64 > window_end || at < window_start {
            window_start = at;
            window_end = end.min(at + window.len() as u64);
            source.read_at(window_start, &mut window[..(window_end - window_start) as usize])?;
        }
        element(target, &window[(at - window_start) as usize..][..size]);

        let mut k = axes.len();
        loop {
            if k == 0 {
                return Ok(());
            }
            k -= 1;
            let axis = &axes[k];
            if index[k] + 1 < axis.size {
                index[k] += 1;
                at += axis.source * size as u64;
                target += axis.target;
                break;
            }
            at -= index[k] as u64 * axis.source * size as u64;
            target -= index[k] * axis.target;
            index[k] = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_beyond_the_machine_is_told() {
        let source = Source::memory("large.pt", Vec::new().into());
        let bytes = |shape: &[usize]| {
            addressable(&source, &TensorInfo { dtype: Dtype::F32, shape: shape.to_vec() }, 4).map_err(|e| e.to_string())
        };
        assert_eq!(bytes(&[3, 5]), Ok(60));
        for shape in [usize::MAX / 2, isize::MAX as usize / 4 + 1] {
            assert!(bytes(&[shape]).unwrap_err().contains("more than this machine can address"));
        }
        let storage = Extent { offset: 0, len: 8 };
        let shape = vec![usize::MAX, 2, 0];
        assert!(Layout::strided(Dtype::F32, shape, &[0, 0, 0], 0, storage).unwrap_err().contains("do not fit"));
    }
}
