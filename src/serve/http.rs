//! The routes.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::SemaphorePermit;
use tokio::time::{timeout, timeout_at};

use super::answer::{self, Times};
use super::refusal::Refusal;
use super::worker::{Picture, beside};
use super::{App, CLIENTS, MOST_LABELS, checked, guard, multipart, query, similar, socket};
use crate::build;
use crate::engine::{LabelOptions, Labels, Output, Segmentation, Wanted};
use crate::image::decode::FORMATS;
use crate::image::palette::palette;
use crate::image::{mask, npy};

const PAGE: &str = include_str!("page.html");
/// Where the page has it, twice.
const NONCE: &str = "NONCE";
#[cfg(feature = "demo")]
const DEMO: &[u8] = include_bytes!("../../weights/demo/park.png");

/// How long a body may take to come.
const BODY: Duration = Duration::from_secs(60);
/// How long a body that is too large is still read, so that its sender hears why it is refused.
const REFUSED_BODY: Duration = Duration::from_secs(2);
/// Points of one request.
const POINTS: usize = 10_000;

const PNG: &str = "image/png";
const NPY: &str = "application/x-npy";
const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";

type Answer = Result<Response, Refusal>;
type Shared = State<Arc<App>>;

pub fn router(app: Arc<App>) -> Router {
    let routes = Router::new()
        .route("/", get(page))
        .route("/ws", get(ws))
        .route("/api/info", get(info))
        .route("/api/segment", post(segment))
        .route("/api/embed_at", post(embed_at))
        .route("/similar", post(alike))
        .route("/demo.png", get(demo))
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method);
    routes.layer(middleware::from_fn_with_state(Arc::clone(&app), guard::guard)).with_state(app)
}

async fn nothing_here(uri: Uri) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("nothing is at {}; docs/serve.md lists what is", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} does not take {method}", uri.path()))
}

async fn page(State(app): Shared) -> Answer {
    let failed = |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "this system has no random numbers");
    let nonce = guard::random_name().map_err(failed)?;
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self' blob: data:; \
         media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let mut response = body(PAGE.replace(NONCE, &nonce), "text/html; charset=utf-8");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_str(&policy).expect("plain letters"));
    headers.extend(app.guard.set_cookie().map(|cookie| (header::SET_COOKIE, cookie)));
    Ok(response)
}

async fn demo() -> Answer {
    #[cfg(feature = "demo")]
    return Ok(body(DEMO, PNG));
    #[cfg(not(feature = "demo"))]
    Err(Refusal::new(StatusCode::NOT_FOUND, "this build has no demo photo"))
}

async fn info(State(app): Shared) -> Answer {
    let settings = &app.settings;
    Ok(json_body(&json!({
        "version": build::VERSION,
        "model": settings.model,
        "device": app.network.device(),
        "embed_dim": app.network.config().embed_dim,
        "formats": FORMATS,
        "max_upload": settings.max_upload,
        "max_pixels": settings.max_pixels,
        "max_labels": MOST_LABELS,
        "clients": app.open_pages(),
        "max_clients": CLIENTS,
    })))
}

async fn ws(State(app): Shared, upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>) -> Answer {
    let upgrade = upgrade.map_err(|e| Refusal::new(e.status(), "this address is for WebSockets: docs/serve.md"))?;
    let place = Arc::clone(&app.places).try_acquire_owned().map_err(|_| {
        Refusal::busy(format!("all {CLIENTS} places are taken: close another page of this server, or come back later"))
    })?;
    let most = app.settings.max_upload + socket::HEAD;
    let upgrade = upgrade.max_message_size(most).max_frame_size(most);
    Ok(upgrade.on_upgrade(move |socket| socket::serve(app, socket, place)))
}

/// What a request about one photo brings.
struct Asked<'a> {
    app: &'a App,
    photo: Bytes,
    labels: Vec<String>,
    points: Option<String>,
    /// The body's place in memory.
    _permit: SemaphorePermit<'a>,
}

