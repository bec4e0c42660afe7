//! One colour for each label: the same colour for the same index in every mask, overlay and table.
//!
//! By hand: the crate palette turns one colour space into another, but chooses no colours.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::checkpoint::printable;
use crate::labels::MAX_LABELS;
use crate::{Error, Result};

/// Colours for the first labels, each beginning of the list as far apart as could be found for people who see all
/// colours and for those without red, green or blue cones; none near black, white or grey (benches/palette.py).
const FIRST: [[u8; 3]; 20] = [
    [0xFC, 0xF0, 0x6C], // pale yellow
    [0x48, 0x00, 0x9C], // indigo
    [0x54, 0x9C, 0xF0], // sky blue
    [0xD8, 0x48, 0x0C], // vermilion
    [0xE4, 0xA8, 0x24], // amber
    [0x00, 0x18, 0xFF], // blue
    [0x78, 0x00, 0x0C], // maroon
    [0x6C, 0xFF, 0xFF], // cyan
    [0x90, 0x54, 0x84], // plum
    [0xA8, 0x24, 0x30], // crimson
    [0xC0, 0x78, 0x9C], // rose
    [0x00, 0xD8, 0x9C], // jade
    [0x60, 0x30, 0x60], // aubergine
    [0x84, 0x6C, 0xC0], // violet
    [0x60, 0x6C, 0xFC], // periwinkle
    [0xC0, 0xB4, 0xFC], // lavender
    [0xB4, 0xF0, 0xB4], // mint
    [0xE4, 0x78, 0x54], // coral
    [0x6C, 0x30, 0xC0], // purple
    [0xF0, 0xCC, 0x00], // gold
];

const ADE20K: &str = include_str!("palettes/ade20k.txt");
const CITYSCAPES: &str = include_str!("palettes/cityscapes.txt");

/// The largest file of colours that is read.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Which colours the labels get, in the order of their indices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Palette {
    /// Those that were asked for; none of the default palette.
    given: Option<Vec<[u8; 3]>>,
}

impl Palette {
    /// The palettes that are known by name.
    pub const NAMES: [&str; 4] = ["default", "ade20k", "cityscapes", "voc"];

    /// Reads what `--palette` was given: a name, or a file.
    ///
    /// - `default`: told apart by people of any colour vision; it never ends.
    /// - `ade20k`: the 150 classes of ADE20K (MIT Scene Parsing), wall first.
    /// - `cityscapes`: the 19 evaluated classes of Cityscapes by train id, road first.
    /// - `voc`: PASCAL VOC's 256 colours, black first, as LSeg's own scripts have them.
    /// - a file: one colour a line, `#rrggbb` or three numbers from 0 to 255 with commas, semicolons or white space
    ///   between them. What follows on the line is a name. Empty lines and comments (`#` without six hex digits) are
    ///   passed over, and so is the head of a GIMP palette (`.gpl`). A file that has one of the names is meant by
    ///   `./voc`.
    ///
    /// # Errors
    /// [`Error::Palette`], with the line, if there is no such name or file, a line is no colour, there is no colour at
    /// all or more than there can be labels.
    pub fn parse(argument: &str) -> Result<Palette> {
        let given = match argument {
            "default" => return Ok(Palette::default()),
            "ade20k" => listed(ADE20K).expect("tested"),
            "cityscapes" => listed(CITYSCAPES).expect("tested"),
            "voc" => (0..=255).map(voc).collect(),
            file => read(Path::new(file)).and_then(|text| listed(&text).map_err(|reason| refused(file, reason)))?,
        };
        Ok(Palette { given: Some(given) })
    }

    /// These colours for the first labels.
    pub fn of(colours: &[[u8; 3]]) -> Palette {
        Palette { given: Some(colours.to_vec()) }
    }

    /// A colour for each of so many labels. Where the palette has too few, colours follow that it does not have, no two
    /// the same.
    pub fn colours(&self, labels: usize) -> Vec<[u8; 3]> {
        let given = self.given.as_deref().unwrap_or_default();
        let mut taken: HashSet<[u8; 3]> = given.iter().copied().collect();
        let others = FIRST.into_iter().chain((1_u32..).map(generated_colour)).filter(|&colour| taken.insert(colour));
        given.iter().copied().chain(others).take(labels).collect()
    }

