//! Who may ask: requests that call this server by a name of its own, from its own page or from no page, with its token where it
//! has one. So neither a foreign page, nor a name that an attacker points at this machine, can look through its cameras.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::refusal::Refusal;
use super::{App, Settings, query};

/// What every answer bears. The page's own policy for its content is beside it.
const HEADERS: [(&str, &str); 8] = [
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("permissions-policy", "camera=(self), microphone=(), geolocation=()"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
];

pub struct Guard {
    port: u16,
    /// In lower case, without a port.
    names: Vec<String>,
    /// In lower case, as they are typed.
    allowed: Vec<String>,
    /// It listens on all of this machine's addresses: each is a name of its own.
    any_address: bool,
    token: Option<String>,
}

impl Guard {
    pub fn new(settings: &Settings, address: SocketAddr) -> Guard {
        let bracketed = match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let names = ["localhost", "127.0.0.1", "[::1]", &bracketed, &settings.host];
        Guard {
            port: address.port(),
            names: names.map(str::to_lowercase).to_vec(),
            allowed: settings.allowed_hosts.iter().map(|host| host.to_lowercase()).collect(),
            any_address: address.ip().is_unspecified(),
            token: settings.token.clone(),
        }
    }

    fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let forbidden = |what: String| Refusal::new(StatusCode::FORBIDDEN, what);
        let host = one(headers, header::HOST)?.unwrap_or_default().to_lowercase();
        if !self.is_own(&host) {
            let what = format!("this server has no name \"{}\"; --allow-host NAME gives it one", host.escape_default());
            return Err(forbidden(what));
        }
        match one(headers, header::ORIGIN)?.map(str::to_lowercase) {
            Some(origin) if !["http://", "https://"].iter().any(|s| origin.strip_prefix(s) == Some(&host)) => {
                return Err(forbidden("a page of another server asks; only this server's own page may".to_owned()));
            }
            Some(_) => {}
            // Browsers leave it out of some requests, and say this instead. To follow a link is not to ask.
            None => {
                let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
                let is_link = headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate")
                    && method == Method::GET
                    && uri.path() == "/";
                if matches!(site, Some(b"cross-site" | b"same-site")) && !is_link {
                    return Err(forbidden("a page of another server asks; only this server's own page may".to_owned()));
                }
            }
        }
        if self.has_token(uri, headers) {
            return Ok(());
        }
        let what = "a token is needed: open the address that lseg-fast serve has printed, or send the header \
                    \"Authorization: Bearer TOKEN\"";
        Err(Refusal::new(StatusCode::UNAUTHORIZED, what))
    }

    fn is_own(&self, host: &str) -> bool {
        let (name, port) = split_port(host);
        let is_named = self.names.iter().any(|own| own == name);
        // Nobody else can answer for an address: only names can be pointed elsewhere.
        let is_address = || self.any_address && name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        if port.unwrap_or(80) == self.port && (is_named || is_address()) {
            return true;
        }
        self.allowed.iter().any(|allowed| allowed == host || (allowed == name && port == Some(self.port)))
    }

    fn has_token(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let name = self.cookie();
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let cookie = cookies
            .flat_map(|value| value.split(';'))
            .find_map(|pair| pair.trim().strip_prefix(name.as_str())?.strip_prefix('='));
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let typed = uri.query().and_then(|text| query::pairs(text).find(|(key, _)| key == "token"));
        let given = [cookie, bearer, typed.as_ref().map(|(_, value)| value.as_str())];
        given.into_iter().flatten().any(|given| is_same(given, token))
    }

    fn cookie(&self) -> String {
        format!("lseg_{}", self.port)
    }

    /// What a browser that came with the token brings from then on, so that no address need have it.
    pub fn set_cookie(&self) -> Option<HeaderValue> {
        let token = self.token.as_ref()?;
        HeaderValue::from_str(&format!("{}={token}; HttpOnly; SameSite=Strict; Path=/", self.cookie())).ok()
    }
}

/// The value of a header that may be there once.
fn one(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, Refusal> {
    let mut values = headers.get_all(&name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) if value.to_str().is_ok() => Ok(value.to_str().ok()),
        _ => Err(Refusal::wrong(format!("the header {name} twice, or of other than plain letters"))),
    }
}

/// "[::1]:7860" is the name "[::1]" and a port.
fn split_port(host: &str) -> (&str, Option<u16>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => match port.parse() {
            Ok(port) => (name, Some(port)),
            // No port that there could be.
            Err(_) => (name, Some(0)),
        },
        _ => (host, None),
    }
}