impl Asked<'_> {
    async fn read(app: &App, request: Request) -> Result<Asked<'_>, Refusal> {
        let busy = |_| Refusal::busy("the server is busy with other photos; send this one again");
        let permit = timeout(BODY, app.requests.acquire()).await.map_err(busy)?;
        let permit = permit.map_err(|_| Refusal::busy("the server ends"))?;
        let (parts, sent) = request.into_parts();
        let whole = read_body(&parts.headers, sent, app.settings.max_upload).await?;
        let mut asked = Asked { app, photo: Bytes::new(), labels: Vec::new(), points: None, _permit: permit };
        for (name, value) in parts.uri.query().into_iter().flat_map(query::pairs) {
            asked.take(&name, value)?;
        }
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match multipart::boundary(kind) {
            None => asked.photo = whole,
            Some(boundary) => {
                for (name, value) in multipart::fields(&whole, boundary)? {
                    match &*name {
                        "photo" => asked.photo = whole.slice_ref(value),
                        name => asked.take(name, String::from_utf8_lossy(value).into_owned())?,
                    }
                }
            }
        }
        if asked.photo.is_empty() {
            return Err(Refusal::wrong("no photo: send its file as the body, or as the field \"photo\" of a form"));
        }
        Ok(asked)
    }

    fn take(&mut self, name: &str, value: String) -> Result<(), Refusal> {
        match name {
            "labels" => self.labels.extend(query::labels(&value)),
            "label" => self.labels.push(value),
            "points" => self.points = Some(value),
            "token" => {}
            _ => {
                let known = "labels (a,b), label (one, again for more), points (x,y;x,y) and photo are";
                return Err(Refusal::wrong(format!("\"{}\" is not known; {known}", name.escape_default())));
            }
        }
        Ok(())
    }

    async fn decode(&mut self) -> Result<(Picture, Duration), Refusal> {
        let (photo, network) = (std::mem::take(&mut self.photo), self.app.network.clone());
        let max_pixels = self.app.settings.max_pixels;
        beside(move || {
            let start = Instant::now();
            Ok((Picture::decode(&photo, max_pixels, &network)?, start.elapsed()))
        })
        .await
    }

    async fn words(&mut self) -> Result<Labels, Refusal> {
        let (words, network) = (std::mem::take(&mut self.labels), self.app.network.clone());
        if words.is_empty() {
            return Err(Refusal::wrong("no labels: add ?labels=dog,grass,other, or the field \"labels\" of a form"));
        }
        beside(move || Ok(network.labels_of(&checked(&words)?, &LabelOptions::default(), &mut |_, _| ())?)).await
    }
}

/// The whole body, within the limit and in time.
async fn read_body(headers: &HeaderMap, mut body: Body, limit: usize) -> Result<Bytes, Refusal> {
    let told = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let mut is_too_large = told.is_some_and(|bytes| bytes > limit as u64);
    if is_too_large && headers.contains_key(header::EXPECT) {
        return Err(Refusal::too_large(limit));
    }
    let mut whole = Vec::new();
    let mut end = tokio::time::Instant::now() + if is_too_large { REFUSED_BODY } else { BODY };
    loop {
        let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context));
        match timeout_at(end, frame).await {
            Ok(None) => break,
            Ok(Some(Ok(frame))) => {
                let data = frame.into_data().unwrap_or_default();
                if !is_too_large && whole.len() + data.len() > limit {
                    (is_too_large, whole) = (true, Vec::new());
                    end = tokio::time::Instant::now() + REFUSED_BODY;
                }
                if !is_too_large {
                    whole.extend_from_slice(&data);
                }
            }
            Ok(Some(Err(_))) => return Err(Refusal::wrong("the body was cut short")),
            Err(_) if is_too_large => break,
            Err(_) => {
                let what = format!("the body did not come within {} s", BODY.as_secs());
                return Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, what));
            }
        }
    }
    if is_too_large { Err(Refusal::too_large(limit)) } else { Ok(whole.into()) }
}

