//! `weir demo`: a hub to look at and to play with, without network, root or Docker.
//!
//! Two simulated sensors send through a Wasm filter into a file. While messages flow the filter can be
//! exchanged for another version or for a broken one, and the upstream can be cut. With
//! `--duration` it does these things by itself, checks from sensor to file that nothing was lost,
//! and prints one line of JSON; a broken promise is exit code 1.

mod check;
mod screen;
mod sensors;

use crate::compose::{self, Running, Settings};
use crate::config::Workload;
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use check::Verdict;
use screen::{Key, Screen};
use sensors::Sensors;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, interval, timeout};
use weir_core::digest::Digest;
use weir_core::id::{DeviceId, ModuleId};
use weir_core::module::{Ceilings, ModuleSpec};
use weir_hub::{Expect, Hub, IdentitySpec, MessageName, ModuleChange, RouteSpec, digest_of};
use weir_store::Durability;

/// What the demo is asked to do.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Folder for data; a temporary one when there is none.
    pub data_dir: Option<PathBuf>,
    /// Port of the API; 0 takes a free one.
    pub port: u16,
    /// Seconds after which it ends, having swapped, broken and cut by itself.
    pub duration: Option<u64>,
}

const V1: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/demo_v1.wasm"));
const V2: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/demo_v2.wasm"));
const V3: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/demo_v3.wasm"));

const FILTER: &str = "filter";
/// After the sensors have stopped, so long may the rest take to reach the file.
const DRAIN: Duration = Duration::from_secs(20);
const GRACE: Duration = Duration::from_secs(10);

/// Runs the demo; true when every promise was kept.
///
/// # Errors
/// When the hub does not start or the demo's own parts fail.
pub async fn run(args: Wish) -> Result<bool> {
    let temporary = match &args.data_dir {
        Some(_) => None,
        None => Some(tempfile::tempdir().context("there is no temporary folder")?),
    };
    let data_dir = args.data_dir.clone().or(temporary.as_ref().map(|dir| dir.path().to_owned()));
    let data_dir = data_dir.unwrap_or_else(|| "weir-demo".into());
    let out = data_dir.join("out.ndjson");
    let running = start(&args, data_dir.clone(), &out).await?;
    provision(&running.hub).await?;
    let demo =
        Demo { running, out, data_dir, sensors: Sensors::default(), digests: Digests::new() };
    let kept = match args.duration {
        Some(seconds) => demo.play_script(Duration::from_secs(seconds)).await?,
        None => demo.play_by_hand().await?,
    };
    drop(temporary);
    Ok(kept)
}

async fn start(args: &Wish, data_dir: PathBuf, out: &std::path::Path) -> Result<Running> {
    let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let settings = |port| -> Result<Settings> {
        Ok(Settings {
            data_dir: data_dir.clone(),
            hostname: "localhost".to_owned(),
            iothub_hostname: "localhost".to_owned(),
            device_id: "demo-gateway".parse::<DeviceId>()?,
            mqtt: Some(loopback(0)),
            mqtt_plain: None,
            amqp: None,
            https: None,
            api: loopback(port),
            api_tls: false,
            durability: Durability::Power,
            store_bytes: None,
            queues: weir_hub::QueueDefaults::default(),
            default_ttl: None,
            ceilings: Ceilings::default(),
            upstream: weir_upstream::Config::File(weir_upstream::FileConfig::new(out)),
            max_clients: weir_core::limits::MAX_CLIENTS,
            logs: weir_hub::ModuleLogs::default(),
            device_ca_files: Vec::new(),
            module_certificates: false,
            edge_ca: None,
            // A demo has no modules that run beside it.
            workload: Workload { sockets: false, ..Workload::default() },
        })
    };
    std::fs::create_dir_all(&data_dir).context("the data folder could not be made")?;
    // The port that everyone knows may be taken; then the next free one does as well.
    let free = std::net::TcpListener::bind(loopback(args.port)).is_ok();
    compose::start(settings(if free { args.port } else { 0 })?).await
}

async fn provision(hub: &Hub) -> Result<()> {
    for code in [V1, V2, V3] {
        hub.artifacts().put(hub, digest_of(code), Bytes::from_static(code)).await?;
    }
    for sensor in sensors::NAMES {
        let identity = sensors::identity(sensor);
        hub.identities().put(hub, identity, IdentitySpec::default(), Expect::Any).await?;
    }
    hub.modules().put(hub, &filter(), spec(digest_of(V1))?, Expect::Any).await?;
    let routes = [
        (
            "to-filter",
            r#"FROM /messages/* WHERE NOT IS_DEFINED($connectionModuleId) INTO BrokeredEndpoint("/modules/filter/inputs/in")"#,
        ),
        ("to-upstream", "FROM /messages/modules/filter/outputs/out INTO $upstream"),
    ];
    for (name, route) in routes {
        let route = RouteSpec { route: route.to_owned(), priority: None, time_to_live_secs: None };
        hub.routes().put(hub, &name.parse()?, route, Expect::Any).await?;
    }
    Ok(())
}

