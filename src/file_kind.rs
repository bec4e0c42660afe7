//! Names for files that are not what was asked for, told by their first bytes, whatever their endings.

use file_format::{FileFormat, Kind};

/// The first bytes that are looked at: all signatures lie in them.
pub(crate) const HEAD: usize = 512;

/// What a file is that is not read here.
pub(crate) struct FileKind {
    /// With its article: "a HEIC photo".
    pub what: String,
    pub class: Class,
}

/// Files for which there is one way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// A photo or picture of pixels.
    Picture,
    /// A camera's raw file.
    Raw,
    /// Lines, letters and pictures on a page.
    Drawing,
    Video,
    Archive,
    /// What a checkout without Git LFS leaves in a file's place.
    LfsPointer,
    WebPage,
    Text,
    Other,
}

impl Class {
    /// What to do about such a file in a photo's place.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Class::Picture => "convert it to JPEG or PNG",
            Class::Raw => "develop it and save it as JPEG or PNG",
            Class::Drawing => "export it as PNG or JPEG",
            Class::Video => "save the frames that are wanted as JPEG or PNG",
            Class::Archive => "unpack it first",
            Class::LfsPointer => "fetch the file with `git lfs pull`",
            Class::WebPage => "download the file itself again",
            Class::Text | Class::Other => "name a photo",
        }
    }
}

/// What a file with these first bytes seems to be, if that can be told.
pub(crate) fn identify(head: &[u8]) -> Option<FileKind> {
    let named = |what: &str, class| Some(FileKind { what: what.into(), class });
    if head.starts_with(b"version https://git-lfs") {
        return named("a Git LFS pointer, not the file itself", Class::LfsPointer);
    }
    if let Some(name) = camera(head) {
        return named(&format!("a camera's raw file ({name})"), Class::Raw);
    }
    if let Some(name) = iso_photo(head) {
        return named(&with_article(name, "photo"), Class::Picture);
    }
    let text = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head).trim_ascii_start();
    if text.starts_with(b"<") {
        let lower = text.to_ascii_lowercase();
        let holds = |word: &[u8]| lower.windows(word.len()).any(|part| part == word);
        return if holds(b"<svg") && !holds(b"<html") {
            named("an SVG drawing", Class::Drawing)
        } else if text.starts_with(b"<?xml") && !holds(b"<html") {
            named("an XML file", Class::Text)
        } else {
            named("a web page, not the file itself", Class::WebPage)
        };
    }
    match head {
        _ if head.starts_with(&[0x1f, 0x8b]) => return named("a gzip-compressed file", Class::Archive),
        _ if head.get(257..262) == Some(b"ustar") => return named("a tar archive", Class::Archive),
        _ if head.starts_with(b"\x93NUMPY") => return named("a NumPy array", Class::Other),
        _ if head.starts_with(b"\x89HDF\r\n") => return named("an HDF5 file", Class::Other),
        _ => {}
    }
    by_signature(FileFormat::from_bytes(head))
        .or_else(|| is_text(head).then(|| FileKind { what: "a text file".into(), class: Class::Text }))
}

