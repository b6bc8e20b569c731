//! CONNECT and CONNACK (MQTT 3.1.1, sections 3.1 and 3.2).

use std::fmt;

use bytes::{BufMut, Bytes};

use crate::encode::{field_bytes, put_field, put_header};
use crate::read::Reader;
use crate::{Error, Packet, PacketKind, Qos, Text, TopicName};

const PROTOCOL_NAME: &[u8] = b"MQTT";
/// MQTT 3.1, which calls itself `MQIsdp` with level 3.
const OLD_PROTOCOL_NAME: &[u8] = b"MQIsdp";
const LEVEL: u8 = 4;

const RESERVED: u8 = 0x01;
const CLEAN_SESSION: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USER_NAME: u8 = 0x80;

/// A client opens a session in MQTT 3.1.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// May be empty; without `clean_session` the server then answers
    /// [`Refusal::IdentifierRejected`] [MQTT-3.1.3-8].
    pub client_id: Text,
    /// Forget the session that is stored, and do not store this one [MQTT-3.1.2-6].
    pub clean_session: bool,
    /// Seconds; the server waits one and a half times as long [MQTT-3.1.2-24]. 0 turns it off.
    pub keep_alive_secs: u16,
    /// What to publish when the client goes without DISCONNECT.
    pub will: Option<Will>,
    /// Who the client says it is.
    pub login: Option<Login>,
}

/// User name and password. A password alone cannot be said [MQTT-3.1.2-22].
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// Text [MQTT-3.1.3-11].
    pub user_name: Text,
    /// Any bytes, 65,535 at most; `None` and empty are different.
    pub password: Option<Bytes>,
}

/// The message that the server publishes for a client that is gone (section 3.1.2.5).
#[derive(Clone, PartialEq, Eq)]
pub struct Will {
    /// Where to.
    pub topic: TopicName,
    /// Any bytes, 65,535 at most.
    pub payload: Bytes,
    /// As for a PUBLISH.
    pub qos: Qos,
    /// As for a PUBLISH.
    pub retain: bool,
}

/// A CONNECT in a version that is not spoken here; nothing behind the level is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsupportedConnect {
    /// `MQTT`, or `MQIsdp` for version 3.1.
    pub protocol_name: Text,
    /// 3 for 3.1, 5 for 5.0; some bridges set the highest bit at their first attempt.
    pub level: u8,
}

/// The server's answer to CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connack {
    /// Return code 0.
    Accepted {
        /// The server holds state of this client from before [MQTT-3.2.2-2].
        session_present: bool,
    },
    /// Another return code; the server closes after it [MQTT-3.2.2-5].
    Refused(Refusal),
}

/// Why a connection is refused (table 3.1); the value is the return code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 1: the server does not speak this level.
    ProtocolVersion = 1,
    /// 2: the client id is well-formed and not allowed.
    IdentifierRejected = 2,
    /// 3: come back later.
    ServerUnavailable = 3,
    /// 4: user name or password are malformed.
    BadUserNameOrPassword = 4,
    /// 5: not allowed to connect.
    NotAuthorized = 5,
}

impl Connect {
    /// Reads a CONNECT: either this packet or an [`UnsupportedConnect`].
    pub(crate) fn decode(mut reader: Reader) -> Result<Packet, Error> {
        let protocol_name = reader.text()?;
        let is_mqtt = protocol_name.as_bytes() == PROTOCOL_NAME;
        if !is_mqtt && protocol_name.as_bytes() != OLD_PROTOCOL_NAME {
            return Err(Error::ProtocolName);
        }
        let level = reader.u8()?;
        if !is_mqtt || level != LEVEL {
            return Ok(Packet::UnsupportedConnect(UnsupportedConnect { protocol_name, level }));
        }
        let flags = reader.u8()?;
        check_flags(flags)?;
        let keep_alive_secs = reader.u16()?;
        let client_id = reader.text()?;
        let will = if flags & WILL != 0 { Some(Will::decode(&mut reader, flags)?) } else { None };
        let login =
            if flags & USER_NAME != 0 { Some(Login::decode(&mut reader, flags)?) } else { None };
        reader.finish()?;
        let clean_session = flags & CLEAN_SESSION != 0;
        let connect = Self { client_id, clean_session, keep_alive_secs, will, login };
        Ok(Packet::Connect(Box::new(connect)))
    }

    pub(crate) fn encode(&self, out: &mut impl BufMut) -> Result<(), Error> {
        let head = PROTOCOL_NAME.len() + 6;
        let mut bytes = head + field_bytes(self.client_id.as_bytes())?;
        if let Some(will) = &self.will {
            bytes += field_bytes(will.topic.as_bytes())? + field_bytes(&will.payload)?;
        }
        if let Some(login) = &self.login {
            bytes += field_bytes(login.user_name.as_bytes())?;
            bytes += login.password.as_deref().map(field_bytes).transpose()?.unwrap_or(0);
        }
        put_header(PacketKind::Connect.first_byte(), bytes, out)?;
        put_field(PROTOCOL_NAME, out);
        out.put_u8(LEVEL);
        out.put_u8(self.flags());
        out.put_u16(self.keep_alive_secs);
        put_field(self.client_id.as_bytes(), out);
        if let Some(will) = &self.will {
            put_field(will.topic.as_bytes(), out);
            put_field(&will.payload, out);
        }
        if let Some(login) = &self.login {
            put_field(login.user_name.as_bytes(), out);
            if let Some(password) = &login.password {
                put_field(password, out);
            }
        }
        Ok(())
    }

