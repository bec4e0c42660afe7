//! One colour for each label: the same colour for the same index in every mask, overlay and table.

use std::collections::HashSet;

/// Colours chosen by hand for the first labels: far apart in hue and lightness, each also far from its neighbours in
/// the list, none near black, white or grey.
const FIRST: [[u8; 3]; 20] = [
    [0xE6, 0x19, 0x4B], // red
    [0x3C, 0xB4, 0x4B], // green
    [0x43, 0x63, 0xD8], // blue
    [0xFF, 0xE1, 0x19], // yellow
    [0xF0, 0x32, 0xE6], // magenta
    [0x42, 0xD4, 0xF4], // cyan
    [0xF5, 0x82, 0x31], // orange
    [0x91, 0x1E, 0xB4], // purple
    [0xBF, 0xEF, 0x45], // lime
    [0x00, 0x80, 0x80], // teal
    [0xFF, 0x9E, 0xBC], // pink
    [0x9A, 0x63, 0x24], // brown
    [0xAA, 0xFF, 0xC3], // mint
    [0x80, 0x00, 0x00], // maroon
    [0xDC, 0xBE, 0xFF], // lavender
    [0x6B, 0x8E, 0x00], // olive
    [0x00, 0x00, 0x90], // navy
    [0xFF, 0xC8, 0x8F], // apricot
    [0x00, 0x5A, 0x32], // forest
    [0x1E, 0x90, 0xFF], // azure
];

/// `count` colours, no two the same; a longer palette begins with the shorter one.
///
/// Beyond the first twenty they are points of an even, never repeating sequence over hue, lightness and chroma in
/// OKLCh (Ottosson 2020), a space in which equal distances look about equally large.
pub fn palette(count: usize) -> Vec<[u8; 3]> {
    let mut taken = HashSet::with_capacity(count);
    let generated = (1_u32..).map(generated_colour);
    FIRST.into_iter().chain(generated).filter(|&colour| taken.insert(colour)).take(count).collect()
}

/// Point `i` of the R₃ low-discrepancy sequence (Roberts 2018: steps are powers of the root of x⁴ = x + 1), as a colour.
fn generated_colour(i: u32) -> [u8; 3] {
    const ROOT: f64 = 1.220_744_084_605_759_5;
    let at = |power: i32| (f64::from(i) * ROOT.powi(-power)).fract();
    let (hue, lightness, chroma) = (at(1) * std::f64::consts::TAU, 0.45 + 0.45 * at(2), 0.07 + 0.15 * at(3));
    oklch_to_srgb(lightness, chroma, hue)
}

/// OKLCh to 8-bit sRGB, each channel clamped to its range.
fn oklch_to_srgb(lightness: f64, chroma: f64, hue: f64) -> [u8; 3] {
    let (a, b) = (chroma * hue.cos(), chroma * hue.sin());
    let l = (lightness + 0.396_337_777_4 * a + 0.215_803_757_3 * b).powi(3);
    let m = (lightness - 0.105_561_345_8 * a - 0.063_854_172_8 * b).powi(3);
    let s = (lightness - 0.089_484_177_5 * a - 1.291_485_548_0 * b).powi(3);
    [
        4.076_741_662_1 * l - 3.307_711_591_3 * m + 0.230_969_929_2 * s,
        -1.268_438_004_6 * l + 2.609_757_401_1 * m - 0.341_319_396_5 * s,
        -0.004_196_086_3 * l - 0.703_418_614_7 * m + 1.707_614_701_0 * s,
    ]
    .map(|linear| (255.0 * srgb_transfer(linear.clamp(0.0, 1.0))).round() as u8)
}

/// Linear light to sRGB's encoding, both in [0, 1] (IEC 61966-2-1).
fn srgb_transfer(linear: f64) -> f64 {
    if linear <= 0.003_130_8 { 12.92 * linear } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_palette_has_no_colour_twice() {
        let colours = palette(65_536);
        assert_eq!(colours.len(), 65_536);
        assert_eq!(colours.iter().collect::<HashSet<_>>().len(), 65_536);
        assert_eq!(palette(300), colours[..300]);
    }

    #[test]
    fn the_first_colours_are_far_apart() {
        let colours = palette(FIRST.len());
        for (i, a) in colours.iter().enumerate() {
            for b in &colours[..i] {
                let distance: i32 = a.iter().zip(b).map(|(&x, &y)| (i32::from(x) - i32::from(y)).pow(2)).sum();
                assert!(distance > 55 * 55, "{a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn oklch_meets_known_colours() {
        // White, and sRGB red as published with the colour space.
        assert_eq!(oklch_to_srgb(1.0, 0.0, 0.0), [255, 255, 255]);
        assert_eq!(oklch_to_srgb(0.627_955, 0.257_683, 29.2339_f64.to_radians()), [255, 0, 0]);
    }
}
