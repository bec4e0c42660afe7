//! Masks as PNG files: the value of a pixel is the index of its label.

use std::io::{self, Write};

use png::{BitDepth, ColorType, Encoder};

use super::idat::{BLOCK, LESS_ABOVE, PLAIN, idat};

/// The most labels that an 8-bit indexed mask can hold; beyond, masks are 16-bit grey.
pub const MAX_INDEXED_LABELS: usize = 256;

/// Writes `mask` [height, width] as a PNG: 8-bit indexed with `colours`, one a label, embedded, or 16-bit grey above
/// [`MAX_INDEXED_LABELS`] labels.
///
/// # Errors
/// What writing to `out` yields, and `InvalidInput` if the mask's length, size or a value does not fit.
pub fn write(out: impl Write, mask: &[u16], width: usize, height: usize, colours: &[[u8; 3]]) -> io::Result<()> {
    let labels = colours.len();
    if let Some(&value) = mask.iter().find(|&&value| usize::from(value) >= labels) {
        return Err(invalid(format!("a mask with the value {value} for {labels} labels")));
    }
    let mut encoder = encoder(out, mask, width, height)?;
    if labels <= MAX_INDEXED_LABELS {
        encoder.set_color(ColorType::Indexed);
        encoder.set_palette(colours.as_flattened().to_vec());
        write_rows(encoder, mask, width, |value| [value as u8])
    } else {
        encoder.set_depth(BitDepth::Sixteen);
        write_rows(encoder, mask, width, u16::to_be_bytes)
    }
}

/// Writes where `mask` [height, width] has one `label` as an 8-bit grey PNG: 255 there, 0 elsewhere.
///
/// # Errors
/// As [`write()`].
pub fn write_binary(out: impl Write, mask: &[u16], width: usize, height: usize, label: u16) -> io::Result<()> {
    let encoder = encoder(out, mask, width, height)?;
    write_rows(encoder, mask, width, |value| [if value == label { 255 } else { 0 }])
}

/// For 8-bit grey, once it is sure that the mask is as large as it says.
fn encoder<'a, W: Write>(out: W, mask: &[u16], width: usize, height: usize) -> io::Result<Encoder<'a, W>> {
    if mask.len() != width.saturating_mul(height) || mask.is_empty() {
        return Err(invalid(format!("a mask of {} values for {width}×{height} pixels", mask.len())));
    }
    let side = |pixels: usize| u32::try_from(pixels).map_err(|_| invalid(format!("a side of {pixels} pixels")));
    let mut encoder = Encoder::new(out, side(width)?, side(height)?);
    encoder.set_color(ColorType::Grayscale);
    encoder.set_depth(BitDepth::Eight);
    Ok(encoder)
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// In blocks: neither is a second copy of the mask made, nor does each row of a narrow one cost a call.
fn write_rows<const N: usize>(
    encoder: Encoder<impl Write>,
    mask: &[u16],
    width: usize,
    bytes: impl Fn(u16) -> [u8; N],
) -> io::Result<()> {
    let mut writer = encoder.write_header()?;
    let mut data = idat(&mut writer, flate2::Compression::default());
    let mut block = Vec::with_capacity((1 + N) * BLOCK);
    for (y, row) in mask.chunks_exact(width).enumerate() {
        let above = y.checked_sub(1).map(|above| &mask[above * width..][..width]);
        block.push(if above.is_some() { LESS_ABOVE } else { PLAIN });
        for start in (0..width).step_by(BLOCK) {
            let part = start..width.min(start + BLOCK);
            match above {
                None => block.extend(row[part].iter().flat_map(|value| bytes(*value))),
                Some(above) => block.extend(row[part.clone()].iter().zip(&above[part]).flat_map(|(value, above)| {
                    let (value, above) = (bytes(*value), bytes(*above));
                    std::array::from_fn::<u8, N, _>(|i| value[i].wrapping_sub(above[i]))
                })),
            }
            if block.len() >= BLOCK {
                data.write_all(&block)?;
                block.clear();
            }
        }
    }
    data.write_all(&block)?;
    data.finish()?;
    writer.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What another reader makes of the file: colour type, depth, palette, values.
    fn read(file: &[u8]) -> (ColorType, BitDepth, Option<Vec<u8>>, Vec<u8>) {
        let mut reader = png::Decoder::new(io::Cursor::new(file)).read_info().unwrap();
        let mut values = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut values).unwrap();
        let info = reader.info();
        (info.color_type, info.bit_depth, info.palette.as_ref().map(|p| p.to_vec()), values)
    }

    #[test]
    fn up_to_256_labels_are_indices_with_a_palette() {
        let mask: Vec<u16> = (0..16 * 17).map(|i| i % 256).collect();
        let mut file = Vec::new();
        let expected: Vec<[u8; 3]> = (0..256).map(|i| [i as u8, 255 - i as u8, 7]).collect();
        write(&mut file, &mask, 16, 17, &expected).unwrap();
        let (colour, depth, colours, values) = read(&file);
        assert_eq!((colour, depth), (ColorType::Indexed, BitDepth::Eight));
        assert_eq!(colours.unwrap(), expected.as_flattened());
        assert_eq!(values, mask.iter().map(|&v| v as u8).collect::<Vec<_>>());
    }

    #[test]
    fn more_labels_are_16_bit_grey() {
        let mask = [0, 1, 256, 65_534, 4_660, 300];
        let mut file = Vec::new();
        write(&mut file, &mask, 3, 2, &vec![[0; 3]; 65_535]).unwrap();
        let (colour, depth, colours, values) = read(&file);
        assert_eq!((colour, depth, colours), (ColorType::Grayscale, BitDepth::Sixteen, None));
        assert_eq!(values, mask.map(u16::to_be_bytes).as_flattened());
    }

    #[test]
    fn a_binary_mask_is_white_where_the_label_is() {
        let mut file = Vec::new();
        write_binary(&mut file, &[0, 1, 256, 1, 4_660, 0], 3, 2, 1).unwrap();
        let (colour, depth, colours, values) = read(&file);
        assert_eq!((colour, depth, colours), (ColorType::Grayscale, BitDepth::Eight, None));
        assert_eq!(values, [0, 255, 0, 255, 0, 0]);
        assert_eq!(write_binary(io::sink(), &[0], 2, 1, 0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_mask_that_does_not_fit_is_refused() {
        for (mask, width, height, labels) in [(vec![0, 1], 2, 1, 1), (vec![0, 0], 2, 2, 1), (vec![], 0, 5, 1)] {
            let error = write(io::sink(), &mask, width, height, &vec![[0; 3]; labels]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
