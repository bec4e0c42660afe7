//! A projected map at another size, made on the host as a device makes the model's own. Both are linear, and a pixel's weights add up
//! to 1: so it is the same as projecting the resized map, of which no memory would hold all channels.

use std::io::{self, Write};

use rayon::prelude::*;

use crate::Embedding;
use crate::image::npy::{self, Dtype};
use crate::resample::Taps;

/// Writes a NumPy file `[channels, height, width]` of a map: ×2 with align_corners=True, then resized with align_corners=False.
/// Memory: a plane.
///
/// # Errors
/// What writing to `out` yields.
pub fn write(map: &Embedding, (height, width): (usize, usize), dtype: Dtype, out: &mut impl Write) -> io::Result<()> {
    let taps = |half: usize, to: usize| (0..to).map(|i| Taps::through_upsample(i, half, to)).collect::<Vec<_>>();
    let (rows, columns) = (taps(map.height, height), taps(map.width, width));
    npy::write_header(out, dtype, &[map.channels, height, width])?;
    let mut plane = vec![0.0; height * width];
    for channel in 0..map.channels {
        let values: Vec<f32> = map.data.iter().skip(channel).step_by(map.channels).copied().collect();
        plane.par_chunks_mut(width).zip(&rows).for_each_init(
            || vec![0.0; map.width],
            |merged, (out, row)| {
                merged.fill(0.0);
                for (y, weight) in row.iter() {
                    let line = &values[y * map.width..][..map.width];
                    merged.iter_mut().zip(line).for_each(|(sum, value)| *sum += weight * value);
                }
                for (value, column) in out.iter_mut().zip(&columns) {
                    *value = column.iter().map(|(x, weight)| weight * merged[x]).sum();
                }
            },
        );
        npy::write_values(out, dtype, &plane)?;
    }
    Ok(())
}
