//! Masks as PNG files: the value of a pixel is the index of its label.

use std::io::{self, Write};

use png::{BitDepth, ColorType, Encoder};

use super::idat::{BLOCK, LESS_ABOVE, PLAIN, idat};

/// The most labels that an 8-bit indexed mask can hold; beyond, masks are 16-bit grey.
pub const MAX_INDEXED_LABELS: usize = 256;

/// What a pixel of a mask has in the place of a label where its confidence is below the [`Threshold`](crate::Threshold).
pub const UNLABELLED: u16 = u16::MAX;
/// The same in masks of bytes.
pub const UNLABELLED_8: u8 = u8::MAX;

/// The colour of unlabelled pixels in an indexed mask.
const NO_COLOUR: [u8; 3] = [255; 3];

/// What stands for [`UNLABELLED`] in the file of a mask of so many labels.
pub fn unlabelled(labels: usize) -> u16 {
    if labels < MAX_INDEXED_LABELS { UNLABELLED_8.into() } else { UNLABELLED }
}

/// Writes `mask` [height, width] as a PNG: 8-bit indexed with `colours`, one a label, embedded, or 16-bit grey above
/// [`MAX_INDEXED_LABELS`] labels.
///
/// # Errors
/// What writing to `out` yields, and `InvalidInput` if the mask's length, size or a value does not fit.
pub fn write(out: impl Write, mask: &[u16], width: usize, height: usize, colours: &[[u8; 3]]) -> io::Result<()> {
    check(mask.iter(), colours.len())?;
    let palette = (colours.len() <= MAX_INDEXED_LABELS).then_some(colours);
    write_values(encoder(out, mask.len(), width, height)?, mask, width, palette)
}

/// Whether they are labels.
fn check<'a>(mut values: impl Iterator<Item = &'a u16>, labels: usize) -> io::Result<()> {
    match values.find(|value| usize::from(**value) >= labels) {
        Some(value) => Err(invalid(format!("a mask with the value {value} for {labels} labels"))),
        None => Ok(()),
    }
}

/// 8-bit indexed with a palette, 16-bit grey without.
fn write_values(
    mut encoder: Encoder<impl Write>,
    mask: &[u16],
    width: usize,
    palette: Option<&[[u8; 3]]>,
) -> io::Result<()> {
    match palette {
        Some(palette) => {
            encoder.set_color(ColorType::Indexed);
            encoder.set_palette(palette.as_flattened().to_vec());
            write_rows(encoder, mask, width, |value| [value as u8])
        }
        None => {
            encoder.set_depth(BitDepth::Sixteen);
            write_rows(encoder, mask, width, u16::to_be_bytes)
        }
    }
}

/// As [`write()`], of a mask whose pixels may be [`UNLABELLED`]: 8-bit with 255 in the place of that up to 255 labels.
///
/// # Errors
/// As [`write()`].
pub fn write_unlabelled(
    out: impl Write,
    mask: &[u16],
    width: usize,
    height: usize,
    colours: &[[u8; 3]],
) -> io::Result<()> {
    check(mask.iter().filter(|value| **value != UNLABELLED), colours.len())?;
    if unlabelled(colours.len()) == UNLABELLED {
        return write_values(encoder(out, mask.len(), width, height)?, mask, width, None);
    }
    let mut palette = colours.to_vec();
    palette.resize(MAX_INDEXED_LABELS, NO_COLOUR);
    write_values(encoder(out, mask.len(), width, height)?, mask, width, Some(&palette))
}

/// Writes where `mask` [height, width] has one `label` as an 8-bit grey PNG: 255 there, 0 elsewhere.
///
/// # Errors
/// As [`write()`].
pub fn write_binary(out: impl Write, mask: &[u16], width: usize, height: usize, label: u16) -> io::Result<()> {
    let encoder = encoder(out, mask.len(), width, height)?;
    write_rows(encoder, mask, width, |value| [if value == label { 255 } else { 0 }])
}

/// Writes bytes [height, width], such as confidences, as an 8-bit grey PNG.
///
/// # Errors
/// As [`write()`].
pub fn write_grey(out: impl Write, values: &[u8], width: usize, height: usize) -> io::Result<()> {
    write_rows(encoder(out, values.len(), width, height)?, values, width, |value| [value])
}

/// For 8-bit grey, once it is sure that there are as many values as pixels.
fn encoder<'a, W: Write>(out: W, values: usize, width: usize, height: usize) -> io::Result<Encoder<'a, W>> {
    if values != width.saturating_mul(height) || values == 0 {
        return Err(invalid(format!("a mask of {values} values for {width}×{height} pixels")));
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
fn write_rows<T: Copy, const N: usize>(
    encoder: Encoder<impl Write>,
    mask: &[T],
    width: usize,
    bytes: impl Fn(T) -> [u8; N],
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
    fn unlabelled_pixels_are_the_largest_value() {
        let mask = [0, UNLABELLED, 254, 7];
        let (mut file, colours) = (Vec::new(), vec![[1, 2, 3]; 255]);
        write_unlabelled(&mut file, &mask, 2, 2, &colours).unwrap();
        let (colour, depth, palette, values) = read(&file);
        assert_eq!((colour, depth), (ColorType::Indexed, BitDepth::Eight));
        assert_eq!(palette.unwrap(), [&colours[..], &[NO_COLOUR]].concat().as_flattened());
        assert_eq!((values, unlabelled(255)), (vec![0, 255, 254, 7], 255));
        // The value 255 is a label's.
        let mut file = Vec::new();
        write_unlabelled(&mut file, &mask, 4, 1, &vec![[0; 3]; 256]).unwrap();
        let (colour, depth, _, values) = read(&file);
        assert_eq!((colour, depth), (ColorType::Grayscale, BitDepth::Sixteen));
        assert_eq!(values, mask.map(u16::to_be_bytes).as_flattened());
        assert_eq!(unlabelled(256), UNLABELLED);
        // Only where it may be.
        for (mask, written) in [([0, UNLABELLED], true), ([0, 3], false)] {
            let colours = [[0; 3]; 3];
            assert!(write(io::sink(), &mask, 2, 1, &colours).is_err());
            assert_eq!(write_unlabelled(io::sink(), &mask, 2, 1, &colours).is_ok(), written);
        }
    }

    #[test]
    fn bytes_are_grey() {
        let mut file = Vec::new();
        write_grey(&mut file, &[0, 127, 255, 9], 2, 2).unwrap();
        assert_eq!(read(&file), (ColorType::Grayscale, BitDepth::Eight, None, vec![0, 127, 255, 9]));
        assert_eq!(write_grey(io::sink(), &[0], 2, 1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
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
