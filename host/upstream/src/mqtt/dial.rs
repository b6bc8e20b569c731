//! Opening a connection: name, TCP, TLS, CONNECT, CONNACK; each step within its time.

use std::path::PathBuf;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use weir_mqtt_codec::{Connack, Connect, Limits, Login, Packet, Refusal, Text, decode};
use zeroize::{Zeroize, Zeroizing};

use super::tls;
use crate::{Error, MqttConfig};

/// A plain or an encrypted connection.
pub(super) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Largest packet taken from the broker: to a client without subscriptions it sends small ones.
pub(super) const LIMITS: Limits = Limits { max_packet_bytes: 64 * 1024, max_filters: 1 };

/// A connection on which the broker has accepted the CONNECT.
pub(super) struct Wire {
    pub(super) stream: Stream,
    /// What came in behind the CONNACK.
    pub(super) input: BytesMut,
    /// The broker remembers this client.
    pub(super) session_present: bool,
}

/// How to reach and greet the broker. Checked; has no password in it.
pub(super) struct Dialer {
    address: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    client_id: Text,
    clean_session: bool,
    keep_alive_secs: u16,
    user_name: Option<Text>,
    password_file: Option<PathBuf>,
    limit: Duration,
}

impl Dialer {
    pub(super) fn new(config: &MqttConfig, hub_name: &str) -> Result<Self, Error> {
        let (host, port) = host_and_port(&config.address, config.tls)
            .map_err(|problem| Error::Setting { key: "address", problem })?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let client_id = config.client_id.clone().unwrap_or_else(|| format!("weir-{hub_name}"));
        if client_id.is_empty() {
            let problem = "must not be empty".to_owned();
            return Err(Error::Setting { key: "client_id", problem });
        }
        if config.password_file.is_some() && config.user_name.is_none() {
            let problem = "is needed with password_file".to_owned();
            return Err(Error::Setting { key: "user_name", problem });
        }
        if let Some(path) = &config.password_file {
            std::fs::File::open(path)
                .map_err(|cause| Error::Read { key: "password_file", cause })?;
        }
        let user_name = config.user_name.clone().map(|name| text("user_name", name)).transpose()?;
        Ok(Self {
            address: format!("{host}:{port}"),
            tls: tls::connector(config, bare)?,
            client_id: text("client_id", client_id)?,
            clean_session: config.clean_session,
            keep_alive_secs: config.keep_alive_secs,
            user_name,
            password_file: config.password_file.clone(),
            limit: Duration::from_secs(config.connect_timeout_secs),
        })
    }

    /// The broker's address, for people.
    pub(super) fn target(&self) -> String {
        let scheme = if self.tls.is_some() { "mqtts" } else { "mqtt" };
        format!("{scheme}://{}", self.address)
    }

    /// Connects and greets; the error is for people.
    pub(super) async fn dial(&self) -> Result<Wire, String> {
        let stream = match timeout(self.limit, self.open()).await {
            Ok(stream) => stream?,
            Err(_) => return Err(format!("no connection within {} s", self.limit.as_secs())),
        };
        match timeout(self.limit, self.greet(stream)).await {
            Ok(wire) => wire,
            Err(_) => Err(format!("no CONNACK within {} s", self.limit.as_secs())),
        }
    }

    async fn open(&self) -> Result<Stream, String> {
        let stream = TcpStream::connect(&self.address)
            .await
            .map_err(|error| format!("could not connect: {error}"))?;
        stream.set_nodelay(true).map_err(|error| format!("could not connect: {error}"))?;
        match &self.tls {
            None => Ok(Either::Left(stream)),
            Some((connector, name)) => match connector.connect(name.clone(), stream).await {
                Ok(stream) => Ok(Either::Right(Box::new(stream))),
                Err(error) => Err(format!("the TLS handshake failed: {error}")),
            },
        }
    }

    async fn greet(&self, mut stream: Stream) -> Result<Wire, String> {
        let connect = self.connect_packet().await?;
        let lost = |error| format!("the connection was lost before CONNACK: {error}");
        stream.write_all(&connect).await.map_err(lost)?;
        stream.flush().await.map_err(lost)?;
        let mut input = BytesMut::with_capacity(4 * 1024);
        match first_packet(&mut stream, &mut input).await? {
            Packet::Connack(Connack::Accepted { session_present }) => {
                Ok(Wire { stream, input, session_present })
            }
            Packet::Connack(Connack::Refused(refusal)) => Err(refused(refusal).to_owned()),
            packet => Err(format!("the peer answered CONNECT with {}", packet.kind())),
        }
    }