    /// For how many of so many labels the palette that was asked for has no colour.
    pub fn made_up(&self, labels: usize) -> usize {
        self.given.as_ref().map_or(0, |given| labels.saturating_sub(given.len()))
    }
}

/// `count` colours of the default palette, no two the same; a longer palette begins with the shorter one.
///
/// Beyond the first twenty they are points of an even, never repeating sequence over hue, lightness and chroma in
/// OKLCh (Ottosson 2020), a space in which equal distances look about equally large.
pub fn palette(count: usize) -> Vec<[u8; 3]> {
    Palette::default().colours(count)
}

fn refused(file: &str, reason: impl std::fmt::Display) -> Error {
    Error::Palette(format!("{}: {reason}", printable(file)))
}

fn read(path: &Path) -> Result<String> {
    let name = path.to_string_lossy();
    let failed = |e: io::Error| {
        refused(
            &name,
            format!("cannot be read ({e}); expected one of {}, or a file of colours", Palette::NAMES.join(", ")),
        )
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(refused(&name, format!("more than {} MiB; expected one colour a line", MAX_FILE_BYTES >> 20)));
    }
    // Only names can have other characters than ASCII, and old programs write them in other encodings.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The colours of a file's text.
fn listed(text: &str) -> Result<Vec<[u8; 3]>, String> {
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text).replace("\r\n", "\n").replace('\r', "\n");
    let is_gimp = text.trim_start().starts_with("GIMP Palette");
    let is_head = |line: &str| ["GIMP Palette", "Name:", "Columns:", "Channels:"].iter().any(|s| line.starts_with(s));
    let mut colours = Vec::new();
    let mut numbered = 0;
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || is_comment(line) || (is_gimp && is_head(line)) {
            continue;
        }
        let colour = colour(line).ok_or_else(|| {
            format!(
                "line {number}: expected a colour such as #ff8800 or 255 136 0, with numbers from 0 to 255, found \"{}\"",
                printable(line)
            )
        })?;
        if colours.len() == MAX_LABELS {
            return Err(format!("line {number}: more than {MAX_LABELS} colours, the most labels that there can be"));
        }
        numbered += usize::from(is_numbered(line, colours.len()));
        colours.push(colour);
    }
    if colours.is_empty() {
        return Err("no colours; expected one a line, such as #ff8800 or 255 136 0".into());
    }
    if colours.len() > 1 && numbered == colours.len() {
        return Err("its lines begin with their own number; remove it, a line begins with its colour".into());
    }
    Ok(colours)
}

/// A line that begins with `#` and is not meant as a colour.
fn is_comment(line: &str) -> bool {
    line.strip_prefix('#').is_some_and(|rest| {
        let digits = rest.chars().take_while(char::is_ascii_hexdigit).count();
        let is_word = rest.chars().nth(digits).is_none_or(|next| !next.is_alphanumeric());
        let is_alone = rest.len() == digits;
        !(is_word && (digits == 6 || (is_alone && matches!(digits, 3 | 4 | 8))))
    })
}

fn colour(line: &str) -> Option<[u8; 3]> {
    if let Some(rest) = line.strip_prefix('#') {
        let digits = rest.get(..6).filter(|_| !rest.chars().nth(6).is_some_and(char::is_alphanumeric))?;
        let [_, red, green, blue] = u32::from_str_radix(digits, 16).ok()?.to_be_bytes();
        return Some([red, green, blue]);
    }
    let mut fields = fields(line).map(|field| field.parse::<u8>().ok());
    Some([fields.next()??, fields.next()??, fields.next()??])
}

fn fields(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| c.is_whitespace() || c == ',' || c == ';').filter(|field| !field.is_empty())
}

/// Whether a line is `index r g b`: taken for a colour, it would be a wrong one.
fn is_numbered(line: &str, index: usize) -> bool {
    let numbers: Vec<usize> = fields(line).take(4).map_while(|field| field.parse().ok()).collect();
    numbers.len() == 4 && (numbers[0] == index || numbers[0] == index + 1)
}

