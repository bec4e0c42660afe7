//! What luma and chroma mean.

/// What luma and chroma mean. Each pixel takes the chroma of the pixels that it shares it with; colours are clamped to 0–1, not
/// rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Yuv {
    /// Of which colours luma is made.
    pub matrix: YuvMatrix,
    /// Which values black and white have.
    pub range: YuvRange,
}

/// The weights of red and blue in luma.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum YuvMatrix {
    /// 0.299 and 0.114 (ITU-R BT.601): standard definition, webcams.
    #[default]
    Bt601,
    /// 0.2126 and 0.0722 (ITU-R BT.709): high definition.
    Bt709,
}

/// The values of luma and chroma.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum YuvRange {
    /// Luma 16–235, chroma 16–240.
    #[default]
    Video,
    /// All of 0–255: JPEG's.
    Full,
}

/// Colour c in 0–255, before it is clamped, is `luma · (Y − black) + cb[c] · (Cb − 128) + cr[c] · (Cr − 128)` of bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ToRgb {
    pub black: f32,
    pub luma: f32,
    pub cb: [f32; 3],
    pub cr: [f32; 3],
}

impl Yuv {
    /// Solved for red, green and blue in 0–1: Y = Kr·R + Kg·G + Kb·B, of which there are 1 in all; Cb = (B − Y) / 2(1 − Kb) and
    /// Cr = (R − Y) / 2(1 − Kr), both in ±½.
    pub(crate) fn to_rgb(self) -> ToRgb {
        let [kr, kb] = match self.matrix {
            YuvMatrix::Bt601 => [0.299, 0.114],
            YuvMatrix::Bt709 => [0.2126, 0.0722],
        };
        let kg: f64 = 1.0 - kr - kb;
        // Steps from black to white, and from the least chroma to the most.
        let (black, luma, chroma) = match self.range {
            YuvRange::Video => (16.0, 219.0, 224.0),
            YuvRange::Full => (0.0, 255.0, 255.0),
        };
        let (red, blue) = (2.0 * (1.0 - kr), 2.0 * (1.0 - kb));
        let of_chroma = |weights: [f64; 3]| weights.map(|weight| (255.0 / chroma * weight) as f32);
        ToRgb {
            black,
            luma: (255.0 / luma) as f32,
            cb: of_chroma([0.0, -blue * kb / kg, blue]),
            cr: of_chroma([red, -red * kr / kg, 0.0]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// White is white, and the coefficients that JPEG (JFIF 1.02) and video (ITU-R BT.601, BT.709) print.
    #[test]
    fn coefficients_are_the_standards() {
        let of = |matrix, range| Yuv { matrix, range }.to_rgb();
        let jpeg = of(YuvMatrix::Bt601, YuvRange::Full);
        assert_eq!((jpeg.black, jpeg.luma, jpeg.cr[0], jpeg.cb[2]), (0.0, 1.0, 1.402, 1.772));
        assert!((jpeg.cb[1] + 0.344_136).abs() < 1e-6 && (jpeg.cr[1] + 0.714_136).abs() < 1e-6, "{jpeg:?}");
        let high = of(YuvMatrix::Bt709, YuvRange::Full);
        assert_eq!((high.cr[0], high.cb[2]), (1.5748, 1.8556));
        assert!((high.cb[1] + 0.187_324).abs() < 1e-6 && (high.cr[1] + 0.468_124).abs() < 1e-6, "{high:?}");
        let video = of(YuvMatrix::Bt601, YuvRange::Video);
        assert_eq!(((235.0 - video.black) * video.luma).round(), 255.0);
        assert!((video.luma - 1.164_384).abs() < 1e-6 && (video.cr[0] - 1.596_027).abs() < 1e-6, "{video:?}");
    }
}
