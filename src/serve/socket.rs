//! A page's or a program's stream: words and frames in, answers out. Of each client the newest frame alone waits.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::{interval, timeout};

use super::answer::{self, About, Times};
use super::refusal::Refusal;
use super::worker::{Picture, beside};
use super::{App, MOST_LABELS, checked, guard};
use crate::build;
use crate::engine::{LabelOptions, Labels, Output, Wanted};
use crate::pixels::Format;

/// A client that takes no answer for so long is dropped.
const SLOW: Duration = Duration::from_secs(2);
/// How often a silent client is called, and how long it may stay silent.
const CALL: Duration = Duration::from_secs(20);
const SILENT: Duration = Duration::from_secs(60);
/// Bytes before a frame's own.
pub const HEAD: usize = 16;
/// Bytes of the last pictures that are kept, for those who ask what is alike in them. One is kept whatever it has.
const KEPT: usize = 32 << 20;
const KEPT_FRAMES: usize = 2;
/// Bytes of a message with words.
const WORDS: usize = 1 << 19;

pub struct Client {
    pub name: String,
    /// With the client's own number of them.
    labels: Mutex<Option<(u64, Labels)>>,
    kept: Mutex<VecDeque<(u32, Arc<Picture>)>>,
}

impl Client {
    /// A picture that was answered last, or before that.
    pub fn picture(&self, frame: u32) -> Option<Arc<Picture>> {
        open(&self.kept).iter().find(|(number, _)| *number == frame).map(|(_, picture)| Arc::clone(picture))
    }

    fn keep(&self, frame: u32, picture: Arc<Picture>) {
        let mut kept = open(&self.kept);
        kept.push_back((frame, picture));
        let bytes = |kept: &VecDeque<(u32, Arc<Picture>)>| kept.iter().map(|(_, p)| p.bytes.len()).sum::<usize>();
        while kept.len() > KEPT_FRAMES || (kept.len() > 1 && bytes(&kept) > KEPT) {
            kept.pop_front();
        }
    }
}

fn open<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a client says in words.
#[derive(Deserialize)]
struct Words {
    id: u64,
    labels: Vec<String>,
}

/// A frame as it came, with how many came before it.
type Arrived = Option<(u64, Bytes)>;

/// Until the client goes, or is too slow.
pub async fn serve(app: Arc<App>, mut socket: WebSocket, _place: OwnedSemaphorePermit) {
    let Ok(name) = guard::random_name() else { return };
    let client = Arc::new(Client { name: name.clone(), labels: Mutex::default(), kept: Mutex::default() });
    open(&app.clients).insert(name.clone(), Arc::downgrade(&client));
    let closing = talk(&app, &client, &mut socket).await;
    open(&app.clients).remove(&name);
    if let Some(frame) = closing {
        let _ = timeout(SLOW, socket.send(Message::Close(Some(frame)))).await;
    }
}