/// In a time that does not tell how much of it is right.
fn is_same(given: &str, token: &str) -> bool {
    let differences = given.bytes().zip(token.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
    given.len() == token.len() && differences == 0
}

/// 32 characters that nobody guesses.
///
/// # Errors
/// Where the system has no random numbers.
pub fn random_name() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Before all routes.
pub async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let checked = app.guard.check(request.method(), request.uri(), request.headers());
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    };
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard_at(address: &str, token: Option<&str>) -> Guard {
        let settings = Settings {
            host: "robot".to_owned(),
            port: 7860,
            max_upload: 0,
            max_pixels: 0,
            token: token.map(str::to_owned),
            allowed_hosts: vec!["Lseg.example.org".to_owned(), "robot.local".to_owned()],
            size: None,
            labels: Vec::new(),
            model: String::new(),
        };
        Guard::new(&settings, address.parse().unwrap())
    }

    fn status(guard: &Guard, uri: &str, headers: &[(&'static str, &str)]) -> u16 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        guard.check(&Method::GET, &uri.parse().unwrap(), &map).map_or_else(|refusal| refusal.status.as_u16(), |()| 200)
    }

    #[test]
    fn only_own_names_with_the_right_port() {
        let guard = guard_at("127.0.0.1:7860", None);
        for own in
            ["localhost:7860", "LOCALHOST:7860", "127.0.0.1:7860", "[::1]:7860", "robot:7860", "robot.local:7860"]
        {
            assert_eq!(status(&guard, "/", &[("host", own)]), 200, "{own}");
        }
        assert_eq!(status(&guard, "/", &[("host", "lseg.example.org")]), 200);
        let foreign = [
            "localhost",
            "localhost:80",
            "localhost:78600",
            "evil.example:7860",
            "127.0.0.1.evil.example:7860",
            "",
            "192.168.1.5:7860",
            "localhost:7860.evil.example",
            "[::1]",
            "lseg.example.org:81",
            "localhost:7860:7860",
        ];
        for foreign in foreign {
            assert_eq!(status(&guard, "/", &[("host", foreign)]), 403, "{foreign}");
        }
        assert_eq!(status(&guard, "/", &[]), 403);
        assert_eq!(status(&guard, "/", &[("host", "localhost:7860"), ("host", "evil.example:7860")]), 400);
        let everywhere = guard_at("0.0.0.0:7860", None);
        assert_eq!(status(&everywhere, "/", &[("host", "192.168.1.5:7860")]), 200);
        assert_eq!(status(&everywhere, "/", &[("host", "[fe80::1]:7860")]), 200);
        assert_eq!(status(&everywhere, "/", &[("host", "evil.example:7860")]), 403);
    }

    #[test]
    fn only_the_own_page() {
        let guard = guard_at("127.0.0.1:7860", None);
        let from = |origin: &str| status(&guard, "/ws", &[("host", "localhost:7860"), ("origin", origin)]);
        assert_eq!(from("http://localhost:7860"), 200);
        for origin in ["http://evil.example", "null", "http://localhost:7861", "http://127.0.0.1:7860", "file://", ""] {
            assert_eq!(from(origin), 403, "{origin}");
        }
        let fetched = |uri: &str, more: &[(&'static str, &str)]| {
            status(&guard, uri, &[&[("host", "localhost:7860"), ("sec-fetch-site", "cross-site")], more].concat())
        };
        assert_eq!(fetched("/", &[("sec-fetch-mode", "navigate")]), 200);
        assert_eq!(fetched("/api/info", &[("sec-fetch-mode", "navigate")]), 403);
        assert_eq!(fetched("/", &[("sec-fetch-mode", "no-cors")]), 403);
    }

    #[test]
    fn with_a_token_only_who_has_it() {
        let guard = guard_at("0.0.0.0:7860", Some("abcdefgh"));
        let asked = |uri: &str, more: &[(&'static str, &str)]| {
            status(&guard, uri, &[&[("host", "localhost:7860")], more].concat())
        };
        assert_eq!(asked("/", &[]), 401);
        assert_eq!(asked("/?token=abcdefgh", &[]), 200);
        assert_eq!(asked("/?token=abcdefgi", &[]), 401);
        assert_eq!(asked("/?token=abcdefg", &[]), 401);
        assert_eq!(asked("/ws", &[("cookie", "a=b; lseg_7860=abcdefgh")]), 200);
        assert_eq!(asked("/ws", &[("cookie", "lseg_7861=abcdefgh")]), 401);
        assert_eq!(asked("/api/info", &[("authorization", "Bearer abcdefgh")]), 200);
        assert_eq!(asked("/api/info", &[("authorization", "Bearer ")]), 401);
    }
}
