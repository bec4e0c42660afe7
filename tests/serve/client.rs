//! The program, started on a free port; requests; a WebSocket client (RFC 6455) that does what these tests need.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Long enough for anything here on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn until(mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < PATIENCE, "it never happened");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub struct Server {
    child: Child,
    pub url: String,
    pub port: u16,
}

impl Server {
    pub fn start(arguments: &[&str]) -> Server {
        let mut child = testing::process::hearing(env!("CARGO_BIN_EXE_lseg-fast"))
            .args(["serve", "--port", "0", "--device", "cpu", "-q"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let port = url.split(':').nth(2).and_then(|rest| rest.split('/').next()?.parse().ok());
        Server { child, port: port.unwrap_or_else(|| panic!("no address: {url}")), url }
    }

    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let host = self.host();
        self.ask_as(method, path, &[&[("Host", &*host)], headers].concat(), body)
    }

    /// With these headers alone, and the body's length.
    pub fn ask_as(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut head = format!("{method} {path} HTTP/1.1\r\nContent-Length: {}\r\n", body.len());
        headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        self.ask_raw(&[head.as_bytes(), b"\r\n", body])
    }

    pub fn ask_raw(&self, pieces: &[&[u8]]) -> Reply {
        let mut stream = self.connect();
        for piece in pieces {
            // Who is refused may find the door closed.
            let _ = stream.write_all(piece);
        }
        Reply::read(&mut BufReader::new(stream))
    }

    pub fn info(&self) -> Value {
        self.ask("GET", "/api/info", &[], b"").json()
    }

    pub fn end(self) -> Option<i32> {
        self.signal(Signal::TERM)
    }

    pub fn interrupt(self) -> Option<i32> {
        self.signal(Signal::INT)
    }

    fn signal(mut self, signal: Signal) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        until(|| self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct Reply {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    fn read(stream: &mut impl BufRead) -> Reply {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no reply: {line:?}"));
        let mut reply = Reply { status, headers: Vec::new(), body: Vec::new() };
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            reply.headers.push((name.to_lowercase(), value.to_owned()));
        }
        let length = reply.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        reply.body.resize(length, 0);
        stream.read_exact(&mut reply.body).unwrap();
        reply
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(300)]);
        write!(f, "{} {:?} {body:?}", self.status, self.headers)
    }
}

/// A frame as clients send it.
pub fn frame(kind: u8, number: u32, width: u32, height: u32, bytes: &[u8]) -> Vec<u8> {
    let words = [number, width, height].map(u32::to_le_bytes);
    [&[kind, 1, 0, 0], words.as_flattened(), bytes].concat()
}

/// The head of an answer.
pub fn head(answer: &[u8]) -> Value {
    let length = u32::from_le_bytes(answer[..4].try_into().unwrap()) as usize;
    serde_json::from_slice(&answer[4..4 + length]).unwrap()
}

/// A message of a client as it goes over the wire, with a mask of zeros.
pub fn masked(opcode: u8, message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80 | opcode];
    match message.len() {
        short @ 0..126 => bytes.push(0x80 | short as u8),
        long => {
            bytes.push(0x80 | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(message);
    bytes
}

#[derive(Debug)]
pub struct Socket {
    pub stream: TcpStream,
}

impl Socket {
    /// Or why not.
    pub fn open(server: &Server) -> Result<Socket, Reply> {
        let mut stream = server.connect();
        let host = server.host();
        let head = format!(
            "GET /ws HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        // Byte by byte: what follows are messages.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        if head.starts_with(b"HTTP/1.1 101") {
            assert!(String::from_utf8_lossy(&head).contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "RFC 6455's own example");
            return Ok(Socket { stream });
        }
        Err(Reply::read(&mut BufReader::new((&*head).chain(stream))))
    }

    pub fn sender(&self) -> TcpStream {
        self.stream.try_clone().unwrap()
    }

    pub fn say(&mut self, value: &Value) {
        self.stream.write_all(&masked(1, value.to_string().as_bytes())).unwrap();
    }

    pub fn send(&mut self, message: &[u8]) {
        self.stream.write_all(&masked(2, message)).unwrap();
    }

    /// The next message: its opcode and bytes.
    fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).ok()?;
        let length = match head[1] {
            126 => {
                let mut long = [0; 2];
                self.stream.read_exact(&mut long).ok()?;
                u64::from(u16::from_be_bytes(long))
            }
            127 => {
                let mut long = [0; 8];
                self.stream.read_exact(&mut long).ok()?;
                u64::from_be_bytes(long)
            }
            short => short.into(),
        };
        let mut message = vec![0; length as usize];
        self.stream.read_exact(&mut message).ok()?;
        Some((head[0] & 15, message))
    }

    /// The next message that is no call.
    pub fn message(&mut self) -> Vec<u8> {
        loop {
            match self.receive().expect("the socket was closed") {
                (9, _) => {}
                (8, why) => panic!("closed: {}", String::from_utf8_lossy(&why)),
                (_, message) => return message,
            }
        }
    }

    pub fn text(&mut self) -> Value {
        let message = self.message();
        serde_json::from_slice(&message).unwrap_or_else(|e| panic!("{e}: {:?}", &message[..message.len().min(200)]))
    }

    /// Head, mask and scores.
    pub fn answer(&mut self) -> (Value, Vec<u8>, Vec<u8>) {
        let message = self.message();
        let length = u32::from_le_bytes(message[..4].try_into().unwrap()) as usize;
        let head: Value = serde_json::from_slice(&message[4..4 + length])
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&message[..message.len().min(300)])));
        let (runs, scores) = message[4 + length..].split_at(head["mask_bytes"].as_u64().unwrap() as usize);
        let (mut mask, mut bytes) = (Vec::new(), runs.iter());
        while let Some(label) = bytes.next() {
            let (mut count, mut shift) = (0, 0);
            for byte in bytes.by_ref() {
                count |= usize::from(byte & 127) << shift;
                shift += 7;
                if byte & 128 == 0 {
                    break;
                }
            }
            mask.resize(mask.len() + count, *label);
        }
        (head, mask, scores.to_vec())
    }

    /// With which code the server closes; `None` where it just goes.
    pub fn close_code(&mut self) -> Option<u16> {
        while let Some((opcode, message)) = self.receive() {
            if opcode == 8 {
                return Some(u16::from_be_bytes(message[..2].try_into().unwrap()));
            }
        }
        None
    }
}
