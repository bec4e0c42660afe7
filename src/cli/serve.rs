//! `serve`: the web page and its API.

use crate::image::decode::DEFAULT_MAX_PIXELS;
use crate::labels;
use crate::protocol::Size;
use crate::serve::{MOST_LABELS, Server, Settings};
use crate::termination;
use bytesize::ByteSize;
use clap::Args;
use serde::Serialize;

use super::common::{EngineArguments, own_size};
use super::print::Printer;
use super::{Failure, Outcome, message};

/// Serve a page: words typed, photos and webcams segmented in the browser; and an API for programs.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 7860, value_name = "PORT")]
    port: u16,

    /// The address to listen on; 0.0.0.0 for all of this machine's, which others reach with a token
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    host: String,

    /// A name by which requests may call this server beside localhost and its addresses, as behind a proxy; repeat it for more
    #[arg(long = "allow-host", value_name = "NAME[:PORT]")]
    allowed_hosts: Vec<String>,

    /// What every request must bring [default: none on this machine alone, else one that is made up and printed]
    #[arg(long, value_name = "TOKEN", value_parser = token)]
    token: Option<String>,

    /// Refuse photos and frames of more bytes than this, such as 20M
    #[arg(long, default_value = "20M", value_name = "SIZE")]
    max_upload: ByteSize,

    /// Refuse photos of more pixels than this
    #[arg(long, default_value_t = DEFAULT_MAX_PIXELS, value_name = "N")]
    max_pixels: u64,

    /// The words that a page begins with, split at commas, or @FILE with one a line
    #[arg(long, default_value = "dog,house,car,tree,grass,sky,other", value_name = "WORDS|@FILE")]
    labels: String,

    /// The network's size: native (the photo's own), HEIGHTxWIDTH, or long:L (longer side L) [default: the model's]
    #[arg(long, value_name = "SIZE")]
    size: Option<Size>,

    #[command(flatten)]
    engine: EngineArguments,

    /// No notes on stderr; errors remain
    #[arg(short, long)]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  lseg-fast serve --model lseg.safetensors
  lseg-fast serve --port 8000 --labels \"person,floor,other\" --size 320x320
  lseg-fast serve --host 0.0.0.0 --token correct-horse-battery
  curl --data-binary @photo.jpg -H 'Accept: image/png' \\
      'http://localhost:7860/api/segment?labels=dog,grass,other' > mask.png

Browsers give their webcam to localhost and to https alone. From another machine:
  ssh -L 7860:localhost:7860 ROBOT, then http://localhost:7860

Ends by Ctrl-C or SIGTERM, with exit code 0. docs/serve.md has the API.";

/// It stands in addresses and headers as it is.
fn token(text: &str) -> Result<String, String> {
    const SHORTEST: usize = 8;
    let fits = text.len() >= SHORTEST && text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.~".contains(&c));
    if fits {
        Ok(text.to_owned())
    } else {
        Err(format!("expected {SHORTEST} letters or more of A–Z, a–z, 0–9, - _ . ~"))
    }
}

#[derive(Serialize)]
struct Listening {
    url: String,
}

pub fn run(arguments: &Arguments, printer: &mut Printer) -> Result<Outcome, Failure> {
    let list = labels::parse(&arguments.labels)?;
    if list.len() > MOST_LABELS {
        return Err(Failure::call(format!("{} labels; a page takes {MOST_LABELS} at most", list.len())));
    }
    let checkpoint = arguments.engine.open()?;
    let Arguments { host, port, .. } = arguments;
    let settings = Settings {
        host: host.clone(),
        port: *port,
        max_upload: usize::try_from(arguments.max_upload.as_u64()).unwrap_or(usize::MAX >> 1),
        max_pixels: arguments.max_pixels,
        token: arguments.token.clone(),
        allowed_hosts: arguments.allowed_hosts.clone(),
        size: arguments.size,
        labels: list.texts().map(str::to_owned).collect(),
        model: arguments.engine.name(),
    };
    // Before the model is loaded, which takes longer.
    let server = Server::bind(settings).map_err(|e| {
        Failure::call(format!("cannot listen on {host}, port {port} ({e}); choose another --port or --host"))
    })?;
    let engine = arguments.engine.load(&checkpoint, arguments.quiet)?;
    if arguments.size.is_none() {
        own_size(engine.config())?;
    }
    let network = engine.network().clone();
    drop((engine, checkpoint));
    termination::stop_by_signals(server.stopper());
    if !arguments.quiet && !server.address().ip().is_loopback() {
        let port = server.address().port();
        message::note(format!(
            "others reach it by this machine's name or address, with the token; browsers give webcams to localhost and https \
             alone: ssh -L {port}:localhost:{port} from there"
        ));
    }
    printer.print(&Listening { url: server.url() }, |listening| format!("{}\n", listening.url))?;
    server.run(&network)?;
    Ok(Outcome::Done)
}
