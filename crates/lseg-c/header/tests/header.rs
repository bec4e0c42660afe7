//! include/lseg_fast.h is what cbindgen makes of the sources.

use std::fs;

/// `LSEG_WRITE_HEADER=1 cargo test -p lseg-c-header` writes it.
#[test]
fn the_header_is_made_of_the_sources() {
    let (made, place) = (lseg_c_header::header().unwrap(), lseg_c_header::place());
    if std::env::var_os("LSEG_WRITE_HEADER").is_some() {
        fs::write(&place, &made).unwrap();
    }
    let stands = fs::read_to_string(&place).unwrap_or_default();
    assert!(stands == made, "{}: not of these sources; LSEG_WRITE_HEADER=1 writes it anew", place.display());
}
