//! Pictures as cameras, decoders and other libraries hold them: the formats, and where the bytes are. Every way into the engine takes
//! an [`Image`]; the operation that normalises reads the format, nothing is converted on the host.

mod cuda;
mod name;
mod yuv;

pub use self::cuda::CudaImage;
pub(crate) use self::yuv::ToRgb;
pub use self::yuv::{Yuv, YuvMatrix, YuvRange};
use crate::error::{Error, Result};

/// How a picture's bytes are pixels. Rows from the top; a format's planes are in the order told here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Red, green, blue, a byte each.
    Rgb8,
    /// Blue, green, red, a byte each: OpenCV's.
    Bgr8,
    /// As [`Format::Rgb8`], with a fourth byte that is not looked at.
    Rgba8,
    /// As [`Format::Bgr8`], with a fourth byte that is not looked at.
    Bgra8,
    /// Grey, a byte.
    Mono8,
    /// A plane of luma, then one of chroma (Cb, Cr) for each 2×2 pixels: `⌈height / 2⌉` rows of `2·⌈width / 2⌉` bytes.
    Nv12(Yuv),
    /// Luma, Cb, luma, Cr for each two pixels of a row: `4·⌈width / 2⌉` bytes.
    Yuyv(Yuv),
    /// Three planes, red, green, blue, of float32 in 0–1. Values beyond are taken as they are (by overlays as 0 or 1).
    RgbF32,
    /// As [`Format::RgbF32`], of float16.
    RgbF16,
}

/// Planes of a picture at most.
pub const MOST_PLANES: usize = 3;

/// The rows of one plane, without padding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlaneSize {
    /// Bytes of a row.
    pub row: usize,
    /// How many.
    pub rows: usize,
}

impl Format {
    /// The planes of a picture of this size; those that a format does not have are empty. `None` where memory has fewer bytes.
    pub fn planes(self, width: usize, height: usize) -> Option<[PlaneSize; MOST_PLANES]> {
        let none = PlaneSize::default();
        let plane = |row: Option<usize>| Some(PlaneSize { row: row?, rows: height });
        let pairs = width.div_ceil(2);
        let planes = match self {
            Format::Rgb8 | Format::Bgr8 => [plane(width.checked_mul(3))?, none, none],
            Format::Rgba8 | Format::Bgra8 => [plane(width.checked_mul(4))?, none, none],
            Format::Mono8 => [plane(Some(width))?, none, none],
            Format::Nv12(_) => {
                [plane(Some(width))?, PlaneSize { row: pairs.checked_mul(2)?, rows: height.div_ceil(2) }, none]
            }
            Format::Yuyv(_) => [plane(pairs.checked_mul(4))?, none, none],
            Format::RgbF32 => [plane(width.checked_mul(4))?; 3],
            Format::RgbF16 => [plane(width.checked_mul(2))?; 3],
        };
        planes.iter().try_fold(0usize, |sum, plane| sum.checked_add(plane.row.checked_mul(plane.rows)?))?;
        Some(planes)
    }

    /// Bytes of a picture of this size whose rows and planes follow each other without padding; `None` where memory has fewer.
    pub fn bytes(self, width: usize, height: usize) -> Option<usize> {
        Some(self.planes(width, height)?.iter().map(|plane| plane.row * plane.rows).sum())
    }
}

/// A picture, in the host's or in a GPU's memory, of which nothing is copied until a frame is made of it.
///
/// ```
/// use lseg_fast::{Format, Image, Plane};
///
/// // Packed, and from a camera whose rows are padded to 64 bytes.
/// let packed = vec![0; 50 * 30 * 3];
/// let image = Image::rgb8(50, 30, &packed);
/// assert_eq!((image.width(), image.height()), (50, 30));
/// let padded = vec![0; 192 * 30];
/// let image = Image::of_planes(Format::Bgr8, 50, 30, &[Plane { bytes: &padded, pitch: 192 }]);
/// assert_eq!(image.format(), Format::Bgr8);
/// ```
///
/// A video decoder's picture, high definition in NV12: luma and chroma lie where the decoder has them. It is segmented as it is.
///
/// ```
/// use lseg_fast::{Engine, Format, Image, Options, Plane};
///
/// let (width, height, pitch) = (50, 30, 64);
/// let (luma, chroma) = (vec![90; pitch * height], vec![128; pitch * height / 2]);
/// let planes = [Plane { bytes: &luma, pitch }, Plane { bytes: &chroma, pitch }];
/// let image = Image::of_planes("nv12:bt709".parse()?, width, height, &planes);
///
/// let mut engine = Engine::load_demo(&Options::default())?;
/// engine.set_size("64x64".parse()?);
/// engine.set_labels(&["grass", "sky", "other"])?;
/// let segmentation = engine.segment(&image)?;
/// assert_eq!(segmentation.mask.len(), width * height);
///
/// // The same grey without padding, in one piece.
/// let packed = [vec![90; width * height], vec![128; width * height / 2]].concat();
/// assert_eq!(engine.segment(&Image::packed("nv12:bt709".parse()?, width, height, &packed))?, segmentation);
/// # Ok::<(), lseg_fast::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    format: Format,
    width: usize,
    height: usize,
    pixels: Pixels<'a>,
}

