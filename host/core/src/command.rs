//! Cloud-to-device messages, "commands" in the API: what the hub keeps for a device or a module until
//! the client has taken it.
//!
//! A command is handed out under a lock. Whoever holds the lock says what becomes of it; a lock that
//! ends without a word gives the command back.

use crate::clock::Timestamp;
use crate::message::{Message, StampedMessage};
use std::fmt;
use std::str::FromStr;

/// Names one handing out of one command. Random; only the client that got it knows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LockToken(u128);

/// A text that is no lock token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a lock token is a UUID")]
pub struct LockTokenError;

impl LockToken {
    /// From random bytes, made a random UUID (RFC 9562, version 4).
    #[must_use]
    pub fn new(random: [u8; 16]) -> Self {
        let mut bytes = random;
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(u128::from_be_bytes(bytes))
    }

    /// AMQP's delivery tag.
    #[must_use]
    pub fn as_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// From AMQP's delivery tag.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

impl fmt::Display for LockToken {
    /// As a UUID in lower case.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        f.write_str(&parts.join("-"))
    }
}

impl fmt::Debug for LockToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for LockToken {
    type Err = LockTokenError;
    fn from_str(text: &str) -> Result<Self, LockTokenError> {
        let is_form = |(at, byte): (usize, &u8)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        };
        if text.len() != 36 || !text.as_bytes().iter().enumerate().all(is_form) {
            return Err(LockTokenError);
        }
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        u128::from_str_radix(&digits, 16).map(Self).map_err(|_| LockTokenError)
    }
}

/// A command that has been handed out.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// Names it until it is settled.
    pub lock: LockToken,
    /// Its place in the hub's one order of messages.
    pub sequence: u64,
    /// 1 when it is handed out for the first time.
    pub delivery_count: u32,
    /// When the hub took it in.
    pub enqueued: Timestamp,
    /// When it is no longer handed out.
    pub expires: Timestamp,
    /// Body, application properties and system properties: message id, to, ack, …
    pub message: StampedMessage,
}

/// What becomes of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// Taken: it is gone.
    Complete,
    /// Not now: it comes again, before the later ones.
    Abandon,
    /// Never: it goes to the dead letters.
    Reject,
}

/// What the sender of a command wants to be told of it (`iothub-ack`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ack {
    /// Nothing.
    #[default]
    None,
    /// When it was taken.
    Positive,
    /// When it was not: it expired, was rejected, or was handed out too often.
    Negative,
    /// Both.
    Full,
}

impl Ack {
    /// By its name in the property `ack`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "none" | "" => Some(Self::None),
            "positive" => Some(Self::Positive),
            "negative" => Some(Self::Negative),
            "full" => Some(Self::Full),
            _ => None,
        }
    }

    /// True when the sender is to be told of this end.
    #[must_use]
    pub fn wants(self, taken: bool) -> bool {
        match self {
            Self::None => false,
            Self::Positive => taken,
            Self::Negative => !taken,
            Self::Full => true,
        }
    }
}

/// A command that is to be sent.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NewCommand {
    /// Body and properties. The hub sets `to`, and a message id where there is none.
    pub message: Message,
    /// When it is no longer to be handed out; none: an hour from now.
    pub expires: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_lock_token_is_a_uuid_of_version_4() {
        let lock = LockToken::new([0xff; 16]);
        assert_eq!(lock.to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        for text in
            ["", "ffffffff-ffff-4fff-bfff-fffffffffff", "ffffffffffff-4fff-bfff-ffffffffffff-"]
        {
            assert_eq!(text.parse::<LockToken>(), Err(LockTokenError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_lock_token_reads_back_from_text_and_tag(random: [u8; 16]) {
            let lock = LockToken::new(random);
            prop_assert_eq!(lock.to_string().parse(), Ok(lock));
            prop_assert_eq!(lock.to_string().to_uppercase().parse(), Ok(lock));
            prop_assert_eq!(LockToken::from_bytes(lock.as_bytes()), lock);
        }
    }
}