async fn talk(app: &Arc<App>, client: &Arc<Client>, socket: &mut WebSocket) -> Option<CloseFrame> {
    let (outbox, mut answers) = mpsc::channel(1);
    let (frames, new_frames) = watch::channel::<Arrived>(None);
    let (words, new_words) = watch::channel::<Option<Arc<Words>>>(None);
    // They end with this function, whose senders they wait for; what they compute then is dropped.
    let helpers = [
        tokio::spawn(answer_frames(Arc::clone(app), Arc::clone(client), new_frames, outbox.clone())),
        tokio::spawn(answer_words(Arc::clone(app), Arc::clone(client), new_words, outbox)),
    ];
    let _end = EndTasks(helpers);
    if !send(socket, text(hello(app, client))).await {
        return None;
    }
    let (mut stop, mut calls, mut count, mut heard) = (app.stop.clone(), interval(CALL), 0, Instant::now());
    loop {
        tokio::select! {
            message = socket.recv() => {
                heard = Instant::now();
                match message {
                    Some(Ok(Message::Binary(bytes))) => {
                        count += 1;
                        frames.send_replace(Some((count, bytes)));
                    }
                    Some(Ok(Message::Text(said))) if said.len() <= WORDS => match serde_json::from_str(&said) {
                        Ok(said) => drop(words.send_replace(Some(Arc::new(said)))),
                        Err(e) => {
                            let what = format!("expected {{\"type\": \"labels\", \"id\": 1, \"labels\": [\"dog\"]}}: {e}");
                            if !send(socket, text(json!({ "type": "error", "error": what }))).await {
                                return None;
                            }
                        }
                    },
                    Some(Ok(Message::Text(_))) => return close(close_code::SIZE, "too many words"),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(Message::Close(_))) | None => return None,
                    Some(Err(_)) => {
                        let sentence = Refusal::too_large(app.settings.max_upload).sentence;
                        return close(close_code::SIZE, &sentence);
                    }
                }
            }
            answer = answers.recv() => if !send(socket, answer?).await { return None },
            _ = calls.tick() => {
                if heard.elapsed() > SILENT || !send(socket, Message::Ping(Bytes::new())).await {
                    return None;
                }
            }
            () = stopped(&mut stop) => return close(close_code::AWAY, "the server ends"),
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stopped| *stopped).await;
}

/// Ends the tasks when it goes.
struct EndTasks([tokio::task::JoinHandle<()>; 2]);

impl Drop for EndTasks {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// Whether the client took it in time.
async fn send(socket: &mut WebSocket, message: Message) -> bool {
    matches!(timeout(SLOW, socket.send(message)).await, Ok(Ok(())))
}

fn text(value: Value) -> Message {
    Message::Text(value.to_string().into())
}

#[allow(clippy::unnecessary_wraps, reason = "what a loop ends with")]
fn close(code: u16, why: &str) -> Option<CloseFrame> {
    // A reason has 123 bytes at most.
    let why: String = why.chars().take(40).collect();
    Some(CloseFrame { code, reason: why.into() })
}

fn hello(app: &App, client: &Client) -> Value {
    let settings = &app.settings;
    json!({
        "type": "hello",
        "client": client.name,
        "version": build::VERSION,
        "model": settings.model,
        "device": app.network.device(),
        "max_upload": settings.max_upload,
        "max_pixels": settings.max_pixels,
        "max_labels": MOST_LABELS,
        "demo": cfg!(feature = "demo"),
        "labels": settings.labels,
    })
}

/// The newest words, one list after the other; lists that others have replaced meanwhile are passed over.
async fn answer_words(
    app: Arc<App>,
    client: Arc<Client>,
    mut words: watch::Receiver<Option<Arc<Words>>>,
    outbox: mpsc::Sender<Message>,
) {
    while words.changed().await.is_ok() {
        let Some(said) = words.borrow_and_update().clone() else { continue };
        let (network, id) = (app.network.clone(), said.id);
        let made = beside(move || {
            let list = checked(&said.labels)?;
            Ok(network.labels_of(&list, &LabelOptions::default(), &mut |_, _| ())?)
        });
        let answer = match made.await {
            Ok(labels) => {
                let answer = json!({
                    "type": "labels", "id": id, "epoch": labels.epoch(), "labels": labels.names(),
                    "colours": answer::colours(labels.names().len()), "notes": labels.notes(),
                });
                *open(&client.labels) = Some((id, labels));
                answer
            }
            Err(refusal) => json!({ "type": "error", "id": id, "error": refusal.sentence }),
        };
        if outbox.send(text(answer)).await.is_err() {
            return;
        }
    }
}

/// The newest frame, one after the other. While an answer waits for its client none is computed.
async fn answer_frames(
    app: Arc<App>,
    client: Arc<Client>,
    mut frames: watch::Receiver<Arrived>,
    outbox: mpsc::Sender<Message>,
) {
    let mut before = 0;
    while frames.changed().await.is_ok() {
        let Some((count, bytes)) = frames.borrow_and_update().clone() else { continue };
        let skipped = count - before - 1;
        before = count;
        let head = FrameHead::read(&bytes);
        let answer = match &head {
            Ok(head) => answer_frame(&app, &client, head, bytes.slice(HEAD..), skipped).await,
            Err(_) => Err(Refusal::wrong(format!("a frame of {} bytes: it begins with a head of {HEAD}", bytes.len()))),
        };
        let number = head.as_ref().ok().map(|head| head.frame);
        let answer = answer
            .unwrap_or_else(|refusal| text(json!({ "type": "error", "frame": number, "error": refusal.sentence })));
        if outbox.send(answer).await.is_err() {
            return;
        }
    }
}

/// The kind (1 a file, 2 RGBA), what is wanted beside the mask (1: scores), two zeros; then little-endian the client's number of the
/// frame, and of RGBA its width and height.
struct FrameHead {
    kind: u8,
    wants_scores: bool,
    frame: u32,
    width: usize,
    height: usize,
}

impl FrameHead {
    fn read(bytes: &[u8]) -> Result<FrameHead, ()> {
        let (head, _) = bytes.split_at_checked(HEAD).ok_or(())?;
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (width, height) = (word(8) as usize, word(12) as usize);
        Ok(FrameHead { kind: head[0], wants_scores: head[1] & 1 == 1, frame: word(4), width, height })
    }