    async fn connect_packet(&self) -> Result<Zeroizing<Vec<u8>>, String> {
        let login = match &self.user_name {
            None => None,
            Some(name) => {
                let password = self.password().await?;
                Some(Login { user_name: name.clone(), password })
            }
        };
        let connect = Connect {
            client_id: self.client_id.clone(),
            clean_session: self.clean_session,
            keep_alive_secs: self.keep_alive_secs,
            will: None,
            login,
        };
        // Room for all that can stand in it, so that no growing leaves a copy of the password behind.
        let mut packet = Zeroizing::new(Vec::with_capacity(4 * 64 * 1024));
        Packet::Connect(Box::new(connect))
            .encode(&mut *packet)
            .map_err(|error| format!("CONNECT cannot be written: {error}"))?;
        Ok(packet)
    }

    async fn password(&self) -> Result<Option<Bytes>, String> {
        let Some(path) = self.password_file.clone() else { return Ok(None) };
        let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
        let mut password = match read {
            Ok(Ok(password)) => password,
            Ok(Err(error)) => return Err(format!("the password file cannot be read: {error}")),
            Err(_) => return Err("the task that reads the password file has ended".to_owned()),
        };
        while let [rest @ .., b'\n' | b'\r'] = &password[..] {
            password.truncate(rest.len());
        }
        Ok(Some(Bytes::from_owner(Secret(password))))
    }
}

/// Bytes that are overwritten when the last handle to them is gone.
struct Secret(Vec<u8>);

impl AsRef<[u8]> for Secret {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

async fn first_packet<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    input: &mut BytesMut,
) -> Result<Packet, String> {
    loop {
        match decode(input, &LIMITS) {
            Ok(Some(packet)) => return Ok(packet),
            Ok(None) => {}
            Err(error) => return Err(format!("the peer does not speak MQTT 3.1.1: {error}")),
        }
        match stream.read_buf(input).await {
            Ok(0) => return Err("the peer closed the connection before CONNACK".to_owned()),
            Ok(_) => {}
            Err(error) => return Err(format!("the connection was lost before CONNACK: {error}")),
        }
    }
}

/// The text of MQTT 3.1.1, table 3.1.
fn refused(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::ProtocolVersion => "the broker refuses: unacceptable protocol version",
        Refusal::IdentifierRejected => "the broker refuses: identifier rejected",
        Refusal::ServerUnavailable => "the broker refuses: server unavailable",
        Refusal::BadUserNameOrPassword => "the broker refuses: bad user name or password",
        Refusal::NotAuthorized => "the broker refuses: not authorized",
    }
}

fn text(key: &'static str, value: String) -> Result<Text, Error> {
    Text::try_from(value).map_err(|error| Error::Setting { key, problem: error.to_string() })
}

fn host_and_port(address: &str, tls: bool) -> Result<(&str, u16), String> {
    let wrong = || format!("{address:?} is not of the form host or host:port");
    let standard = if tls { 8883 } else { 1883 };
    let (host, port) = match address.rsplit_once(':') {
        // The colon stands inside of brackets.
        Some((_, behind)) if behind.ends_with(']') => (address, standard),
        Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
        None => (address, standard),
    };
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    let has_odd = host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/');
    if host.is_empty() || has_odd || port == 0 || host.contains(':') && !is_bracketed {
        return Err(wrong());
    }
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_with_or_without_a_port() {
        for (address, tls, expected) in [
            ("broker", false, ("broker", 1883)),
            ("broker", true, ("broker", 8883)),
            ("10.0.0.1:99", false, ("10.0.0.1", 99)),
            ("[::1]", false, ("[::1]", 1883)),
            ("[fe80::1]:2", true, ("[fe80::1]", 2)),
        ] {
            assert_eq!(host_and_port(address, tls), Ok(expected));
        }
        for address in ["", ":1", "a:b", "a:", "a:0", "a:70000", "::1", "mqtt://a:1", "a b:1"] {
            assert!(host_and_port(address, false).is_err(), "{address}");
        }
    }

    #[tokio::test]
    async fn the_password_is_the_content_of_its_file_without_the_last_line_break() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut config = MqttConfig::new("broker");
        config.user_name = Some("hub".to_owned());
        config.password_file = Some(file.path().to_owned());
        let dialer = Dialer::new(&config, "edge").unwrap();
        for (content, password) in [("s p\r\n", "s p"), ("plain", "plain"), ("", "")] {
            std::fs::write(file.path(), content).unwrap();
            assert_eq!(dialer.password().await.unwrap().unwrap(), password);
        }
    }
}
