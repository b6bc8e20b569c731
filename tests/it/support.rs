//! A hub under test and an MQTT client that says exactly what a test wants it to say.

use bytes::BytesMut;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use weir_core::clock::Timestamp;
use weir_core::identity::Key;
use weir_core::sas;
use weir_hub::authenticate::make_token;
use weir_mqtt_codec::{
    Connack, Connect, Delivery, Limits, Login, Packet, Publish, Subscribe, Subscription, decode,
};

pub(crate) const EDGE: &str = "edge";
pub(crate) const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const WEIR: &str = env!("CARGO_BIN_EXE_weir");
/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

#[expect(clippy::disallowed_methods, reason = "a test waits for other processes")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "a test waits for other processes")]
fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

/// Waits until `condition` gives a value.
pub(crate) fn wait_for<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    wait_at_most(condition).unwrap_or_else(|| panic!("did not happen in time: {what}"))
}

/// Waits until `condition` gives a value; none when it does not in time.
pub(crate) fn wait_at_most<T>(mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let end = now() + PATIENCE;
    while now() < end {
        if let Some(value) = condition() {
            return Some(value);
        }
        pause();
    }
    None
}

/// A running hub.
pub(crate) struct Hub {
    folder: TempDir,
    data: PathBuf,
    process: Child,
    pub(crate) mqtt: SocketAddr,
}

impl Hub {
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// Starts with more lines in its file.
    pub(crate) fn start_with(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        Self::start_in(folder, data, more)
    }