    fn picture(&self, app: &App, bytes: Bytes) -> Result<Picture, Refusal> {
        let (width, height, most) = (self.width, self.height, app.settings.max_pixels);
        match self.kind {
            1 => Ok(Picture::decode(&bytes, most, &app.network)?),
            2 if width as u64 * height as u64 > most => {
                Err(Refusal::unfit(format!("a frame of {width}×{height}; {most} pixels are taken at most")))
            }
            2 if Format::Rgba8.bytes(width, height) != Some(bytes.len()) || bytes.is_empty() => {
                Err(Refusal::unfit(format!("{} bytes for {width}×{height} pixels of RGBA", bytes.len())))
            }
            2 => Ok(Picture { format: Format::Rgba8, width, height, bytes }),
            kind => Err(Refusal::wrong(format!("a frame of kind {kind}; 1 is a photo's file, 2 are pixels of RGBA"))),
        }
    }
}

async fn answer_frame(
    app: &Arc<App>,
    client: &Arc<Client>,
    head: &FrameHead,
    bytes: Bytes,
    skipped: u64,
) -> Result<Message, Refusal> {
    let start = Instant::now();
    let &FrameHead { kind, wants_scores, frame, width, height } = head;
    let picture = if kind == 1 {
        let (app, head) = (Arc::clone(app), FrameHead { kind, wants_scores, frame, width, height });
        beside(move || head.picture(&app, bytes)).await?
    } else {
        head.picture(app, bytes)?
    };
    let (picture, decode) = (Arc::new(picture), start.elapsed());
    let mut wanted = Wanted::of(&[Output::Mask8]);
    if wants_scores {
        wanted = wanted.and(Output::Scores);
    }
    let (of, asked) = (Arc::clone(&picture), Arc::clone(client));
    let answered = app.worker.ask(move |desk| {
        // The newest words there are, now that it is this frame's turn.
        let labels = open(&asked.labels).clone();
        let (id, labels) =
            labels.ok_or_else(|| crate::Error::Labels("no words yet: send a list of labels first".to_owned()))?;
        let (results, network) = desk.run(&of, Some(&labels), wanted)?;
        Ok((id, labels, results, network))
    });
    let answered = answered.await?;
    let times = Times::new(decode, answered.waited, answered.took);
    let (id, labels, results, network) = answered.value;
    client.keep(frame, picture);
    let about = About { frame, id, skipped, network, times };
    beside(move || Ok(Message::Binary(answer::message(about, &labels, &results).into()))).await
}
