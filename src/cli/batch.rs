//! One photo after the other, with a progress bar; one that fails does not stop the rest, unless the rest would fail too.

use std::fmt;
use std::io::ErrorKind;
use std::thread;
use std::time::Duration;

use crate::Error;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use serde::Serialize;

use super::photos::Photo;
use super::print::Printer;
use super::result::shown;
use super::{Failure, Outcome, message};

/// Does `work` on every photo and prints each result, as `render` shows it or as JSON. Failures are named on stderr. After
/// one that would meet every further photo, the others are not begun.
pub fn each<R: Serialize>(
    photos: Vec<Photo>,
    quiet: bool,
    printer: &mut Printer,
    mut work: impl FnMut(&Photo) -> crate::Result<R>,
    render: impl Fn(&R) -> String,
) -> Result<Outcome, Failure> {
    let all = photos.len();
    let progress = progress_bar(all, quiet);
    let mut outcome = Outcome::Done;
    for (tried, mut photo) in (1..).zip(photos) {
        progress.set_message(shown(&photo.path));
        match photo.fault.take().map_or_else(|| work(&photo), Err) {
            Ok(report) => progress.suspend(|| printer.print(&report, &render))?,
            Err(error) => {
                outcome = Outcome::SomeFailed;
                progress.suspend(|| {
                    message::error(&error);
                    printer.failed(&photo.path, &error)
                })?;
                if let Some(reason) = stops(&error).filter(|_| tried < all) {
                    let left = all - tried;
                    progress.suspend(|| message::error(format!("{reason}: {left} of {all} photos were not done")));
                    break;
                }
            }
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(outcome)
}

/// Does `work` on every photo ahead of [`each`], which will meet again what fails here: the places and errors of these photos.
///
/// # Errors
/// One that would meet every further photo.
pub fn ahead(
    photos: &[Photo],
    quiet: bool,
    what: &str,
    mut work: impl FnMut(&Photo) -> crate::Result<()>,
) -> Result<Vec<(usize, Error)>, Failure> {
    let (progress, mut failed) = (progress_bar(photos.len(), quiet), Vec::new());
    for (place, photo) in photos.iter().enumerate().filter(|(_, photo)| photo.fault.is_none()) {
        progress.set_message(format!("{what}: {}", shown(&photo.path)));
        match work(photo) {
            Ok(()) => {}
            Err(error) if stops(&error).is_some() => {
                progress.finish_and_clear();
                return Err(error.into());
            }
            Err(error) => failed.push((place, error)),
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(failed)
}

/// Tells what failed [`ahead`], and what was wrong before, where nothing comes after.
pub fn tell(photos: &[Photo], failed: &[(usize, Error)], printer: &mut Printer) -> Result<(), Failure> {
    let failed = failed.iter().map(|(place, error)| (&photos[*place], error));
    for (photo, error) in photos.iter().filter_map(|photo| Some((photo, photo.fault.as_ref()?))).chain(failed) {
        message::error(error);
        printer.failed(&photo.path, error)?;
    }
    Ok(())
}

/// Why no further photo can be done either. (A lost engine comes here only where `work` could make no other.)
pub fn stops(error: &Error) -> Option<&'static str> {
    match error {
        Error::Output { source, .. } | Error::Io { source, .. } => match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some("the disk is full"),
            ErrorKind::FileTooLarge => Some("files may not be as large as the results"),
            _ => None,
        },
        Error::Lost(_) => Some("the device is lost"),
        _ => None,
    }
}

fn rate(steps_a_second: f64) -> String {
    match steps_a_second {
        0.0 => "waiting".to_owned(),
        slow @ ..1.0 => format!("{:.1} s each", slow.recip()),
        fast => format!("{fast:.1}/s"),
    }
}

/// On stderr, and only where that is a terminal.
pub fn progress_bar(steps: usize, quiet: bool) -> ProgressBar {
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(steps as u64), target);
    if let Ok(style) = ProgressStyle::with_template("{bar:20} {pos}/{len}, {rate}, {eta} left, {wide_msg}") {
        bar.set_style(style.with_key("rate", |state: &ProgressState, text: &mut dyn fmt::Write| {
            let _ = text.write_str(&rate(state.per_sec()));
        }));
    }
    // The ticks come from a thread, and it would be a panic if none could be had.
    if !bar.is_hidden() && thread::Builder::new().spawn(|| ()).is_ok_and(|thread| thread.join().is_ok()) {
        bar.enable_steady_tick(Duration::from_millis(100));
    }
    bar
}