    /// Starts with its data elsewhere than its file and its log.
    pub(crate) fn start_on(data: PathBuf) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), data, "")
    }

    fn start_in(folder: TempDir, data: PathBuf, more: &str) -> Self {
        let text = format!(
            "data_dir = {data:?}\nhostname = \"localhost\"\niothub_hostname = \"localhost\"\n\
             device_id = \"{EDGE}\"\n{more}\n[listen]\nmqtt_plain = \"127.0.0.1:0\"\n\
             mqtt = \"127.0.0.1:0\"\namqp = \"127.0.0.1:0\"\nhttps = \"127.0.0.1:0\"\n\
             api = \"127.0.0.1:0\"\n"
        );
        std::fs::write(folder.path().join("weir.toml"), text).unwrap();
        let (process, mqtt) = spawn(folder.path(), &data);
        Self { folder, data, process, mqtt }
    }

    /// SIGKILL, and a new start on the same data.
    pub(crate) fn kill_and_restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        (self.process, self.mqtt) = spawn(self.folder.path(), &self.data);
    }

    /// SIGTERM; gives the exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        let pid = self.process.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        let end = now() + PATIENCE;
        while now() < end {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code();
            }
            pause();
        }
        panic!("the hub did not stop");
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its data folder.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// The address of a listener, by its name in `ready.json`.
    pub(crate) fn listener(&self, name: &str) -> SocketAddr {
        let ready = read_json(&self.data.join("run/ready.json")).unwrap();
        ready["listen"][name].as_str().unwrap().parse().unwrap()
    }

    /// The folder with `weir.toml` and `data`.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a verb of the command line, in the hub's folder.
    pub(crate) fn verb(&self, words: &[&str]) -> Output {
        Command::new(WEIR).args(words).current_dir(self.folder.path()).output().unwrap()
    }

    /// Runs a verb of the command line and reads its JSON.
    pub(crate) fn weir(&self, words: &[&str]) -> Value {
        let output = self.verb(&[words, &["--config", "weir.toml", "--output", "json"]].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "weir {words:?}: {text}{errors}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// One REST call; gives status and body.
    pub(crate) fn rest(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        self.api().call(method, &format!("/api/v1{path}"), body).unwrap()
    }

    /// What `/health/ready` answers.
    pub(crate) fn health(&self) -> (u16, Value) {
        self.api().call("GET", "/health/ready", None).unwrap()
    }

    /// For calls by threads, also while the hub is killed.
    pub(crate) fn api(&self) -> Api {
        let ready: Value = read_json(&self.data.join("run/ready.json")).unwrap();
        let token = std::fs::read_to_string(self.data.join("admin.token")).unwrap();
        Api { address: ready["listen"]["api"].as_str().unwrap().to_owned(), token }
    }

    /// A REST call that must succeed.
    pub(crate) fn put(&self, path: &str, body: &Value) {
        let (status, answer) = self.rest("PUT", path, Some(body));
        assert!((200..300).contains(&status), "PUT {path}: {status} {answer}");
    }

    pub(crate) fn identity(&self, device: &str, module: Option<&str>) {
        let keys = json!({"authentication": {"type": "sas",
            "symmetricKey": {"primaryKey": KEY, "secondaryKey": KEY}}});
        match module {
            Some(module) => self.put(&format!("/devices/{device}/modules/{module}"), &keys),
            None => self.put(&format!("/devices/{device}"), &keys),
        }
    }

    pub(crate) fn route(&self, name: &str, route: &str) {
        self.put(&format!("/routes/{name}"), &json!({ "route": route }));
    }

    /// Uploads a guest and installs or exchanges a module.
    pub(crate) fn module(&self, name: &str, guest: &str, spec: &Value) {
        let digest = self.artifact(guest);
        let mut spec = spec.clone();
        spec["type"] = "wasm".into();
        spec["component"] = digest.into();
        self.put(&format!("/modules/{name}"), &spec);
    }

    /// Uploads a guest; gives its digest.
    pub(crate) fn artifact(&self, guest: &str) -> String {
        let answer = self.weir(&["artifact", "put", guests().join(guest).to_str().unwrap()]);
        answer["digest"].as_str().unwrap().to_owned()
    }

    pub(crate) fn client(&self, device: &str, module: Option<&str>) -> Client {
        Client::connect(self.mqtt, device, module, false)
    }

    /// Messages that wait in a queue.
    pub(crate) fn waiting(&self, queue: &str) -> u64 {
        let (_, queues) = self.rest("GET", "/queues", None);
        let queues = queues["items"].as_array().cloned().unwrap_or_default();
        let found = queues.iter().find(|found| found["name"] == queue);
        found.and_then(|queue| queue["messages"].as_u64()).unwrap_or(0)
    }
}

/// The control plane of one life of the hub.
pub(crate) struct Api {
    address: String,
    token: String,
}

impl Api {
    /// One call; gives status and body, or none when the hub has gone.
    pub(crate) fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Option<(u16, Value)> {
        let body = body.map(ToString::to_string).unwrap_or_default();
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             authorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.token.trim(),
            body.len()
        );
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Some((status, serde_json::from_str(body).unwrap_or(Value::Null)))
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn read_json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn spawn(folder: &Path, data: &Path) -> (Child, SocketAddr) {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let mut process = Command::new(WEIR)
        .args(["run", "--config"])
        .arg(folder.join("weir.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let pid = process.id();
    let ready = wait_for("the hub is ready", || {
        if let Some(status) = process.try_wait().unwrap() {
            let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            panic!("the hub ended with {status}:\n{log}");
        }
        read_json(&data.join("run/ready.json")).filter(|ready| ready["pid"] == pid)
    });
    (process, ready["listen"]["mqtt_plain"].as_str().unwrap().parse().unwrap())
}

/// Folder of the built guests; they are built once for all test processes.
pub(crate) fn guests() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
    std::fs::create_dir_all(&target).unwrap();
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/Cargo.toml");
    // Cargo's own lock makes the processes wait for each other.
    let output = Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "--target", "wasm32-wasip2", "--manifest-path"])
        .arg(&manifest)
        .arg("--target-dir")
        .arg(&target)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    target.join("wasm32-wasip2/release")
}

/// A blocking MQTT client.
pub(crate) struct Client {
    stream: TcpStream,
    inbound: BytesMut,
    pub(crate) inbox: VecDeque<Publish>,
    pub(crate) acknowledged: u64,
    next_id: u16,
    device: String,
    module: Option<String>,
}

const LIMITS: Limits = Limits { max_packet_bytes: 1 << 20, max_filters: 100 };

impl Client {
    pub(crate) fn connect(
        address: SocketAddr,
        device: &str,
        module: Option<&str>,
        clean_session: bool,
    ) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut client = Self {
            stream,
            inbound: BytesMut::new(),
            inbox: VecDeque::new(),
            acknowledged: 0,
            next_id: 0,
            device: device.to_owned(),
            module: module.map(str::to_owned),
        };
        let (id, resource) = match module {
            Some(module) => (
                format!("{device}/{module}"),
                format!("localhost/devices/{device}/modules/{module}"),
            ),
            None => (device.to_owned(), format!("localhost/devices/{device}")),
        };
        let resource = resource.replace('/', "%2F");
        let key: Key = KEY.parse().unwrap();
        let token = make_token(&key, &resource, Timestamp::from_secs(4_000_000_000), None);
        assert!(sas::SasToken::parse(&token).is_ok());
        client.send(&Packet::Connect(Box::new(Connect {
            client_id: id.clone().try_into().unwrap(),
            clean_session,
            keep_alive_secs: 60,
            will: None,
            login: Some(Login {
                user_name: format!("localhost/{id}/?api-version=2021-04-12").try_into().unwrap(),
                password: Some(token.into()),
            }),
        })));
        let answer = client.receive(PATIENCE);
        assert!(matches!(answer, Some(Packet::Connack(Connack::Accepted { .. }))), "{answer:?}");
        client
    }

    pub(crate) fn send(&mut self, packet: &Packet) {
        let mut bytes = Vec::new();
        packet.encode(&mut bytes).unwrap();
        // A hub that was killed closes the socket under us; the test finds out by what is missing.
        drop(self.stream.write_all(&bytes));
    }

    /// The next packet; none when nothing comes in time or the connection has ended.
    pub(crate) fn receive(&mut self, limit: Duration) -> Option<Packet> {
        let end = now() + limit;
        loop {
            if let Some(packet) = decode(&mut self.inbound, &LIMITS).unwrap() {
                return Some(packet);
            }
            let left = end.checked_duration_since(now())?.max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left)).unwrap();
            let mut chunk = [0; 65_536];
            match self.stream.read(&mut chunk) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.inbound.extend_from_slice(&chunk[..count]),
            }
        }
    }

    /// Subscribes to the module's inputs and waits for the SUBACK.
    pub(crate) fn subscribe_inputs(&mut self) {
        let module = self.module.clone().unwrap();
        let filter = format!("devices/{}/modules/{module}/inputs/#", self.device);
        let subscription = Subscription {
            filter: filter.try_into().unwrap(),
            qos: weir_mqtt_codec::Qos::AtLeastOnce,
        };
        let id = 60_000.try_into().unwrap();
        self.send(&Packet::Subscribe(Subscribe { id, subscriptions: vec![subscription] }));
        wait_for("SUBACK", || {
            let packet = self.receive(PATIENCE)?;
            let is_suback = matches!(packet, Packet::Suback(_));
            self.take(packet);
            is_suback.then_some(())
        });
    }

    /// Publishes telemetry at QoS 1 without waiting.
    pub(crate) fn publish(&mut self, bag: &str, body: &[u8]) {
        let topic = match &self.module {
            Some(module) => {
                format!("devices/{}/modules/{module}/messages/events/{bag}", self.device)
            }
            None => format!("devices/{}/messages/events/{bag}", self.device),
        };
        self.next_id = if self.next_id >= 50_000 { 1 } else { self.next_id + 1 };
        let id = self.next_id.try_into().unwrap();
        self.send(&Packet::Publish(Publish {
            topic: topic.try_into().unwrap(),
            payload: body.to_vec().into(),
            delivery: Delivery::AtLeastOnce { id, dup: false },
            retain: false,
        }));
    }

    /// Reads until so many PUBACKs have come in all, or the connection ends.
    pub(crate) fn wait_acknowledged(&mut self, count: u64) -> bool {
        while self.acknowledged < count {
            match self.receive(PATIENCE) {
                Some(packet) => self.take(packet),
                None => return false,
            }
        }
        true
    }

    /// True when a PUBACK comes within this time.
    pub(crate) fn acknowledged_within(&mut self, time: Duration) -> bool {
        let (end, before) = (now() + time, self.acknowledged);
        while self.acknowledged == before {
            let Some(left) = end.checked_duration_since(now()) else { return false };
            match self.receive(left) {
                Some(packet) => self.take(packet),
                None => return false,
            }
        }
        true
    }

    /// The next delivery; it is acknowledged. None when none comes in time.
    pub(crate) fn next_delivery(&mut self, limit: Duration) -> Option<Publish> {
        let end = now() + limit;
        loop {
            if let Some(publish) = self.inbox.pop_front() {
                return Some(publish);
            }
            let left = end.checked_duration_since(now())?;
            let packet = self.receive(left)?;
            self.take(packet);
        }
    }

    fn take(&mut self, packet: Packet) {
        match packet {
            Packet::Puback(_) => self.acknowledged += 1,
            Packet::Publish(publish) => {
                if let Delivery::AtLeastOnce { id, .. } = publish.delivery {
                    self.send(&Packet::Puback(id));
                }
                self.inbox.push_back(publish);
            }
            _ => {}
        }
    }
}