/// Rows of the host, `pitch` bytes from one to the next; behind the last no padding is needed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plane<'a> {
    /// From the first row's first byte on.
    pub bytes: &'a [u8],
    /// From a row to the next, in bytes.
    pub pitch: usize,
}

#[derive(Clone, Copy, Debug)]
enum Pixels<'a> {
    /// Rows and planes follow each other.
    Packed(&'a [u8]),
    /// So many of them.
    Planes([Plane<'a>; MOST_PLANES], usize),
    Cuda(CudaImage),
}

/// A plane of a picture that has been looked at.
#[derive(Clone, Copy, Debug)]
pub struct HostRows<'a> {
    pub bytes: &'a [u8],
    pub pitch: usize,
    pub size: PlaneSize,
}

impl<'a> HostRows<'a> {
    /// Bytes that need no pitch.
    pub(crate) fn whole(bytes: &'a [u8]) -> HostRows<'a> {
        HostRows { bytes, pitch: bytes.len(), size: PlaneSize { row: bytes.len(), rows: 1 } }
    }

    /// Each without what pads it.
    pub(crate) fn each(&self) -> impl Iterator<Item = &'a [u8]> {
        let HostRows { bytes, pitch, size } = *self;
        (0..size.rows).map(move |row| &bytes[row * pitch..][..size.row])
    }

    /// Copies them to where they follow each other.
    pub(crate) fn copy_into(&self, room: &mut [u8]) {
        let mut rest = room;
        for row in self.each() {
            let (to, behind) = rest.split_at_mut(row.len());
            to.copy_from_slice(row);
            rest = behind;
        }
    }
}

impl<'a> Image<'a> {
    /// 8-bit RGB without padding: `height · width · 3` bytes.
    pub const fn rgb8(width: usize, height: usize, bytes: &'a [u8]) -> Image<'a> {
        Image::packed(Format::Rgb8, width, height, bytes)
    }

    /// Any format whose rows and planes follow each other without padding: [`Format::bytes`] bytes.
    pub const fn packed(format: Format, width: usize, height: usize, bytes: &'a [u8]) -> Image<'a> {
        Image { format, width, height, pixels: Pixels::Packed(bytes) }
    }

    /// One plane for each of [`Format::planes`].
    pub fn of_planes(format: Format, width: usize, height: usize, planes: &[Plane<'a>]) -> Image<'a> {
        let mut all = [Plane::default(); MOST_PLANES];
        all.iter_mut().zip(planes).for_each(|(all, plane)| *all = *plane);
        Image { format, width, height, pixels: Pixels::Planes(all, planes.len()) }
    }

    /// Copies the host's bytes, without padding.
    ///
    /// # Errors
    /// [`Error::Size`] for an image that no frame can be made of, and for room that is not [`Format::bytes`]; [`Error::Device`] for one in
    /// CUDA memory.
    pub fn copy_into(&self, room: &mut [u8]) -> Result<()> {
        let sizes = self.check()?;
        if self.in_cuda().is_some() {
            return Err(Error::Device("the image is in CUDA memory: only the host's bytes are copied".to_owned()));
        }
        let need: usize = sizes.iter().map(|plane| plane.row * plane.rows).sum();
        if room.len() != need {
            return Err(Error::Size(format!("room for {} bytes: a frame of {need} is copied there", room.len())));
        }
        let rows = self.host_rows(&sizes).flat_map(|HostRows { bytes, pitch, size }| {
            (0..size.rows).map(move |row| &bytes[row * pitch..][..size.row])
        });
        let mut place = 0;
        for row in rows {
            room[place..place + row.len()].copy_from_slice(row);
            place += row.len();
        }
        Ok(())
    }

    /// How its bytes are pixels.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Pixels of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Whether it has another's format and size, and lies in the same kind of memory.
    pub(crate) fn is_like(&self, other: &Image<'_>) -> bool {
        let kind = |image: &Image<'_>| (image.format, image.width, image.height, image.in_cuda().is_some());
        kind(self) == kind(other)
    }

    /// Where it lies in a GPU's memory; `None` for one of the host's.
    pub(crate) fn in_cuda(&self) -> Option<&CudaImage> {
        match &self.pixels {
            Pixels::Cuda(cuda) => Some(cuda),
            Pixels::Packed(_) | Pixels::Planes(..) => None,
        }
    }

    /// Its planes' sizes.
    ///
    /// # Errors
    /// [`Error::Size`]: no pixels, fewer or more bytes than they are, rows that overlap, planes that are missing. Of a picture in
    /// a GPU's memory its bytes are not looked at.
    pub(crate) fn check(&self) -> Result<[PlaneSize; MOST_PLANES]> {
        let Image { format, width, height, .. } = *self;
        let wrong = |what: String| Error::Size(format!("a frame of {width}×{height} {what}"));
        if width == 0 || height == 0 {
            return Err(wrong("has no pixels: at least one is needed".to_owned()));
        }
        let sizes = format.planes(width, height).ok_or_else(|| wrong("is larger than memory".to_owned()))?;
        match &self.pixels {
            Pixels::Packed(bytes) => {
                let need: usize = sizes.iter().map(|plane| plane.row * plane.rows).sum();
                if bytes.len() != need {
                    let (found, name) = (bytes.len(), format.name());
                    return Err(wrong(format!("with {found} bytes: expected {need} of {name} without padding")));
                }
            }
            Pixels::Planes(planes, count) => {
                let need = sizes.iter().filter(|plane| plane.rows > 0).count();
                if *count != need {
                    let (name, s) = (format.name(), if *count == 1 { "" } else { "s" });
                    return Err(wrong(format!("with {count} plane{s}: {name} has {need}")));
                }
                for (at, (plane, size)) in planes.iter().zip(&sizes).take(need).enumerate() {
                    check_plane(plane.bytes.len(), plane.pitch, size)
                        .map_err(|what| wrong(format!("whose plane {at} {what}")))?;
                }
            }
            Pixels::Cuda(cuda) => cuda.check(&sizes).map_err(wrong)?,
        }
        Ok(sizes)
    }

    /// Its planes in the host's memory, of an image that was checked; none of one in a GPU's.
    pub(crate) fn host_rows(&self, sizes: &[PlaneSize; MOST_PLANES]) -> impl Iterator<Item = HostRows<'a>> {
        let mut rows = [None; MOST_PLANES];
        match self.pixels {
            // As one plane of one row: it is copied as a whole.
            Pixels::Packed(bytes) => {
                rows[0] = Some(HostRows { bytes, pitch: bytes.len(), size: PlaneSize { row: bytes.len(), rows: 1 } });
            }
            Pixels::Planes(planes, count) => {
                for ((to, plane), size) in rows.iter_mut().zip(&planes).zip(sizes).take(count) {
                    let all = size.row * size.rows;
                    // Rows that follow each other are copied as a whole.
                    let is_packed = plane.pitch == size.row;
                    let size = if is_packed { PlaneSize { row: all, rows: 1 } } else { *size };
                    *to = Some(HostRows { bytes: plane.bytes, pitch: plane.pitch, size });
                }
            }
            Pixels::Cuda(_) => {}
        }
        rows.into_iter().flatten()
    }
}

/// Whether so many bytes hold a plane's rows.
fn check_plane(bytes: usize, pitch: usize, size: &PlaneSize) -> std::result::Result<(), String> {
    let PlaneSize { row, rows } = *size;
    if pitch < row {
        return Err(format!("has {pitch} bytes from row to row: a row takes {row}"));
    }
    match (rows - 1).checked_mul(pitch).and_then(|before| before.checked_add(row)) {
        Some(need) if need <= bytes => Ok(()),
        _ => Err(format!("has {bytes} bytes: {rows} rows of {row} bytes, {pitch} from one to the next, take more")),
    }
}
