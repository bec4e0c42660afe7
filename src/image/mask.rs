//! Masks as PNG files: the value of a pixel is the index of its label.

use std::io::{self, Write};

use png::{BitDepth, ColorType, Compression, Encoder};

use super::palette::palette;

/// The most labels that an 8-bit indexed mask can hold; beyond, masks are 16-bit grey.
pub const MAX_INDEXED_LABELS: usize = 256;

/// Writes `mask` [height, width], whose values are below `labels`, as a PNG: 8-bit indexed with the palette embedded,
/// or 16-bit grey above [`MAX_INDEXED_LABELS`] labels.
///
/// # Errors
/// What writing to `out` yields, and `InvalidInput` if the mask's length, size or a value does not fit.
pub fn write(out: impl Write, mask: &[u16], width: usize, height: usize, labels: usize) -> io::Result<()> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
    if mask.len() != width.saturating_mul(height) || mask.is_empty() {
        return Err(invalid(format!("a mask of {} values for {width}×{height} pixels", mask.len())));
    }
    if let Some(&value) = mask.iter().find(|&&value| usize::from(value) >= labels) {
        return Err(invalid(format!("a mask with the value {value} for {labels} labels")));
    }
    let side = |pixels: usize| u32::try_from(pixels).map_err(|_| invalid(format!("a side of {pixels} pixels")));
    let mut encoder = Encoder::new(out, side(width)?, side(height)?);
    encoder.set_compression(Compression::Balanced);
    if labels <= MAX_INDEXED_LABELS {
        encoder.set_color(ColorType::Indexed);
        encoder.set_depth(BitDepth::Eight);
        encoder.set_palette(palette(labels).as_flattened().to_vec());
        write_rows(encoder, mask, width, |value, row| row.push(value as u8))
    } else {
        encoder.set_color(ColorType::Grayscale);
        encoder.set_depth(BitDepth::Sixteen);
        write_rows(encoder, mask, width, |value, row| row.extend(value.to_be_bytes()))
    }
}

/// Row by row, so that no second copy of the mask is made.
fn write_rows(
    encoder: Encoder<impl Write>,
    mask: &[u16],
    width: usize,
    push: impl Fn(u16, &mut Vec<u8>),
) -> io::Result<()> {
    let mut writer = encoder.write_header()?;
    let mut stream = writer.stream_writer()?;
    let mut bytes = Vec::with_capacity(2 * width);
    for row in mask.chunks_exact(width) {
        bytes.clear();
        row.iter().for_each(|&value| push(value, &mut bytes));
        stream.write_all(&bytes)?;
    }
    stream.finish()?;
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
        write(&mut file, &mask, 16, 17, 256).unwrap();
        let (colour, depth, colours, values) = read(&file);
        assert_eq!((colour, depth), (ColorType::Indexed, BitDepth::Eight));
        assert_eq!(colours.unwrap(), palette(256).as_flattened());
        assert_eq!(values, mask.iter().map(|&v| v as u8).collect::<Vec<_>>());
    }

    #[test]
    fn more_labels_are_16_bit_grey() {
        let mask = [0, 1, 256, 65_534, 4_660, 300];
        let mut file = Vec::new();
        write(&mut file, &mask, 3, 2, 65_535).unwrap();
        let (colour, depth, colours, values) = read(&file);
        assert_eq!((colour, depth, colours), (ColorType::Grayscale, BitDepth::Sixteen, None));
        assert_eq!(values, mask.map(u16::to_be_bytes).as_flattened());
    }

    #[test]
    fn a_mask_that_does_not_fit_is_refused() {
        for (mask, width, height, labels) in [(vec![0, 1], 2, 1, 1), (vec![0, 0], 2, 2, 1), (vec![], 0, 5, 1)] {
            let error = write(io::sink(), &mask, width, height, labels).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
