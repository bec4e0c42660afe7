//! A safetensors file of float16 with 8 bits a weight, and back. Each large tensor `X` of two dimensions or more becomes `X` (I8)
//! and `X.scale` (F32), one a row: what stands at one place of the first dimension, such as a token's vector or an output's
//! filter. The largest value of a row is ±127 of its scales. All arithmetic is exact or rounded by IEEE 754: the bytes are the same on
//! every machine.

// build.rs packs, the library unpacks: each is compiled with both.
#![allow(dead_code)]

use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::tensor::{Metadata, TensorView};
use safetensors::{Dtype, SafeTensorError, SafeTensors, serialize};

/// The entry of the metadata that holds the float16 file's header, which says in what order its tensors stand.
const HEADER: &str = "float16";
/// Elements from which a tensor is packed: smaller ones do not matter.
const LARGE: usize = 4096;
/// The largest of 8 bits, with as many below zero.
const LARGEST: f32 = 127.0;

type Result<T> = std::result::Result<T, SafeTensorError>;

/// The 8-bit file of a float16 file.
///
/// # Errors
/// A file that is no safetensors.
pub fn pack(file: &[u8]) -> Result<Vec<u8>> {
    let (header, _) = SafeTensors::read_metadata(file)?;
    let header = std::str::from_utf8(&file[8..8 + header]).map_err(SafeTensorError::InvalidHeader)?;
    let source = SafeTensors::deserialize(file)?;
    let (large, mut tensors): (Vec<_>, Vec<_>) =
        source.iter().map(|(name, tensor)| (name.to_owned(), tensor)).partition(|(_, tensor)| is_packed(tensor));
    let parts: Vec<_> = large.iter().map(|(_, tensor)| packed(tensor)).collect();
    for ((name, tensor), (values, scales)) in large.iter().zip(&parts) {
        tensors.push((name.clone(), TensorView::new(Dtype::I8, tensor.shape().to_vec(), values)?));
        tensors.push((scale_of(name), TensorView::new(Dtype::F32, vec![tensor.shape()[0]], scales)?));
    }
    // One entry alone: several would stand in any order.
    serialize(tensors, Some([(HEADER.to_owned(), header.to_owned())].into_iter().collect()))
}

fn scale_of(name: &str) -> String {
    format!("{name}.scale")
}

fn is_packed(tensor: &TensorView) -> bool {
    let shape = tensor.shape();
    tensor.dtype() == Dtype::F16 && shape.len() > 1 && shape.iter().product::<usize>() >= LARGE
}

/// The elements and the rows' scales, as they stand in the file.
fn packed(tensor: &TensorView) -> (Vec<u8>, Vec<u8>) {
    let (mut bytes, mut scales) = (Vec::new(), Vec::new());
    for row in tensor.data().chunks_exact(tensor.data().len() / tensor.shape()[0]) {
        let row: Vec<f32> = row.as_chunks().0.iter().map(|value| f16::from_le_bytes(*value).to_f32()).collect();
        let scale = row.iter().fold(0.0_f32, |largest, value| largest.max(value.abs())) / LARGEST;
        // In a row of zeros, which no scale fits, 0/0 is NaN, and that becomes 0.
        bytes.extend(row.iter().map(|value| ((value / scale).round_ties_even() as i8).cast_unsigned()));
        scales.extend(scale.to_le_bytes());
    }
    (bytes, scales)
}

/// The float16 file of an 8-bit file: what was packed, with its values rounded.
///
/// # Errors
/// A file that [`pack`] did not make.
pub fn unpack(file: &[u8]) -> Result<Vec<u8>> {
    let (_, metadata) = SafeTensors::read_metadata(file)?;
    let header = metadata.metadata().as_ref().and_then(|entries| entries.get(HEADER));
    let header = header.ok_or_else(|| SafeTensorError::TensorNotFound(HEADER.to_owned()))?;
    let wanted: Metadata = serde_json::from_str(header).map_err(SafeTensorError::InvalidHeaderDeserialization)?;
    let tensors = SafeTensors::deserialize(file)?;
    let mut unpacked = Vec::with_capacity(8 + header.len() + wanted.data_len());
    unpacked.extend((header.len() as u64).to_le_bytes());
    unpacked.extend(header.as_bytes());
    let mut row = Row::default();
    for name in wanted.offset_keys() {
        let tensor = tensors.tensor(&name)?;
        if tensor.dtype() != Dtype::I8 {
            unpacked.extend(tensor.data());
            continue;
        }
        let scales = tensors.tensor(&scale_of(&name))?;
        let rows = tensor.data().chunks_exact(tensor.data().len() / tensor.shape()[0]);
        for (values, scale) in rows.zip(scales.data().as_chunks().0) {
            row.append(values, f32::from_le_bytes(*scale), &mut unpacked);
        }
    }
    Ok(unpacked)
}