/// The first of these types that a request accepts; without a wish the first that is offered.
fn accepted(headers: &HeaderMap, offered: &[&'static str]) -> Result<&'static str, Refusal> {
    let wishes: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let wishes = wishes.join(",");
    let mut kinds = wishes.split(',').map(|wish| wish.split(';').next().unwrap_or_default().trim()).peekable();
    if wishes.trim().is_empty() {
        return Ok(offered[0]);
    }
    let found = kinds.find_map(|kind| match kind {
        "*/*" | "application/*" => Some(offered[0]),
        _ => offered.iter().copied().find(|offer| *offer == kind),
    });
    found.ok_or_else(|| {
        let what = format!("accept one of {}", offered.join(", "));
        Refusal::new(StatusCode::NOT_ACCEPTABLE, what)
    })
}

async fn segment(State(app): Shared, request: Request) -> Answer {
    let kind = accepted(request.headers(), &[JSON, PNG, NPY])?;
    let mut asked = Asked::read(&app, request).await?;
    let labels = asked.words().await?;
    let (picture, decode) = asked.decode().await?;
    let (width, height) = (picture.width, picture.height);
    let of = labels.clone();
    let answered = app.worker.ask(move |desk| {
        let wanted = if kind == NPY { Wanted::of(&[Output::Scores]) } else { Wanted::MASK };
        desk.run(&picture, Some(&of), wanted)
    });
    let answered = answered.await?;
    let times = Times::new(decode, answered.waited, answered.took);
    let (mut results, (network_height, network_width)) = answered.value;
    beside(move || {
        let names = labels.names();
        Ok(match kind {
            PNG => {
                let mut file = Vec::new();
                mask::write(&mut file, results.mask(0).unwrap_or_default(), width, height, &palette(names.len()))
                    .map_err(unwritten)?;
                body(file, PNG)
            }
            NPY => {
                let shape = results.shape(Output::Scores).unwrap_or_default();
                array(&shape, &results.take_values(Output::Scores))?
            }
            _ => {
                let segmentation = Segmentation { width, height, mask: results.take_masks() };
                let rows = names.iter().zip(segmentation.shares(names.len())).zip(answer::colours(names.len()));
                let rows = rows.enumerate().map(|(index, ((label, share), colour))| {
                    json!({ "index": index, "label": label, "share": share, "colour": colour })
                });
                json_body(&json!({
                    "width": width,
                    "height": height,
                    "network_width": network_width,
                    "network_height": network_height,
                    "epoch": labels.epoch(),
                    "labels": rows.collect::<Vec<_>>(),
                    "milliseconds": times,
                }))
            }
        })
    })
    .await
}

async fn embed_at(State(app): Shared, request: Request) -> Answer {
    let kind = accepted(request.headers(), &[JSON, NPY])?;
    let mut asked = Asked::read(&app, request).await?;
    let points = points(asked.points.as_deref().unwrap_or_default())?;
    let (picture, _) = asked.decode().await?;
    let at = points.clone();
    let answered = app.worker.ask(move |desk| desk.run(&picture, None, Wanted::default().at_points(&at)));
    let (mut results, _) = answered.await?.value;
    let channels = app.network.config().embed_dim;
    let values = results.take_values(Output::Points);
    if kind == NPY {
        return array(&[points.len(), channels], &values);
    }
    let embeddings: Vec<&[f32]> = values.chunks_exact(channels).collect();
    Ok(json_body(&json!({ "points": points, "channels": channels, "embeddings": embeddings })))
}

/// "12,30;47.5,31": pixels of the photo, x before y.
fn points(text: &str) -> Result<Vec<[f32; 2]>, Refusal> {
    let wrong = || Refusal::wrong("expected points in the photo's pixels, such as ?points=12,30;47.5,31 (x before y)");
    let point = |text: &str| {
        let (x, y) = text.split_once(',')?;
        Some([x.trim().parse().ok()?, y.trim().parse().ok()?])
    };
    let found: Option<Vec<_>> = text.split(';').filter(|text| !text.trim().is_empty()).map(point).collect();
    let found = found.filter(|found| !found.is_empty()).ok_or_else(wrong)?;
    if found.len() > POINTS {
        return Err(Refusal::unfit(format!("{} points; {POINTS} are taken at most", found.len())));
    }
    Ok(found)
}

/// A pixel of a frame that its client has an answer for.
#[derive(Deserialize)]
struct Pixel {
    client: String,
    frame: u32,
    x: usize,
    y: usize,
}

async fn alike(State(app): Shared, request: Request) -> Answer {
    /// Of a request.
    const MOST: usize = 4096;
    let kind = accepted(request.headers(), &[NPY, BYTES])?;
    let (parts, sent) = request.into_parts();
    let whole = read_body(&parts.headers, sent, MOST).await?;
    let Pixel { client: name, frame, x, y } = serde_json::from_slice(&whole)
        .map_err(|e| Refusal::wrong(format!("expected {{\"client\", \"frame\", \"x\", \"y\"}}: {e}")))?;
    let gone = || Refusal::new(StatusCode::CONFLICT, "that frame is no longer here; ask about the newest one");
    let picture = app.client(&name).and_then(|client| client.picture(frame)).ok_or_else(gone)?;
    let size = (picture.width, picture.height);
    if x >= size.0 || y >= size.1 {
        return Err(Refusal::unfit(format!("no pixel {x}, {y} in a picture of {}×{}", size.0, size.1)));
    }
    let map = app.worker.ask(move |desk| desk.embedding(&name, frame, &picture)).await?.value;
    beside(move || {
        let cosines = similar::cosines(&map, (x, y), size);
        if kind == NPY {
            return array(&[map.height, map.width], &cosines);
        }
        let mut bytes = Vec::with_capacity(cosines.len());
        let [low, high] = answer::quantise(&cosines, &mut bytes);
        let mut response = body(bytes, BYTES);
        let about = json!([map.width, map.height, low, high]).to_string();
        response.headers_mut().insert("x-lseg-map", HeaderValue::from_str(&about).expect("plain letters"));
        Ok(response)
    })
    .await
}

fn body(bytes: impl Into<Body>, kind: &'static str) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], bytes.into()).into_response()
}

fn json_body(value: &serde_json::Value) -> Response {
    body(value.to_string() + "\n", JSON)
}

fn array(shape: &[usize], values: &[f32]) -> Answer {
    let mut file = Vec::with_capacity(128 + size_of_val(values));
    npy::write(&mut file, shape, values).map_err(unwritten)?;
    Ok(body(file, NPY))
}

fn unwritten(error: std::io::Error) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("a result cannot be written: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_asks_nobody_else() {
        assert!(PAGE.len() <= 40_000, "{} bytes", PAGE.len());
        assert_eq!(PAGE.matches(NONCE).count(), 2);
        for address in ["http://", "https://", "//cdn", "@import", "url("] {
            // One sentence tells where the webcam works.
            let own = PAGE.replace("http://localhost", "");
            assert!(!own.contains(address), "{address}");
        }
    }

    #[test]
    fn what_is_accepted_first_is_sent() {
        let kind = |accept: &str| {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            accepted(&headers, &[JSON, PNG, NPY]).map_err(|refusal| refusal.status.as_u16())
        };
        assert_eq!(accepted(&HeaderMap::new(), &[JSON, PNG]).unwrap(), JSON);
        assert_eq!(kind("*/*"), Ok(JSON));
        assert_eq!(kind("text/html, image/png;q=0.9, */*"), Ok(PNG));
        assert_eq!(kind("application/x-npy"), Ok(NPY));
        assert_eq!(kind("text/html"), Err(406));
    }

    #[test]
    fn points_are_pairs() {
        assert_eq!(points("1,2; 3.5,-4 ;").unwrap(), [[1.0, 2.0], [3.5, -4.0]]);
        for wrong in ["", ";", "1", "1,2,3", "a,b"] {
            assert!(points(wrong).is_err(), "{wrong}");
        }
    }
}
