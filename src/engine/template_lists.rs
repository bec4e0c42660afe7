//! Published lists of label templates.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};

/// The largest file of templates that is read.
const MOST_BYTES: usize = 1 << 20;

/// A list, and what becomes of the mean of its texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateList {
    /// Each with `{}` where the label goes.
    pub templates: Vec<String>,
    /// The mean keeps its length, below 1, instead of being brought to length 1: labels whose texts agree less then score less.
    pub keeps_length: bool,
    /// The last label, a word for the rest, stands for itself.
    pub spares_last: bool,
}

/// CLIP's 80 for ImageNet; the 63 of VLMaps, which came from ViLD and whose means keep their length; OpenScene's one, which spares
/// the last label.
const LISTS: [(&str, &str, bool, bool); 4] = [
    ("none", "", false, false),
    ("clip80", include_str!("template_lists/clip80.txt"), false, false),
    ("vlmaps63", include_str!("template_lists/vlmaps63.txt"), true, false),
    ("openscene", include_str!("template_lists/openscene.txt"), false, true),
];

impl TemplateList {
    /// A published list, or `@FILE` with a template a line.
    ///
    /// # Errors
    /// [`Error::Template`] for another name and for a file without templates; [`Error::Io`].
    pub fn named(name: &str) -> Result<TemplateList> {
        if let Some(file) = name.strip_prefix('@') {
            return TemplateList::read(Path::new(file));
        }
        let found = LISTS.iter().find(|(own, ..)| *own == name);
        let (_, text, keeps_length, spares_last) = found.ok_or_else(|| {
            let names = LISTS.map(|(name, ..)| name).join(", ");
            Error::Template(format!("templates \"{name}\": expected one of {names}, or @FILE with one a line"))
        })?;
        Ok(TemplateList { templates: lines(text), keeps_length: *keeps_length, spares_last: *spares_last })
    }

    fn read(path: &Path) -> Result<TemplateList> {
        let failed = |e| Error::io("read the templates of", path, e);
        let bytes = fs::metadata(path).map_err(failed)?.len();
        if bytes > MOST_BYTES as u64 {
            let what = format!("{}: {bytes} bytes of templates, more than {MOST_BYTES}", path.display());
            return Err(Error::Template(what));
        }
        let templates = lines(&fs::read_to_string(path).map_err(failed)?);
        if templates.is_empty() {
            let what = format!("{}: no templates; write one a line, such as a photo of a {{}}", path.display());
            return Err(Error::Template(what));
        }
        Ok(TemplateList { templates, ..TemplateList::default() })
    }
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_as_many_templates_as_their_names_say() {
        for (name, count) in [("none", 0), ("clip80", 80), ("vlmaps63", 63), ("openscene", 1)] {
            let list = TemplateList::named(name).unwrap();
            assert_eq!(list.templates.len(), count, "{name}");
            assert!(list.templates.iter().all(|template| template.contains("{}")), "{name}");
        }
        assert!(TemplateList::named("clip81").unwrap_err().to_string().contains("clip80"));
    }
}