fn filter() -> ModuleId {
    FILTER.parse().expect("a plain name")
}

fn spec(component: Digest) -> Result<ModuleSpec> {
    Ok(serde_json::from_value(serde_json::json!({
        "type": "wasm", "component": component, "inputs": ["in"], "outputs": ["out"],
        "body": "none", "fields": ["/temperature"],
    }))?)
}

struct Digests {
    v1: Digest,
    v2: Digest,
    v3: Digest,
}

impl Digests {
    fn new() -> Self {
        Self { v1: digest_of(V1), v2: digest_of(V2), v3: digest_of(V3) }
    }

    /// What the screen calls it. (The hub counts installations: going back to v1 is another number.)
    fn name(&self, digest: Digest) -> &'static str {
        match digest {
            digest if digest == self.v1 => "v1",
            digest if digest == self.v2 => "v2",
            _ => "v3",
        }
    }

    /// What it does, as its source says.
    fn rule(&self, digest: Digest) -> &'static str {
        match digest {
            digest if digest == self.v1 => "keeps 25 degrees and more",
            digest if digest == self.v2 => "keeps 20 degrees and more",
            _ => "has a fault",
        }
    }
}

struct Demo {
    running: Running,
    out: PathBuf,
    data_dir: PathBuf,
    sensors: Sensors,
    digests: Digests,
}

impl Demo {
    fn hub(&self) -> &Hub {
        &self.running.hub
    }

    /// Does everything by itself, then judges.
    async fn play_script(self, duration: Duration) -> Result<bool> {
        let mut screen = Screen::lines();
        self.introduce(&mut screen);
        self.sensors.start(self.hub())?;
        let begun = Instant::now();
        let at = |part: f64| begun + duration.mul_f64(part);
        let mut verdict = Verdict::default();

        self.watch(&mut screen, at(0.2)).await?;
        verdict.swapped = self.swap(&mut screen, self.digests.v2).await?;
        self.watch(&mut screen, at(0.4)).await?;
        self.swap(&mut screen, self.digests.v3).await?;
        verdict.returned = self.wait_for_return(&mut screen).await?;
        self.watch(&mut screen, at(0.6)).await?;
        self.cut_upstream(&mut screen, true);
        self.watch(&mut screen, at(0.8)).await?;
        verdict.stored_while_cut = self.hub().uplink().waiting;
        self.cut_upstream(&mut screen, false);
        self.watch(&mut screen, at(1.0)).await?;

        self.sensors.stop().await;
        verdict.drained = timeout(DRAIN, self.drained()).await.is_ok();
        let counters = self.hub().modules().get(self.hub(), &filter()).await?.counters;
        let latency = self.sensors.latency();
        let report = self.sensors.report();
        let run = self.sensors.run().to_owned();
        let ended = self.running.stop(GRACE).await;
        let kept = verdict.judge(&report, &run, &self.out, counters, latency)? && ended;
        screen.finish();
        #[expect(clippy::print_stdout, reason = "the last line is the answer")]
        {
            println!("{}", verdict.json(kept));
        }
        Ok(kept)
    }

    /// Shows rates and listens to keys until the user leaves.
    async fn play_by_hand(self) -> Result<bool> {
        let mut screen = Screen::interactive();
        self.introduce(&mut screen);
        self.sensors.start(self.hub())?;
        let mut ticks = interval(Duration::from_secs(1));
        let mut cut = false;
        loop {
            tokio::select! {
                _ = ticks.tick() => self.rates(&mut screen).await?,
                () = self.running.failed() => bail!("the hub stopped by itself"),
                _ = tokio::signal::ctrl_c() => break,
                key = screen.key() => match key {
                    Key::Swap => drop(self.swap(&mut screen, self.digests.v2).await?),
                    Key::Back => drop(self.swap(&mut screen, self.digests.v1).await?),
                    Key::Break => {
                        if self.swap(&mut screen, self.digests.v3).await? {
                            self.wait_for_return(&mut screen).await?;
                        }
                    }
                    Key::Upstream => {
                        cut = !cut;
                        self.cut_upstream(&mut screen, cut);
                    }
                    Key::Explain => self.explain(&mut screen).await?,
                    Key::Help => screen.keys(),
                    Key::Quit => break,
                },
            }
        }
        self.sensors.stop().await;
        let report = self.sensors.report();
        let [sent, acknowledged] =
            [report.sent, report.acknowledged].map(|n| n.iter().sum::<u64>());
        screen.say(&format!("{sent} readings sent, {acknowledged} acknowledged"));
        screen.finish();
        Ok(self.running.stop(GRACE).await)
    }

