//! `lseg-fast serve`: a page for browsers and an API for programs, over one network and one lane. docs/serve.md tells how it is used.
//!
//! One thread has the lane (`worker.rs`); what it is asked waits in one queue, in which each client has one picture at most, so that
//! they take turns. All else are tasks on one other thread, and short work on threads for that (decoding, words).

mod answer;
mod guard;
mod http;
mod multipart;
mod query;
mod refusal;
mod similar;
mod socket;
mod worker;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::serve::ListenerExt;
use tokio::sync::{Semaphore, watch};

use self::guard::Guard;
use self::refusal::Refusal;
use self::socket::Client;
use self::worker::Worker;
use crate::engine::Network;
use crate::error::{Error, Result};
use crate::labels::{self, List};
use crate::protocol::Size;

/// Pages that may be open.
const CLIENTS: usize = 8;
/// Requests whose bodies are in memory at once.
const REQUESTS: usize = 8;
/// The most labels in one list: what an indexed mask holds.
pub const MOST_LABELS: usize = 256;
/// How long requests may go on when the server is told to stop.
const LAST_REQUESTS: Duration = Duration::from_secs(3);
/// How long the frame that is computed then may take.
const LAST_FRAME: Duration = Duration::from_secs(30);

/// How to serve.
pub struct Settings {
    /// Where to listen, such as `127.0.0.1`.
    pub host: String,
    /// 0 takes a free one.
    pub port: u16,
    /// Bytes of a photo's file, or of a frame's pixels.
    pub max_upload: usize,
    /// Pixels of a photo.
    pub max_pixels: u64,
    /// What every request must bring. One is made up where others than this machine can ask.
    pub token: Option<String>,
    /// Names beside the usual ones by which requests may call this server.
    pub allowed_hosts: Vec<String>,
    /// The network's size; the model's own if none.
    pub size: Option<Size>,
    /// The words that a page begins with.
    pub labels: Vec<String>,
    /// What to call the model.
    pub model: String,
}

/// What all requests see.
struct App {
    network: Network,
    worker: Worker,
    settings: Settings,
    guard: Guard,
    places: Arc<Semaphore>,
    requests: Semaphore,
    clients: Mutex<HashMap<String, Weak<Client>>>,
    stop: watch::Receiver<bool>,
}

impl App {
    fn client(&self, name: &str) -> Option<Arc<Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).get(name)?.upgrade()
    }

    fn open_pages(&self) -> usize {
        CLIENTS - self.places.available_permits()
    }
}

/// A server that has its port, and answers as soon as it runs.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    settings: Settings,
    stop: (watch::Sender<bool>, watch::Receiver<bool>),
}

impl Server {
    /// Takes the port.
    ///
    /// # Errors
    /// The system's, where it is taken or not allowed.
    pub fn bind(mut settings: Settings) -> io::Result<Server> {
        let host = settings.host.trim_start_matches('[').trim_end_matches(']');
        let listener = TcpListener::bind((host, settings.port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        if !address.ip().is_loopback() && settings.token.is_none() {
            settings.token = Some(guard::random_name()?);
        }
        Ok(Server { listener, address, settings, stop: watch::channel(false) })
    }

    /// Where a browser finds the page, on this machine.
    pub fn url(&self) -> String {
        let port = self.address.port();
        let host = match self.address.ip() {
            ip if ip.is_unspecified() => "localhost".to_owned(),
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let token = self.settings.token.as_ref().map(|token| format!("?token={token}")).unwrap_or_default();
        format!("http://{host}:{port}/{token}")
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What ends [`Server::run`], from any thread.
    pub fn stopper(&self) -> impl Fn() + Send + use<> {
        let stop = self.stop.0.clone();
        move || {
            stop.send_replace(true);
        }
    }

    /// Answers until it is told to stop.
    ///
    /// # Errors
    /// [`Error::Lost`] where the GPU is; those of a lane that cannot be made; [`Error::Io`] where the system gives no threads.
    pub fn run(self, network: &Network) -> Result<()> {
        let Server { listener, address, settings, stop } = self;
        let failed = |e| Error::io("serve", "the page".as_ref(), e);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (worker, ended) = Worker::start(network, settings.size, stop.0.clone())?;
        let app = App {
            network: network.clone(),
            worker,
            guard: Guard::new(&settings, address),
            settings,
            places: Arc::new(Semaphore::new(CLIENTS)),
            requests: Semaphore::new(REQUESTS),
            clients: Mutex::default(),
            stop: stop.1.clone(),
        };
        let served = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            // Answers are small or at once: nothing is gained by waiting for more to send.
            let listener = listener.tap_io(|connection| drop(connection.set_nodelay(true)));
            let stopped = || until_stop(stop.1.clone());
            let places = Arc::clone(&app.places);
            let router = http::router(Arc::new(app));
            let serving = axum::serve(listener, router).with_graceful_shutdown(stopped()).into_future();
            let last = async {
                stopped().await;
                tokio::time::sleep(LAST_REQUESTS).await;
            };
            let served = tokio::select! {
                served = serving => served,
                () = last => Ok(()),
            };
            // Sockets are tasks of their own, which tell their clients that the server goes: each has its place until then.
            let _ = tokio::time::timeout(LAST_REQUESTS, places.acquire_many(CLIENTS as u32)).await;
            served
        });
        runtime.shutdown_timeout(Duration::from_secs(1));
        // With the requests the queue is gone: the thread ends with the frame that it computes.
        let lost = ended.recv_timeout(LAST_FRAME).ok().flatten();
        served.map_err(failed)?;
        lost.map_or(Ok(()), |reason| Err(Error::Lost(reason)))
    }
}

async fn until_stop(mut stop: watch::Receiver<bool>) {
    // An error: nobody is left who could stop it, and the process ends.
    let _ = stop.wait_for(|stopped| *stopped).await;
}

/// Words of a stranger as a list of labels. (`labels::parse` would read files that they name.)
fn checked(words: &[String]) -> std::result::Result<List, Refusal> {
    if words.len() > MOST_LABELS {
        return Err(Refusal::unfit(format!("{} labels; {MOST_LABELS} are taken at most", words.len())));
    }
    Ok(labels::checked(words)?)
}
