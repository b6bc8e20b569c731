//! A hub of the tool's own, in a temporary folder.

use serde_json::{json, Value};
use std::io::{self, Error};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::sleep;

pub const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
pub const NAME: &str = "localhost";
/// Tokens that share the work of making devices: the API's limit of requests is for each.
const TOKENS: usize = 20;

pub struct Hub {
    weir: PathBuf,
    folder: PathBuf,
    process: Child,
    /// Where clients connect.
    pub address: String,
}

impl Hub {
    pub fn start(weir: &Path) -> io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("weir-crowd-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        // Free now, and nobody else's in the moment until the hub has it; it must be the same after a restart.
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let config = format!(
            "data_dir = {:?}\nhostname = \"{NAME}\"\niothub_hostname = \"{NAME}\"\ndevice_id = \"edge\"\n\
             [listen]\nmqtt = \"127.0.0.1:{port}\"\napi = \"127.0.0.1:0\"\n[log]\nlevel = \"warn\"\n",
            folder.join("data")
        );
        std::fs::write(folder.join("weir.toml"), config)?;
        let process = spawn(weir, &folder)?;
        let mut hub =
            Hub { weir: weir.to_owned(), folder, process, address: format!("127.0.0.1:{port}") };
        let limit = Instant::now() + Duration::from_secs(20);
        while hub.ready().is_none() {
            if Instant::now() > limit || hub.process.try_wait()?.is_some() {
                return Err(Error::other("the hub did not start"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(hub)
    }

    fn ready(&self) -> Option<Value> {
        let text = std::fs::read(self.folder.join("data/run/ready.json")).ok()?;
        let ready: Value = serde_json::from_slice(&text).ok()?;
        (ready["pid"] == self.process.id()).then_some(ready)
    }

    pub fn trust_bundle(&self) -> PathBuf {
        self.folder.join("data/pki/trust-bundle.pem")
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    pub fn restart(&mut self) -> io::Result<()> {
        self.process = spawn(&self.weir, &self.folder)?;
        Ok(())
    }

    pub async fn until_ready(&self) -> io::Result<()> {
        let limit = Instant::now() + Duration::from_secs(60);
        while self.ready().is_none() {
            if Instant::now() > limit {
                return Err(Error::other("the hub is not ready"));
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    pub fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.unwrap_or_default();
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        rss.and_then(|rss| rss.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
    }

    pub fn cpu_s(&self) -> f64 {
        cpu_s(self.process.id())
    }

    /// Makes the devices `dev-0` and so on.
    pub async fn add_devices(&self, count: usize) -> io::Result<()> {
        let ready = self.ready().ok_or_else(|| Error::other("the hub has gone"))?;
        let address = ready["listen"]["api"].as_str().unwrap_or_default().to_owned();
        let admin = std::fs::read_to_string(self.folder.join("data/admin.token"))?;
        let mut api = Api::open(&address, admin.trim()).await?;
        let next = Arc::new(AtomicUsize::new(0));
        let mut workers = Vec::new();
        for _ in 0..TOKENS {
            let wish = json!({"name": "crowd", "scopes": ["devices:write"]});
            let made = api.call("POST", "/tokens", &wish).await?;
            let token = made["token"].as_str().unwrap_or_default().to_owned();
            let (mut api, next) = (Api::open(&address, &token).await?, next.clone());
            workers.push(tokio::spawn(async move {
                let keys = json!({"authentication": {"type": "sas",
                    "symmetricKey": {"primaryKey": KEY, "secondaryKey": KEY}}});
                loop {
                    let number = next.fetch_add(1, Relaxed);
                    if number >= count {
                        return io::Result::Ok(());
                    }
                    api.call("PUT", &format!("/devices/dev-{number}"), &keys).await?;
                }
            }));
        }
        for worker in workers {
            worker.await.map_err(Error::other)??;
        }
        Ok(())
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn spawn(weir: &Path, folder: &Path) -> io::Result<Child> {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("log"))?;
    Command::new(weir)
        .args(["run", "--config"])
        .arg(folder.join("weir.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
}

/// Seconds of processor time that a process has used.
pub fn cpu_s(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
    // SAFETY: sysconf has no preconditions.
    ticks as f64 / (unsafe { libc::sysconf(libc::_SC_CLK_TCK) }) as f64
}

/// One connection to the REST API.
struct Api {
    stream: BufReader<TcpStream>,
    token: String,
}

impl Api {
    async fn open(address: &str, token: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Api { stream: BufReader::new(stream), token: token.to_owned() })
    }

    async fn call(&mut self, method: &str, path: &str, body: &Value) -> io::Result<Value> {
        let body = body.to_string();
        let request = format!(
            "{method} /api/v1{path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        loop {
            self.stream.write_all(request.as_bytes()).await?;
            let (status, answer) = self.answer().await?;
            match status {
                200..=299 => return Ok(serde_json::from_slice(&answer).unwrap_or(Value::Null)),
                // More than it takes in a second.
                429 => sleep(Duration::from_millis(500)).await,
                _ => {
                    let text = String::from_utf8_lossy(&answer);
                    return Err(Error::other(format!("{method} {path}: {status} {text}")));
                }
            }
        }
    }

    async fn answer(&mut self) -> io::Result<(u16, Vec<u8>)> {
        let (mut status, mut length, mut line) = (0, 0, String::new());
        loop {
            line.clear();
            if self.stream.read_line(&mut line).await? == 0 {
                return Err(Error::other("the API has closed the connection"));
            }
            let text = line.trim_end().to_ascii_lowercase();
            if text.is_empty() {
                break;
            }
            if let Some(rest) = text.strip_prefix("http/1.1 ") {
                status = rest.split(' ').next().and_then(|s| s.parse().ok()).unwrap_or(0);
            }
            if let Some(rest) = text.strip_prefix("content-length:") {
                length = rest.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        Ok((status, body))
    }
}