    fn flags(&self) -> u8 {
        let mut flags = if self.clean_session { CLEAN_SESSION } else { 0 };
        if let Some(will) = &self.will {
            flags |= WILL | (will.qos as u8) << 3 | if will.retain { WILL_RETAIN } else { 0 };
        }
        if let Some(login) = &self.login {
            flags |= USER_NAME | if login.password.is_some() { PASSWORD } else { 0 };
        }
        flags
    }
}

fn check_flags(flags: u8) -> Result<(), Error> {
    if flags & RESERVED != 0 {
        return Err(Error::ConnectReservedFlag);
    }
    if flags & WILL == 0 && will_qos(flags) != 0 {
        return Err(Error::WillQosWithoutWill);
    }
    if flags & WILL == 0 && flags & WILL_RETAIN != 0 {
        return Err(Error::WillRetainWithoutWill);
    }
    if flags & USER_NAME == 0 && flags & PASSWORD != 0 {
        return Err(Error::PasswordWithoutUserName);
    }
    Ok(())
}

fn will_qos(flags: u8) -> u8 {
    flags >> 3 & 0b11
}

impl Will {
    fn decode(reader: &mut Reader, flags: u8) -> Result<Self, Error> {
        let qos = Qos::from_wire(will_qos(flags)).ok_or(Error::WillQos3)?;
        let topic = reader.topic_name()?;
        let payload = reader.binary()?;
        Ok(Self { topic, payload, qos, retain: flags & WILL_RETAIN != 0 })
    }
}

impl Login {
    fn decode(reader: &mut Reader, flags: u8) -> Result<Self, Error> {
        let user_name = reader.text()?;
        let password = if flags & PASSWORD != 0 { Some(reader.binary()?) } else { None };
        Ok(Self { user_name, password })
    }
}

impl UnsupportedConnect {
    /// Writes name and level alone: enough for a server that answers 1.
    pub(crate) fn encode(&self, out: &mut impl BufMut) -> Result<(), Error> {
        let name = self.protocol_name.as_bytes();
        put_header(PacketKind::Connect.first_byte(), field_bytes(name)? + 1, out)?;
        put_field(name, out);
        out.put_u8(self.level);
        Ok(())
    }
}

impl Connack {
    pub(crate) fn decode([flags, code]: [u8; 2]) -> Result<Self, Error> {
        if flags > 1 {
            return Err(Error::ConnackFlags { flags });
        }
        let refusal = match code {
            0 => return Ok(Self::Accepted { session_present: flags == 1 }),
            1 => Refusal::ProtocolVersion,
            2 => Refusal::IdentifierRejected,
            3 => Refusal::ServerUnavailable,
            4 => Refusal::BadUserNameOrPassword,
            5 => Refusal::NotAuthorized,
            code => return Err(Error::ConnackCode { code }),
        };
        if flags == 1 { Err(Error::SessionPresentWithRefusal) } else { Ok(Self::Refused(refusal)) }
    }

    pub(crate) fn encode(self, out: &mut impl BufMut) {
        let (flags, code) = match self {
            Self::Accepted { session_present } => (u8::from(session_present), 0),
            Self::Refused(refusal) => (0, refusal as u8),
        };
        out.put_slice(&[PacketKind::Connack.first_byte(), 2, flags, code]);
    }
}

// Passwords are tokens and keys, and wills are bodies: neither may reach a log.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user_name", &self.user_name)
            .field("has_password", &self.password.is_some())
            .finish()
    }
}

impl fmt::Debug for Will {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Will")
            .field("topic", &self.topic)
            .field("payload_bytes", &self.payload.len())
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_and_will_body_stay_out_of_debug() {
        let connect = Connect {
            client_id: "pump-1".parse().unwrap(),
            clean_session: false,
            keep_alive_secs: 60,
            will: Some(Will {
                topic: "last/words".parse().unwrap(),
                payload: Bytes::from_static(b"topsecret"),
                qos: Qos::AtLeastOnce,
                retain: false,
            }),
            login: Some(Login {
                user_name: "hub/pump-1".parse().unwrap(),
                password: Some(Bytes::from_static(b"topsecret")),
            }),
        };
        let debug = format!("{connect:?}");
        assert!(!debug.contains("topsecret") && !debug.contains("116, 111"), "{debug}");
        assert!(debug.contains("hub/pump-1"), "{debug}");
    }

    #[test]
    fn password_over_65535_bytes_is_not_written() {
        let login =
            Login { user_name: "u".parse().unwrap(), password: Some(Bytes::from(vec![0; 65_536])) };
        let connect = Connect {
            client_id: Text::default(),
            clean_session: true,
            keep_alive_secs: 0,
            will: None,
            login: Some(login),
        };
        let mut out = Vec::new();
        assert_eq!(connect.encode(&mut out), Err(Error::FieldTooLong { bytes: 65_536 }));
        assert_eq!(out, []);
    }
}
