//! The one thread that has the lane, and the queue before it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::StatusCode;
use tokio::sync::{oneshot, watch};

use super::refusal::Refusal;
use crate::embedding::Embedding;
use crate::engine::{Labels, Lane, Network, Output, Results, Wanted};
use crate::error::{Error, Result};
use crate::image::decode::decode_from_asking;
use crate::pixels::{Format, Image};
use crate::protocol::Size;

/// A decoded photo, or a frame as it came.
#[derive(Clone, Debug)]
pub struct Picture {
    pub format: Format,
    pub width: usize,
    pub height: usize,
    pub bytes: Bytes,
}

impl Picture {
    /// Of a photo's file.
    pub fn decode(file: &[u8], max_pixels: u64, network: &Network) -> Result<Picture> {
        let ask = |bytes| network.memory().ask_photo(bytes);
        let photo = decode_from_asking(Path::new("the photo"), file, max_pixels, &ask)?;
        let (width, height) = (photo.width, photo.height);
        Ok(Picture { format: Format::Rgb8, width, height, bytes: photo.rgb.into() })
    }

    fn image(&self) -> Image<'_> {
        Image::packed(self.format, self.width, self.height, &self.bytes)
    }
}

/// What the thread has.
pub struct Desk {
    lane: Lane,
    size: Option<Size>,
    /// Of a client's frame, whom somebody asked what is alike in it, and may ask again.
    embedding: Option<(String, u32, Arc<Embedding>)>,
    lost: Option<String>,
}

impl Desk {
    fn new(network: &Network, size: Option<Size>) -> Result<Desk> {
        let mut lane = network.lane()?;
        size.into_iter().for_each(|size| lane.set_size(size));
        Ok(Desk { lane, size, embedding: None, lost: None })
    }

    /// One pass, and (height, width) of the network's input.
    pub fn run(
        &mut self,
        picture: &Picture,
        labels: Option<&Labels>,
        wanted: Wanted<'_>,
    ) -> Result<(Results, (usize, usize))> {
        if let Some(labels) = labels {
            self.lane.set_labels(labels)?;
        }
        let results = self.lane.run(&[picture.image()], wanted)?;
        Ok((results, self.lane.network_size()))
    }

    /// The embeddings of a client's frame; those of one frame are kept.
    pub fn embedding(&mut self, client: &str, frame: u32, picture: &Picture) -> Result<Arc<Embedding>> {
        if let Some((of, number, kept)) = &self.embedding
            && of == client
            && *number == frame
        {
            return Ok(Arc::clone(kept));
        }
        // Two are never in memory.
        self.embedding = None;
        let (mut results, _) = self.run(picture, None, Wanted::of(&[Output::Embedding]))?;
        let [height, width, channels] = results.shape(Output::Embedding).unwrap_or_default();
        let data = results.take_values(Output::Embedding);
        let made = Arc::new(Embedding { channels, height, width, data });
        self.embedding = Some((client.to_owned(), frame, Arc::clone(&made)));
        Ok(made)
    }

    /// A panic may have left the lane half-way.
    fn renew(&mut self) {
        match Desk::new(self.lane.network(), self.size) {
            Ok(desk) => *self = desk,
            Err(error) => self.lost = Some(error.to_string()),
        }
    }
}

type Job = Box<dyn FnOnce(&mut Desk) + Send>;

/// What was answered, and how long it took.
pub struct Answered<T> {
    pub value: T,
    pub waited: Duration,
    pub took: Duration,
}

pub struct Worker {
    queue: Sender<Job>,
}

impl Worker {
    /// Starts the thread. It stops the server where the GPU is lost; when it ends it sends why, where that was not asked for.
    pub fn start(
        network: &Network,
        size: Option<Size>,
        stop: watch::Sender<bool>,
    ) -> Result<(Worker, Receiver<Option<String>>)> {
        let mut desk = Desk::new(network, size)?;
        let (queue, jobs) = mpsc::channel::<Job>();
        let (end, ended) = mpsc::channel();
        let work = move || {
            while let Ok(job) = jobs.recv() {
                job(&mut desk);
                if desk.lost.is_some() {
                    stop.send_replace(true);
                    break;
                }
            }
            let lost = desk.lost.take();
            drop(desk);
            let _ = end.send(lost);
        };
        let started = thread::Builder::new().name("lane".to_owned()).spawn(work);
        started.map_err(|e: io::Error| Error::io("start a thread for", "the lane".as_ref(), e))?;
        Ok((Worker { queue }, ended))
    }

    /// What `work` makes, in its turn. Where nobody waits for it any more it is not begun.
    pub async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Desk) -> Result<T> + Send + 'static,
    ) -> Result<Answered<T>, Refusal> {
        let (reply, answer) = oneshot::channel();
        let asked = Instant::now();
        let job = move |desk: &mut Desk| {
            if reply.is_closed() {
                return;
            }
            let begun = Instant::now();
            let done = catch_unwind(AssertUnwindSafe(|| work(desk)));
            let done = match done {
                Ok(Ok(value)) => Ok(Answered { value, waited: begun - asked, took: begun.elapsed() }),
                Ok(Err(error)) => {
                    if let Error::Lost(reason) = &error {
                        desk.lost = Some(reason.clone());
                    }
                    Err(error.into())
                }
                Err(_) => {
                    desk.renew();
                    let what = "the engine failed in a way that it should not; please report it";
                    Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, what))
                }
            };
            let _ = reply.send(done);
        };
        let ended = || Refusal::busy("the server ends");
        self.queue.send(Box::new(job)).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

/// Short work of the processor's, beside the tasks.
pub async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let failed =
        |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the server failed at this request; please report it");
    tokio::task::spawn_blocking(work).await.map_err(failed)?
}
