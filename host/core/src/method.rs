//! A direct method call, as every head and the API make it.
//!
//! A call has no queue: it is handed to the target once, over the connection that the target has, and
//! its answer comes back to whoever waits. Payloads are JSON texts that nobody here looks into.

use crate::limits;
use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What cannot stand in a level of a topic, and `%`, which encodes the others.
const NOT_IN_TOPIC: &AsciiSet = &CONTROLS.add(b'/').add(b'+').add(b'#').add(b'?').add(b'%');

/// Name of a method: 1 to 100 characters, none of them a control character (IoT Edge's limit).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MethodName(String);

impl MethodName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as one level of an MQTT topic: what would divide or end the level is percent-encoded.
    #[must_use]
    pub fn topic_level(&self) -> Cow<'_, str> {
        utf8_percent_encode(&self.0, NOT_IN_TOPIC).into()
    }
}

impl FromStr for MethodName {
    type Err = MethodProblem;
    fn from_str(text: &str) -> Result<Self, MethodProblem> {
        let length = text.chars().count();
        if length == 0 || length > limits::METHOD_NAME_CHARACTERS {
            return Err(MethodProblem::NameLength { characters: length });
        }
        match text.chars().any(char::is_control) {
            true => Err(MethodProblem::NameCharacter),
            false => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for MethodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A call that is not made, or an answer that is not passed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MethodProblem {
    /// Not the JSON of a call.
    #[error("the call cannot be read: {0}")]
    Body(String),
    /// Empty, or over [`limits::METHOD_NAME_CHARACTERS`].
    #[error(
        "methodName has {characters} characters; 1 to {} are allowed",
        limits::METHOD_NAME_CHARACTERS
    )]
    NameLength {
        /// Its length.
        characters: usize,
    },
    /// A control character.
    #[error("methodName has a control character")]
    NameCharacter,
    /// Outside of its range.
    #[error("{field} is {seconds}; {min} to {max} are allowed")]
    TimeOut {
        /// The field of the body.
        field: &'static str,
        /// Its value.
        seconds: i64,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// Over [`limits::METHOD_PAYLOAD_BYTES`].
    #[error("the payload has {bytes} bytes; {} are allowed", limits::METHOD_PAYLOAD_BYTES)]
    PayloadSize {
        /// Its length.
        bytes: usize,
    },
    /// The payload is not JSON.
    #[error("the payload is not JSON")]
    PayloadForm,
}

/// A call that has passed the checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodCall {
    /// Name of the method.
    pub name: MethodName,
    /// JSON text; `null` when the caller gave none.
    pub payload: Bytes,
    /// How long the call waits for the target to connect and to take methods.
    pub connect_timeout: Duration,
    /// How long it then waits for the answer.
    pub response_timeout: Duration,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(borrow)]
    method_name: Cow<'a, str>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
    #[serde(default)]
    response_timeout_in_seconds: Option<i64>,
    #[serde(default)]
    connect_timeout_in_seconds: Option<i64>,
}

impl MethodCall {
    /// Reads the body `{"methodName", "payload", "responseTimeoutInSeconds",
    /// "connectTimeoutInSeconds"}`; all but the name may be absent or null, other fields are ignored.
    ///
    /// # Errors
    /// [`MethodProblem`]: a field is missing, of another type or outside of its range.
    pub fn from_json(body: &[u8]) -> Result<Self, MethodProblem> {
        let body: Body<'_> =
            serde_json::from_slice(body).map_err(|error| MethodProblem::Body(error.to_string()))?;
        Self::of(
            &body.method_name,
            body.payload.map_or("null", RawValue::get).as_bytes(),
            body.connect_timeout_in_seconds,
            body.response_timeout_in_seconds,
        )
    }