    fn introduce(&self, screen: &mut Screen) {
        let api = self.running.listening.api;
        let token = crate::admin_token::path(&self.data_dir);
        screen.say(&format!(
            "Weir {}   data: {}",
            env!("CARGO_PKG_VERSION"),
            self.data_dir.display()
        ));
        screen.say(&format!("sensor-1, sensor-2 -> {FILTER} (Wasm) -> {}", self.out.display()));
        screen.say(&format!("API with Swagger UI: http://{api}/docs"));
        screen.say(&format!(
            "curl -H \"Authorization: Bearer $(cat {})\" http://{api}/api/v1/modules/{FILTER}",
            token.display()
        ));
        screen.keys();
    }

    async fn watch(&self, screen: &mut Screen, until: Instant) -> Result<()> {
        let mut ticks = interval(Duration::from_secs(1));
        ticks.tick().await;
        loop {
            tokio::select! {
                _ = ticks.tick() => self.rates(screen).await?,
                () = tokio::time::sleep_until(until) => return Ok(()),
                () = self.running.failed() => bail!("the hub stopped by itself"),
            }
        }
    }

    async fn rates(&self, screen: &mut Screen) -> Result<()> {
        let view = self.hub().modules().get(self.hub(), &filter()).await?;
        let version = self.digests.name(view.spec.component);
        screen.rates(version, view.counters, &self.hub().uplink(), &self.sensors);
        Ok(())
    }

    fn cut_upstream(&self, screen: &mut Screen, cut: bool) {
        self.hub().pause_uplink(cut);
        screen.say(match cut {
            true => "the upstream is cut: messages wait on disk",
            false => "the upstream is back: the backlog drains",
        });
    }

    /// True when another version took over.
    async fn swap(&self, screen: &mut Screen, to: Digest) -> Result<bool> {
        let (begun, name) = (Instant::now(), self.digests.name(to));
        match self.hub().modules().swap(self.hub(), &filter(), to, Expect::Any).await {
            Ok(ModuleChange::Unchanged) => {
                screen.say(&format!("{FILTER} {name} is running already"));
                Ok(false)
            }
            Ok(ModuleChange::Installed | ModuleChange::Switched) => {
                let took = millis(begun.elapsed());
                let rule = self.digests.rule(to);
                screen.say(&format!("{FILTER} {name} took over in {took:.1} ms: it {rule}"));
                Ok(true)
            }
            Err(error) => {
                screen.say(&format!("{FILTER} {name} was refused: {error}"));
                Ok(false)
            }
        }
    }

    /// True when the broken version has gone back by itself.
    async fn wait_for_return(&self, screen: &mut Screen) -> Result<bool> {
        let begun = Instant::now();
        while begun.elapsed() < GRACE {
            let view = self.hub().modules().get(self.hub(), &filter()).await?;
            if let Some(back) = view.last_return.filter(|_| view.version != 0)
                && view.spec.component != self.digests.v3
            {
                // What the guest itself said comes last; the way there is in the module's log.
                let why = back.why.rsplit(": ").next().unwrap_or_default();
                let (name, took) = (self.digests.name(view.spec.component), begun.elapsed());
                screen.say(&format!(
                    "{FILTER} v3 failed ({why}): {name} is back by itself after {:.1} ms",
                    millis(took)
                ));
                return Ok(true);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        screen.say("the broken version did not go back");
        Ok(false)
    }

    async fn explain(&self, screen: &mut Screen) -> Result<()> {
        let Some(explanation) = self.hub().explain(&MessageName::Last).await? else {
            screen.say("there is no message yet");
            return Ok(());
        };
        screen.say(&format!(
            "message {} from {}: {}",
            explanation.id, explanation.sender, explanation.summary
        ));
        for verdict in explanation.routes {
            screen.say(&format!("  route {}: {}", verdict.name, verdict.text));
        }
        Ok(())
    }

    /// Resolves when nothing waits in any queue.
    /// Nothing waits any more, and all that the filter did is counted: a moment after it is on disk.
    async fn drained(&self) {
        let sent: u64 = self.sensors.report().sent.iter().sum();
        let waits = || self.hub().store().usage().queues.iter().any(|queue| queue.messages > 0);
        while waits() || self.filtered().await < sent {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn filtered(&self) -> u64 {
        let module = self.hub().modules().get(self.hub(), &filter()).await;
        module.map_or(0, |module| module.counters.dropped + module.counters.passed)
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