/// A row on its way, in buffers that serve again and again.
#[derive(Default)]
struct Row {
    floats: Vec<f32>,
    halves: Vec<f16>,
}

impl Row {
    fn append(&mut self, values: &[u8], scale: f32, to: &mut Vec<u8>) {
        self.floats.clear();
        self.floats.extend(values.iter().map(|value| f32::from(value.cast_signed()) * scale));
        self.halves.resize(values.len(), f16::ZERO);
        // Many at once: where the processor converts them, each by itself would ask it whether it can.
        self.halves.convert_from_f32_slice(&self.floats);
        let start = to.len();
        to.resize(start + 2 * values.len(), 0);
        to[start..].as_chunks_mut().0.iter_mut().zip(&self.halves).for_each(|(to, value)| *to = value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halves(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect()
    }

    fn floats(tensor: &TensorView) -> Vec<f32> {
        tensor.data().as_chunks().0.iter().map(|value| f16::from_le_bytes(*value).to_f32()).collect()
    }

    /// A matrix of three rows, whose values lie in different ranges (of the last: all are zero), and a small tensor.
    fn file() -> Vec<u8> {
        let row = |largest: f32| (0..2000).map(move |i| largest * (i as f32 - 1000.0) / 1000.0);
        let matrix = halves(&row(8.0).chain(row(0.01)).chain([0.0; 2000]).collect::<Vec<_>>());
        let (small, table) = (halves(&[1.0, 0.1234]), 3.0_f32.to_le_bytes());
        let tensors = [
            ("b.matrix", TensorView::new(Dtype::F16, vec![3, 20, 100], &matrix).unwrap()),
            ("a.small", TensorView::new(Dtype::F16, vec![2, 1], &small).unwrap()),
            ("c.float", TensorView::new(Dtype::F32, vec![1], &table).unwrap()),
        ];
        serialize(tensors, Some([("about".to_owned(), "itself".to_owned())].into_iter().collect())).unwrap()
    }

    #[test]
    fn every_value_comes_back_within_half_a_step_of_its_rows_scale() {
        let file = file();
        let packed = pack(&file).unwrap();
        let unpacked = unpack(&packed).unwrap();
        assert!(packed.len() < file.len() * 6 / 10 && unpacked.len() == file.len());
        let [before, after] = [&file, &unpacked].map(|file| SafeTensors::deserialize(file).unwrap());
        for (name, tensor) in before.iter() {
            let found = after.tensor(name).unwrap();
            assert_eq!((found.dtype(), found.shape()), (tensor.dtype(), tensor.shape()), "{name}");
            if name != "b.matrix" {
                assert_eq!(found.data(), tensor.data(), "{name}");
                continue;
            }
            let rows = floats(&tensor).into_iter().zip(floats(&found)).enumerate();
            for (i, (right, found)) in rows {
                let largest = [8.0, 0.01, 0.0][i / 2000];
                // Half a step, and what float16 rounds off.
                assert!((right - found).abs() <= largest * (0.5 / 127.0 + 1.0 / 1024.0), "{i}: {found}, not {right}");
            }
        }
        let header = SafeTensors::read_metadata(&unpacked).unwrap().1;
        assert_eq!(header.metadata().as_ref().unwrap()["about"], "itself");
    }

    #[test]
    fn files_that_were_not_packed_are_refused() {
        assert!(pack(b"no safetensors").is_err());
        assert!(unpack(&file()).is_err());
    }
}