/// PASCAL VOC's colour: the index's bits are dealt to red, green and blue in turn, from each one's highest bit down.
fn voc(index: u32) -> [u8; 3] {
    [0, 1, 2].map(|channel| (0..3).map(|i| ((index >> (3 * i + channel)) & 1) << (7 - i)).sum::<u32>() as u8)
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

    /// How eyes see linear sRGB: all colours; and without red, green or blue cones (Machado, Oliveira & Fernandes 2009,
    /// severity 1.0).
    const VISIONS: [[[f64; 3]; 3]; 4] = [
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ];

    fn multiplied(matrix: [[f64; 3]; 3], vector: [f64; 3]) -> [f64; 3] {
        matrix.map(|row| row.iter().zip(vector).map(|(a, b)| a * b).sum())
    }

    /// The colour in OKLab, as those eyes see it.
    fn seen(vision: [[f64; 3]; 3], colour: [u8; 3]) -> [f64; 3] {
        let linear = colour.map(|channel| {
            let encoded = f64::from(channel) / 255.0;
            if encoded <= 0.04045 { encoded / 12.92 } else { ((encoded + 0.055) / 1.055).powf(2.4) }
        });
        let eyes = multiplied(vision, linear).map(|channel| channel.clamp(0.0, 1.0));
        const TO_LMS: [[f64; 3]; 3] = [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ];
        const TO_LAB: [[f64; 3]; 3] = [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ];
        multiplied(TO_LAB, multiplied(TO_LMS, eyes).map(f64::cbrt))
    }

    /// The least distance of two of the colours, for the eyes that tell them apart worst.
    fn least_distance(colours: &[[u8; 3]]) -> f64 {
        let mut least = f64::INFINITY;
        for vision in VISIONS {
            let places: Vec<[f64; 3]> = colours.iter().map(|colour| seen(vision, *colour)).collect();
            for (i, a) in places.iter().enumerate() {
                for b in &places[..i] {
                    least = least.min(a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt());
                }
            }
        }
        least
    }

    #[test]
    fn colour_blind_people_tell_the_first_colours_apart() {
        let first = |count| least_distance(&palette(count));
        assert!(first(5) > 0.16 && first(8) > 0.16, "{} {}", first(5), first(8));
        assert!(first(12) > 0.114 && first(20) > 0.084, "{} {}", first(12), first(20));
        // What palettes made for the purpose reach with eight colours (Okabe & Ito 2008), and one that is not
        // (Trubetskoy's, whose red and green are nearly one colour to many).
        let okabe_ito = hex("000000 E69F00 56B4E9 009E73 F0E442 0072B2 D55E00 CC79A7");
        assert!((0.07..0.08).contains(&least_distance(&okabe_ito)), "{}", least_distance(&okabe_ito));
        let trubetskoy = hex("E6194B 3CB44B 4363D8 FFE119 F032E6 42D4F4 F58231 911EB4");
        assert!(least_distance(&trubetskoy) < 0.04, "{}", least_distance(&trubetskoy));
    }

    #[test]
    fn the_first_colours_are_colours() {
        for colour in FIRST {
            let [lightness, a, b] = seen(VISIONS[0], colour);
            assert!((0.36..0.94).contains(&lightness) && a.hypot(b) > 0.09, "{colour:?}: {lightness} {a} {b}");
        }
    }

    fn hex(colours: &str) -> Vec<[u8; 3]> {
        colours.split(' ').map(|colour| super::colour(&format!("#{colour}")).unwrap()).collect()
    }

    #[test]
    fn oklch_meets_known_colours() {
        // White, and sRGB red as published with the colour space.
        assert_eq!(oklch_to_srgb(1.0, 0.0, 0.0), [255, 255, 255]);
        assert_eq!(oklch_to_srgb(0.627_955, 0.257_683, 29.2339_f64.to_radians()), [255, 0, 0]);
    }

    #[test]
    fn known_palettes_have_their_colours() {
        let colours = |name: &str, count| Palette::parse(name).unwrap().colours(count);
        let ade20k = colours("ade20k", 150);
        assert_eq!(ade20k[..3], [[120, 120, 120], [180, 120, 120], [6, 230, 230]]); // wall, building, sky
        assert_eq!((ade20k[12], ade20k[149]), ([150, 5, 61], [92, 0, 255])); // person, flag
        assert_eq!(Palette::parse("ade20k").unwrap().made_up(151), 1);
        let cityscapes = colours("cityscapes", 19);
        assert_eq!((cityscapes[0], cityscapes[13]), ([128, 64, 128], [0, 0, 142])); // road, car
        assert_eq!(cityscapes[18], [119, 11, 32]); // bicycle
        assert_eq!(Palette::parse("cityscapes").unwrap().made_up(20), 1);
        let voc = colours("voc", 256);
        assert_eq!(voc[..4], [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]);
        assert_eq!((voc[20], voc[255]), ([0, 64, 128], [224, 224, 192])); // tv monitor, void
        assert_eq!(Palette::parse("default").unwrap(), Palette::default());
        assert_eq!(Palette::default().made_up(1000), 0);
        for name in Palette::NAMES {
            assert!(Palette::parse(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn where_a_palette_ends_other_colours_follow() {
        let few = Palette { given: Some(vec![FIRST[1], FIRST[0], FIRST[1]]) };
        let colours = few.colours(400);
        assert_eq!(colours[..5], [FIRST[1], FIRST[0], FIRST[1], FIRST[2], FIRST[3]]);
        assert_eq!(colours.iter().collect::<HashSet<_>>().len(), 399);
        assert_eq!((few.made_up(2), few.made_up(3), few.made_up(400)), (0, 0, 397));
        assert_eq!(few.colours(2), colours[..2]);
    }

    fn file(content: impl AsRef<[u8]>) -> Result<Vec<[u8; 3]>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("colours.txt");
        std::fs::write(&path, content).unwrap();
        Palette::parse(path.to_str().unwrap()).map(|palette| palette.given.unwrap())
    }

    #[test]
    fn files_of_many_kinds_are_read() {
        let two = [[255, 136, 0], [1, 2, 3]];
        for content in [
            "#ff8800\n#010203\n",
            "255 136 0\n1 2 3",
            "\u{FEFF}255,136,0, tree, tall\r\n\r\n1, 2, 3\r\n",
            "# colours\n#FF8800 # orange\n\n#\n#red\n  #010203,night 7\n#010203ab is a comment, as is #f00\n",
            "255\t136\t0\torange\n  1\t  2\t3\t99 nights\n",
            "255;136;0\r1;2;3\r",
            "GIMP Palette\nName: Two\nColumns: 3\n#\n255 136   0\tOrange\n  1   2   3\tUntitled\n",
            "GIMP Palette\r\nChannels: RGBA\r\n255 136 0 255 a\r\n1 2 3 255 b\r\n",
        ] {
            assert_eq!(file(content).unwrap(), two, "{content:?}");
        }
        assert_eq!(file(b"255 136 0 p\xEAche\n1 2 3 \xE9t\xE9\n").unwrap(), two);
        // Where it is not told apart from a colour and a name.
        assert_eq!(file("0 136 0 1\n").unwrap(), [[0, 136, 0]]);
    }

    #[test]
    fn what_is_no_colour_is_named_with_its_line() {
        for (content, reason) in [
            ("1 2 3\n\n256 0 0\n", "colours.txt: line 3: expected a colour such as #ff8800"),
            ("1 2\n", "line 1: "),
            ("0.5 0.5 0.5\n", "numbers from 0 to 255, found \"0.5 0.5 0.5\""),
            ("-1 0 0\n", "line 1: "),
            ("red\n", "found \"red\""),
            ("#f00\n", "found \"#f00\""),
            ("#ff0000ff\n", "line 1: "),
            ("Name: x\n1 2 3\n", "line 1: "),
            ("", "no colours"),
            ("# nothing\n\n", "no colours"),
            ("0 120 120 120 wall\n1 180 120 120 building\n", "begin with their own number"),
            ("1,120,120,120\n2,180,120,120\n", "begin with their own number"),
            ("\u{1b}[31m\n", "found \"\\u{1b}[31m\""),
        ] {
            let error = file(content).unwrap_err();
            assert!(matches!(error, Error::Palette(_)), "{error:?}");
            assert!(error.to_string().contains(reason), "{content:?}: {error}");
            assert!(!error.to_string().contains(['\n', '\u{1b}']), "{error}");
        }
        assert!(
            file("1 2 3\n".repeat(65_536)).unwrap_err().to_string().contains("line 65536: more than 65535 colours")
        );
        assert!(file("#".repeat((16 << 20) + 1)).unwrap_err().to_string().contains("more than 16 MiB"));
        let unknown = Palette::parse("ade").unwrap_err().to_string();
        assert!(unknown.starts_with("ade: cannot be read") && unknown.contains("default, ade20k, cityscapes, voc"));
    }
}