    /// From its parts; time-outs in seconds, `payload` is JSON.
    ///
    /// # Errors
    /// [`MethodProblem`]: a part is outside of its range.
    pub fn of(
        name: &str,
        payload: &[u8],
        connect_timeout: Option<i64>,
        response_timeout: Option<i64>,
    ) -> Result<Self, MethodProblem> {
        if payload.len() > limits::METHOD_PAYLOAD_BYTES {
            return Err(MethodProblem::PayloadSize { bytes: payload.len() });
        }
        let connect_timeout =
            seconds("connectTimeoutInSeconds", connect_timeout, Duration::ZERO, Duration::ZERO)?;
        let response_timeout = seconds(
            "responseTimeoutInSeconds",
            response_timeout,
            limits::METHOD_RESPONSE,
            limits::METHOD_RESPONSE_MIN,
        )?;
        let payload = Bytes::copy_from_slice(payload);
        Ok(Self { name: name.parse()?, payload, connect_timeout, response_timeout })
    }
}

fn seconds(
    field: &'static str,
    given: Option<i64>,
    default: Duration,
    min: Duration,
) -> Result<Duration, MethodProblem> {
    let Some(seconds) = given else { return Ok(default) };
    let (min, max) = (min.as_secs(), limits::METHOD_TIMEOUT_MAX.as_secs());
    match u64::try_from(seconds) {
        Ok(value) if (min..=max).contains(&value) => Ok(Duration::from_secs(value)),
        Ok(_) | Err(_) => Err(MethodProblem::TimeOut { field, seconds, min, max }),
    }
}

/// What the target answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodAnswer {
    /// The callee's own number, whatever it means by it.
    pub status: i32,
    /// JSON text; `null` when the callee gave none.
    pub payload: Bytes,
}

impl MethodAnswer {
    /// The answer with its payload checked and without white space around it; an empty payload becomes
    /// `null`. The hub calls this for whatever a client answers.
    ///
    /// # Errors
    /// [`MethodProblem::PayloadSize`], [`MethodProblem::PayloadForm`].
    pub fn checked(self) -> Result<Self, MethodProblem> {
        if self.payload.len() > limits::METHOD_PAYLOAD_BYTES {
            return Err(MethodProblem::PayloadSize { bytes: self.payload.len() });
        }
        let trimmed = self.payload.trim_ascii();
        if trimmed.is_empty() {
            return Ok(Self { payload: Bytes::from_static(b"null"), ..self });
        }
        serde_json::from_slice::<&RawValue>(trimmed).map_err(|_| MethodProblem::PayloadForm)?;
        let payload = self.payload.slice_ref(trimmed);
        Ok(Self { payload, ..self })
    }

    /// `{"status":…,"payload":…}`, of an answer that was checked.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = format!("{{\"status\":{},\"payload\":", self.status).into_bytes();
        json.extend_from_slice(&self.payload);
        json.push(b'}');
        json
    }
}

/// Names one call to the client that has to answer it. Random, so that no client can name another's.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MethodId(u64);

impl MethodId {
    /// From random bytes.
    #[must_use]
    pub fn new(random: [u8; 8]) -> Self {
        Self(u64::from_le_bytes(random))
    }
}

/// A text that names no call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a method call's id is 16 lower-case hexadecimal digits")]
pub struct MethodIdError;

impl FromStr for MethodId {
    type Err = MethodIdError;
    fn from_str(text: &str) -> Result<Self, MethodIdError> {
        let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        match text.len() == 16 && text.as_bytes().iter().all(is_digit) {
            true => u64::from_str_radix(text, 16).map(Self).map_err(|_| MethodIdError),
            false => Err(MethodIdError),
        }
    }
}

impl fmt::Display for MethodId {
    /// 16 lower-case hexadecimal digits: an MQTT `$rid` and an AMQP correlation id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for MethodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A call on its way to the client that has to answer it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodRequest {
    /// To be named in the answer.
    pub id: MethodId,
    /// Which method.
    pub name: MethodName,
    /// JSON text.
    pub payload: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn call(json: &str) -> Result<MethodCall, MethodProblem> {
        MethodCall::from_json(json.as_bytes())
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        for json in [
            r#"{"methodName":"poke"}"#,
            r#"{"methodName":"poke","payload":null,"responseTimeoutInSeconds":null,"connectTimeoutInSeconds":null}"#,
            r#"{"methodName":"poke","timeout":30}"#,
        ] {
            let call = call(json).unwrap();
            assert_eq!(call.name.as_str(), "poke");
            assert_eq!(&*call.payload, b"null");
            assert_eq!(call.response_timeout, Duration::from_secs(30));
            assert_eq!(call.connect_timeout, Duration::ZERO);
        }
    }