fn by_signature(format: FileFormat) -> Option<FileKind> {
    let short = format.short_name().unwrap_or(format.name());
    let (name, noun, class) = match format {
        FileFormat::ArbitraryBinaryData | FileFormat::Empty | FileFormat::PlainText => return None,
        FileFormat::JpegXl => ("JPEG XL", "photo", Class::Picture),
        FileFormat::JpegExtendedRange => ("JPEG XR", "photo", Class::Picture),
        FileFormat::Jpeg2000Codestream
        | FileFormat::Jpeg2000Part1
        | FileFormat::Jpeg2000Part2
        | FileFormat::Jpeg2000Part6 => ("JPEG 2000", "photo", Class::Picture),
        FileFormat::CanonRaw
        | FileFormat::CanonRaw2
        | FileFormat::CanonRaw3
        | FileFormat::FujifilmRaw
        | FileFormat::NikonElectronicFile
        | FileFormat::OlympusRawFormat
        | FileFormat::PanasonicRaw
        | FileFormat::SonyAlphaRaw => {
            return Some(FileKind { what: format!("a camera's raw file ({short})"), class: Class::Raw });
        }
        FileFormat::EncapsulatedPostscript
        | FileFormat::AdobeIllustratorArtwork
        | FileFormat::EnhancedMetafile
        | FileFormat::WindowsMetafile
        | FileFormat::PortableDocumentFormat
        | FileFormat::Postscript => (short, "document", Class::Drawing),
        // Their signatures leave open whether there are pictures in them.
        FileFormat::Mpeg4Part14 => (short, "video", Class::Video),
        FileFormat::ExtensibleBinaryMetaLanguage => ("Matroska or WebM", "video", Class::Video),
        FileFormat::AdvancedSystemsFormat => ("Windows Media", "video", Class::Video),
        FileFormat::DigitalImagingAndCommunicationsInMedicine => ("DICOM", "picture", Class::Picture),
        FileFormat::FlexibleImageTransportSystem => ("FITS", "picture", Class::Picture),
        _ => match format.kind() {
            Kind::Image => (short, "picture", Class::Picture),
            Kind::Video => (short, "video", Class::Video),
            Kind::Archive | Kind::Compressed => (short, "archive", Class::Archive),
            _ => (short, "file", Class::Other),
        },
    };
    Some(FileKind { what: with_article(name, noun), class })
}

/// Raw formats that are no TIFF files.
fn camera(head: &[u8]) -> Option<&'static str> {
    let signatures: [(&[u8], usize, &str); 9] = [
        (b"IIRO", 0, "ORF"),
        (b"IIRS", 0, "ORF"),
        (b"MMOR", 0, "ORF"),
        (b"IIU\0", 0, "RW2"),
        (b"FUJIFILMCCD-RAW", 0, "RAF"),
        (b"FOVb", 0, "X3F"),
        (b"\0MRM", 0, "MRW"),
        (b"HEAPCCDR", 6, "CRW"),
        (b"ftypcrx", 4, "CR3"),
    ];
    let found = signatures.iter().find(|(magic, at, _)| head.get(*at..).is_some_and(|rest| rest.starts_with(magic)));
    found.map(|&(_, _, name)| name)
}

/// The photo formats among the ISO media files (ISO 14496-12): a box `ftyp` with a brand, a version and further brands.
fn iso_photo(head: &[u8]) -> Option<&'static str> {
    let (size, rest) = head.split_first_chunk::<4>()?;
    let brands = rest.strip_prefix(b"ftyp")?;
    let brands = &brands[..brands.len().min((u32::from_be_bytes(*size) as usize).saturating_sub(8))];
    let brands = brands.as_chunks::<4>().0;
    let has = |wanted: &[&[u8; 4]]| brands.iter().enumerate().any(|(i, brand)| i != 1 && wanted.contains(&brand));
    let main = brands.first()?;
    // A film may be compatible with anything: the main brand tells whether it is a photo.
    match main {
        b"avif" | b"avis" | b"avio" => Some("AVIF"),
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"hevm" | b"hevs" => Some("HEIC"),
        b"mif1" | b"mif2" | b"mif3" | b"msf1" | b"miaf" | b"heif" | b"avci" | b"avcs" | b"jpeg" | b"vvic" => {
            Some(match () {
                () if has(&[b"avif", b"avis"]) => "AVIF",
                () if has(&[b"heic", b"heix", b"hevc", b"hevx"]) => "HEIC",
                () => "HEIF",
            })
        }
        _ => None,
    }
}

fn is_text(head: &[u8]) -> bool {
    // A letter may be cut at the end.
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or(""),
        Err(_) => return false,
    };
    !valid.is_empty() && valid.chars().all(|c| !c.is_control() || c.is_whitespace())
}

fn with_article(name: &str, noun: &str) -> String {
    let is_vowel = name.starts_with(['A', 'E', 'I', 'O']) || ["HDR", "MP4", "SGI", "XCF", "XPM"].contains(&name);
    let article = if is_vowel { "an" } else { "a" };
    format!("{article} {name} {noun}")
}
