//! The header file of crates/lseg-c, made of its sources. A package of its own: it needs nothing of the engine.

use std::path::{Path, PathBuf};

use cbindgen::{Builder, Config};

/// In the order of the header's sections.
const SOURCES: [&str; 9] = ["status", "codes", "engine", "image", "output", "segment", "tensor", "stream", "answer"];

/// The package for C.
fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it lies in that package").to_owned()
}

/// Where the header stands.
pub fn place() -> PathBuf {
    package().join("include/lseg_fast.h")
}

/// The header as cbindgen makes it.
///
/// # Errors
/// What cbindgen or its configuration's reader says.
pub fn header() -> Result<String, String> {
    let config = Config::from_file(package().join("cbindgen.toml"))?;
    let sources = SOURCES.iter().map(|name| package().join("src").join(name).with_extension("rs"));
    let builder = sources.fold(Builder::new().with_config(config), |builder, source| builder.with_src(source));
    let mut made = Vec::new();
    builder.generate().map_err(|e| e.to_string())?.write(&mut made);
    String::from_utf8(made).map_err(|e| e.to_string())
}