    #[test]
    fn the_payload_is_passed_on_as_it_was_written() {
        let call = call(r#"{"payload": {"a" : 1.0, "a": [ ] } ,"methodName":"p"}"#).unwrap();
        assert_eq!(&*call.payload, br#"{"a" : 1.0, "a": [ ] }"#);
    }

    #[test]
    fn values_outside_of_their_ranges_are_named() {
        let timed = |field: &str, seconds: &str| {
            call(&format!(r#"{{"methodName":"p","{field}":{seconds}}}"#)).err()
        };
        for (field, good, bad) in [
            ("responseTimeoutInSeconds", ["5", "300"], ["4", "301", "-1", "0"]),
            ("connectTimeoutInSeconds", ["0", "300"], ["-1", "301", "-9223372036854775808", "999"]),
        ] {
            for seconds in good {
                assert_eq!(timed(field, seconds), None, "{field} {seconds}");
            }
            for seconds in bad {
                let problem = timed(field, seconds).unwrap();
                assert!(matches!(problem, MethodProblem::TimeOut { .. }), "{problem}");
                assert!(problem.to_string().starts_with(field), "{problem}");
            }
            for text in ["\"30\"", "30.5", "true", "1e400", "99999999999999999999"] {
                assert!(matches!(timed(field, text), Some(MethodProblem::Body(_))), "{text}");
            }
        }
        assert!(call(r#"{"payload":1}"#).is_err());
        assert!(call(r#"{"methodName":null}"#).is_err());
        assert!(call("[]").is_err());
    }

    #[test]
    fn a_name_has_1_to_100_characters() {
        assert!("é".repeat(100).parse::<MethodName>().is_ok());
        assert!("é".repeat(101).parse::<MethodName>().is_err());
        assert!("a\nb".parse::<MethodName>().is_err());
        assert_eq!("get".parse::<MethodName>().unwrap().topic_level(), "get");
        assert_eq!("a/b#50%".parse::<MethodName>().unwrap().topic_level(), "a%2Fb%2350%25");
    }

    #[test]
    fn a_payload_has_at_most_128_kib_in_both_directions() {
        let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
        let most = limits::METHOD_PAYLOAD_BYTES;
        for (bytes, fits) in [(most, true), (most + 1, false)] {
            let json = format!(r#"{{"methodName":"p","payload":{}}}"#, text(bytes));
            assert_eq!(call(&json).is_ok(), fits);
            let answer = MethodAnswer { status: 200, payload: text(bytes).into() };
            assert_eq!(answer.checked().is_ok(), fits);
        }
    }

    #[test]
    fn an_answer_is_json_or_nothing() {
        let answer = |payload: &str| {
            let payload = Bytes::copy_from_slice(payload.as_bytes());
            MethodAnswer { status: -1, payload }.checked().map(|answer| answer.to_json())
        };
        assert_eq!(answer("").unwrap(), br#"{"status":-1,"payload":null}"#);
        assert_eq!(answer(" {\"a\":1}\n").unwrap(), br#"{"status":-1,"payload":{"a":1}}"#);
        for text in ["{", "1 2", "\u{feff}1", "nul", "1},\"status\":0"] {
            assert_eq!(answer(text), Err(MethodProblem::PayloadForm), "{text}");
        }
        let broken = MethodAnswer { status: 0, payload: Bytes::from_static(b"\"\xff\"") };
        assert_eq!(broken.checked(), Err(MethodProblem::PayloadForm));
    }

    #[test]
    fn an_id_has_one_spelling() {
        let id = MethodId::new([0xab; 8]);
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "ABABABABABABABAB", "+babababababababa", "abababababababab0", "1"] {
            assert_eq!(text.parse::<MethodId>(), Err(MethodIdError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_call_or_a_problem(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(MethodCall::from_json(&bytes));
            drop(MethodAnswer { status: 0, payload: bytes.into() }.checked());
        }
    }
}
