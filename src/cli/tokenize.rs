//! `tokenize`: a text's token ids.

use std::path::PathBuf;

use crate::tokenizer::Tokenizer;
use clap::Args;
use serde::Serialize;

use super::common::read_config;
use super::print::Printer;
use super::{Failure, Outcome};

/// CLIP's token table and context (2103.00020).
const CLIP: (usize, usize) = (49_408, 77);

/// Print the token ids of a text on one line, start and end included.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The text; several words are joined by spaces
    #[arg(required = true, value_name = "TEXT")]
    text: Vec<String>,

    /// Take the size of the token table and the context from this model [default: CLIP's 49408 and 77]
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  lseg-fast tokenize -- a photo of a dog
  lseg-fast tokenize -- \"--a text that begins with hyphens\"
  lseg-fast tokenize --model lseg.safetensors -- grass";

#[derive(Serialize)]
struct Report {
    text: String,
    ids: Vec<u32>,
}

pub fn run(arguments: &Arguments, printer: &mut Printer) -> Result<Outcome, Failure> {
    let (vocab, context) = match &arguments.model {
        Some(model) => {
            let (_, config) = read_config(Some(model))?;
            (config.text.vocab, config.text.context)
        }
        None => CLIP,
    };
    let text = arguments.text.join(" ");
    let ids = Tokenizer::new(vocab, context)?.encode(&text)?;
    printer.print(&Report { text, ids }, |report| {
        report.ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ") + "\n"
    })?;
    Ok(Outcome::Done)
}
