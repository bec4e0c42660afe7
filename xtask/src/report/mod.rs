//! What a run found, as tables: for the terminal at its end, as a page afterwards. Every number comes from the files.

mod about;
mod checks;
mod clocks;
mod frames;
mod kernels;
mod micro;
mod page;
mod sweep;
mod table;
mod terminal;

pub use self::page::{body, page};
pub use self::terminal::terminal;

/// A number with some decimals; a dash where there is none.
fn number(value: Option<f64>, decimals: usize) -> String {
    match value.filter(|value| value.is_finite()) {
        Some(value) => format!("{value:.decimals$}"),
        None => "–".to_owned(),
    }
}

/// Of JSON: strings as they are, null as a dash.
fn words(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => "–".to_owned(),
        other => other.to_string(),
    }
}
