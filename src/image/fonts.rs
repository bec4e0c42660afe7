//! Which font draws which character: the embedded one, else one of the system's, else the last resort.

use std::io::Read;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use cosmic_text::fontdb::{Database, FaceInfo, ID, Source, Style};
use cosmic_text::{
    Attrs, AttrsOwned, CacheKeyFlags, Fallback, Family, FontSystem, PlatformFallback, SwashCache, Weight,
};
use flate2::read::ZlibDecoder;
use unicode_script::UnicodeScript;

/// DejaVu Sans 2.37: Latin, Greek, Cyrillic, Georgian, Armenian, Hebrew, Arabic and some thousand symbols.
const EMBEDDED: &[u8] = include_bytes!("../../weights/fonts/DejaVuSans.ttf");

/// GNU Unifont 15: whatever else of the basic plane, emoji and the rarer scripts, in 16 rows of pixels. Not beautiful,
/// and no two characters look alike.
const LAST_RESORT: &[u8] = include_bytes!("../../weights/fonts/Unifont.otf.zlib");

/// The system's fonts that are never asked: those that draw any character as a box or as nothing, and our own last
/// resort, which others come before.
const NEVER: [&str; 4] = ["LastResort", "Last Resort", "Adobe Blank", "Unifont"];

/// The process's fonts. They are only ever added to, so that they serve on after a panic elsewhere.
pub fn fonts() -> MutexGuard<'static, Fonts> {
    static FONTS: LazyLock<Mutex<Fonts>> = LazyLock::new(|| Mutex::new(Fonts::new()));
    FONTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place in [`Fonts::attributes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FontIndex(usize);

impl FontIndex {
    pub const EMBEDDED: FontIndex = FontIndex(0);
}

pub struct Fonts {
    /// What texts are shaped with: the embedded font and those that some text has needed so far. It holds no others,
    /// since what it finds in none of its fonts it looks for in all.
    pub shaping: FontSystem,
    pub rasteriser: SwashCache,
    /// Each font of `shaping`, the embedded one first.
    loaded: Vec<Loaded>,
    system: Option<SystemFonts>,
    last_resort: Option<FontIndex>,
}

struct Loaded {
    id: ID,
    attributes: AttrsOwned,
    /// Which of the system's fonts it is.
    of_system: Option<ID>,
}

impl Fonts {
    fn new() -> Fonts {
        let shaping = FontSystem::new_with_locale_and_db(String::new(), Database::new());
        let rasteriser = SwashCache::new();
        let mut fonts = Fonts { shaping, rasteriser, loaded: Vec::new(), system: None, last_resort: None };
        fonts.load(Source::Binary(Arc::new(EMBEDDED)), CacheKeyFlags::DISABLE_HINTING);
        fonts
    }

    /// How texts in this font are asked for.
    pub fn attributes(&self, font: FontIndex) -> Attrs<'_> {
        self.loaded[font.0].attributes.as_attrs()
    }

    /// The font for what readers take for one character, such as a letter with its accents. `None` if no font has all
    /// of it.
    pub fn choose(&mut self, cluster: &str) -> Option<FontIndex> {
        if covers(&mut self.shaping, self.loaded[0].id, cluster) {
            return Some(FontIndex::EMBEDDED);
        }
        let system = self.system.get_or_insert_with(SystemFonts::load);
        if let Some(face) = system.choose(cluster) {
            return Some(self.of_system(face));
        }
        let last_resort = self.last_resort();
        covers(&mut self.shaping, self.loaded[last_resort.0].id, cluster).then_some(last_resort)
    }

    fn of_system(&mut self, face: FaceInfo) -> FontIndex {
        if let Some(place) = self.loaded.iter().position(|font| font.of_system == Some(face.id)) {
            return FontIndex(place);
        }
        let of_system = Some(face.id);
        let attributes = attributes(&face, CacheKeyFlags::DISABLE_HINTING);
        let id = self.shaping.db_mut().push_face_info(face);
        self.loaded.push(Loaded { id, attributes, of_system });
        FontIndex(self.loaded.len() - 1)
    }

    fn last_resort(&mut self) -> FontIndex {
        if let Some(font) = self.last_resort {
            return font;
        }
        let mut font = Vec::new();
        ZlibDecoder::new(LAST_RESORT).read_to_end(&mut font).expect("the embedded font is whole");
        let flags = CacheKeyFlags::DISABLE_HINTING | CacheKeyFlags::PIXEL_FONT;
        let font = self.load(Source::Binary(Arc::new(font)), flags);
        self.last_resort = Some(font);
        font
    }

    fn load(&mut self, source: Source, flags: CacheKeyFlags) -> FontIndex {
        let database = self.shaping.db_mut();
        let id = database.load_font_source(source)[0];
        let attributes = attributes(database.face(id).expect("just loaded"), flags);
        self.loaded.push(Loaded { id, attributes, of_system: None });
        FontIndex(self.loaded.len() - 1)
    }
}

fn attributes(face: &FaceInfo, flags: CacheKeyFlags) -> AttrsOwned {
    let family = face.families.first().map_or("", |(family, _)| family);
    let attributes = Attrs::new().family(Family::Name(family)).weight(face.weight).style(face.style);
    AttrsOwned::new(&attributes.stretch(face.stretch).cache_key_flags(flags))
}

/// The fonts that are installed here.
struct SystemFonts {
    fonts: FontSystem,
    /// The upright ones of usual weight and those that the platform's list names come first.
    order: Vec<ID>,
}

impl SystemFonts {
    fn load() -> SystemFonts {
        let mut database = Database::new();
        database.load_system_fonts();
        let locale = sys_locale::get_locale().unwrap_or_default();
        SystemFonts::new(FontSystem::new_with_locale_and_db(locale, database))
    }

    fn new(fonts: FontSystem) -> SystemFonts {
        let usual = PlatformFallback;
        let usual = usual.common_fallback();
        let rank = |face: &FaceInfo| {
            let listed = usual.iter().position(|name| is_of(face, name)).unwrap_or(usual.len());
            (face.weight.0.abs_diff(Weight::NORMAL.0), face.style != Style::Normal, listed)
        };
        let known = |face: &&FaceInfo| {
            !face.families.iter().any(|(family, _)| NEVER.iter().any(|never| family.contains(never)))
        };
        let mut order: Vec<_> = fonts.db().faces().filter(known).map(|face| (rank(face), face.id)).collect();
        order.sort_unstable();
        let order = order.into_iter().map(|(_, id)| id).collect();
        SystemFonts { fonts, order }
    }

    /// The first font that has all of the cluster, those made for its script before others.
    fn choose(&mut self, cluster: &str) -> Option<FaceInfo> {
        let locale = self.fonts.locale().to_owned();
        let made_for: Vec<&str> = cluster
            .chars()
            .flat_map(|c| PlatformFallback.script_fallback(c.script(), &locale).iter().copied())
            .collect();
        let database = self.fonts.db();
        let is_made_for = |id: &&ID| {
            let face = database.face(**id);
            !made_for.is_empty() && face.is_some_and(|face| made_for.iter().any(|name| is_of(face, name)))
        };
        let first: Vec<ID> = self.order.iter().filter(is_made_for).copied().collect();
        let id =
            first.into_iter().chain(self.order.iter().copied()).find(|id| covers(&mut self.fonts, *id, cluster))?;
        self.fonts.db().face(id).cloned()
    }
}

fn is_of(face: &FaceInfo, family: &str) -> bool {
    face.families.iter().any(|(name, _)| name == family)
}

/// Whether the font has a glyph for each visible character.
fn covers(fonts: &mut FontSystem, id: ID, cluster: &str) -> bool {
    let Some(font) = fonts.get_font(id, Weight::NORMAL) else { return false };
    let characters = font.as_swash().charmap();
    cluster.chars().all(|c| is_invisible(c) || characters.map(c) != 0)
}

/// Whether a character only says how others are drawn (the Unicode property Default_Ignorable_Code_Point).
pub fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{AD}'
            | '\u{34F}'
            | '\u{61C}'
            | '\u{115F}'..='\u{1160}'
            | '\u{17B4}'..='\u{17B5}'
            | '\u{180B}'..='\u{180F}'
            | '\u{200B}'..='\u{200F}'
            | '\u{202A}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}'
            | '\u{3164}'
            | '\u{FE00}'..='\u{FE0F}'
            | '\u{FEFF}'
            | '\u{FFA0}'
            | '\u{FFF0}'..='\u{FFF8}'
            | '\u{1BCA0}'..='\u{1BCA3}'
            | '\u{1D173}'..='\u{1D17A}'
            | '\u{E0000}'..='\u{E0FFF}'
    )
}
