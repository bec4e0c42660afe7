//! One photo after the other, with a progress bar; one that fails does not stop the rest, unless the rest would fail too.

use std::fmt;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use lseg_fast::Error;
use serde::Serialize;

use super::photos::Photo;
use super::print::Printer;
use super::{Failure, Outcome, message};

/// Does `work` on every photo and prints each result, as `render` shows it or as JSON. Failures are named on stderr.
pub fn each<R: Serialize>(
    photos: Vec<Photo>,
    quiet: bool,
    printer: &mut Printer,
    mut work: impl FnMut(&Photo) -> lseg_fast::Result<R>,
    render: impl Fn(&R) -> String,
) -> Result<Outcome, Failure> {
    let all = photos.len();
    let progress = progress_bar(all, quiet);
    let mut outcome = Outcome::Done;
    for (tried, mut photo) in (1..).zip(photos) {
        progress.set_message(photo.path.display().to_string());
        match photo.fault.take().map_or_else(|| work(&photo), Err) {
            Ok(report) => progress.suspend(|| printer.print(&report, &render))?,
            Err(error) => {
                outcome = Outcome::SomeFailed;
                progress.suspend(|| message::error(&error));
                if matches!(error, Error::Lost(_)) && tried < all {
                    let left = all - tried;
                    progress.suspend(|| {
                        message::error(format!("the device is lost: {left} of {all} photos were not done"))
                    });
                    break;
                }
            }
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(outcome)
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
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
