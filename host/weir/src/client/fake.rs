//! A hub of recorded answers, for tests: takes one connection for each answer, and keeps what came.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

/// What a request was.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Method and path.
    pub(crate) line: String,
    /// All headers, lower case names.
    pub(crate) headers: String,
    /// The body, as text.
    pub(crate) body: String,
}

/// The hub; it ends when all answers are given.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    seen: Receiver<Seen>,
}

/// An answer with a JSON body.
pub(crate) fn json(status: u16, body: &str) -> String {
    let kind = if status < 400 { "application/json" } else { "application/problem+json" };
    format!(
        "HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

impl Fake {
    /// Gives these answers, in order.
    pub(crate) fn answering(answers: Vec<String>) -> Self {
        Self::serving(answers, |stream| Box::new(stream))
    }

    /// The same over TLS.
    pub(crate) fn with_tls(answers: Vec<String>, config: Arc<rustls::ServerConfig>) -> Self {
        Self::serving(answers, move |stream| {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            Box::new(rustls::StreamOwned::new(connection, stream))
        })
    }

    fn serving(
        answers: Vec<String>,
        open: impl Fn(TcpStream) -> Box<dyn Duplex> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (told, seen) = channel();
        std::thread::spawn(move || {
            for answer in answers {
                let Ok((stream, _)) = listener.accept() else { return };
                let mut stream = open(stream);
                // A client that does not trust the certificate leaves before it says anything.
                let Some(request) = read_request(&mut *stream) else { continue };
                told.send(request).ok();
                stream.write_all(answer.as_bytes()).ok();
                stream.flush().ok();
            }
        });
        Self { address, seen }
    }

    /// A data folder that leads here.
    pub(crate) fn data_dir(&self) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        write_data_dir(folder.path(), self.address, false);
        folder
    }

    /// What has come so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.try_iter().collect()
    }
}

/// Makes `folder` look like that of a running hub.
pub(crate) fn write_data_dir(folder: &Path, api: SocketAddr, tls: bool) {
    std::fs::create_dir_all(folder.join("run")).unwrap();
    let ready = serde_json::json!({"pid": 1, "listen": {"api": api}, "api_tls": tls});
    std::fs::write(folder.join("run/ready.json"), ready.to_string()).unwrap();
    std::fs::write(folder.join("admin.token"), "weir_0_secret\n").unwrap();
}

trait Duplex: Read + Write {}
impl<S: Read + Write> Duplex for S {}

fn read_request(stream: &mut dyn Duplex) -> Option<Seen> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).unwrap();
    let (line, headers) = head.split_once("\r\n").unwrap();
    let length = headers.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).ok()?;
    Some(Seen {
        line: line.trim_end_matches(" HTTP/1.1").to_owned(),
        headers: headers.to_owned(),
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}
