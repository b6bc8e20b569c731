//! Shared access signatures: the text of a token, what it is for and how long it holds.
//!
//! `SharedAccessSignature sr={resource}&sig={signature}&se={expiry}[&skn={policy}]`. Read by
//! `weir_hub::authenticate`, which checks the signature; this crate has no cryptography. Invariant: the
//! resource is signed exactly as it was sent, still percent-encoded, because clients encode it in
//! different ways.

use crate::clock::Timestamp;
use crate::id::Identity;
use crate::limits;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::borrow::Cow;
use std::fmt;

const SCHEME: &str = "SharedAccessSignature";

/// A token's parts. Nothing is proven yet.
#[derive(Clone, PartialEq, Eq)]
pub struct SasToken<'a> {
    resource: &'a str,
    signature: [u8; 32],
    expiry: &'a str,
    expires: Timestamp,
    policy: Option<Cow<'a, str>>,
}

/// A text that is no token. The text is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SasError {
    /// Not `SharedAccessSignature` and one group of fields.
    #[error("the token is not of the form SharedAccessSignature sr=…&sig=…&se=…")]
    Form,
    /// A field is missing.
    #[error("the token has no {0}")]
    Missing(&'static str),
    /// A field is there twice.
    #[error("the token has {0} twice")]
    Twice(&'static str),
    /// The signature is not the base64 of 32 bytes.
    #[error("the token's sig is not the base64 of 32 bytes")]
    Signature,
    /// The expiry is no number of seconds.
    #[error("the token's se is not a number of seconds")]
    Expiry,
    /// The resource is not that of a device or module.
    #[error("the token's sr is not of the form host/devices/device[/modules/module]")]
    Audience,
}

impl<'a> SasToken<'a> {
    /// Reads a token. Field names may be in any case and order; unknown fields are ignored.
    ///
    /// # Errors
    /// [`SasError`].
    pub fn parse(text: &'a str) -> Result<Self, SasError> {
        let mut parts = text.split_whitespace();
        let (Some(SCHEME), Some(fields), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err(SasError::Form);
        };
        let mut found: [(&'static str, Option<&str>); 4] =
            [("sr", None), ("sig", None), ("se", None), ("skn", None)];
        for (name, value) in fields.split('&').filter_map(|field| field.split_once('=')) {
            let slot = found.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name));
            if let Some((known, slot)) = slot
                && slot.replace(value).is_some()
            {
                return Err(SasError::Twice(known));
            }
        }
        let [resource, signature, expiry, (_, policy)] = found;
        let needed = |(name, value): (&'static str, Option<&'a str>)| {
            value.filter(|value| !value.is_empty()).ok_or(SasError::Missing(name))
        };
        let expiry = needed(expiry)?;
        Ok(Self {
            resource: needed(resource)?,
            signature: signature_bytes(needed(signature)?)?,
            expiry,
            expires: expiry_time(expiry)?,
            policy: policy.map(|policy| percent_decode_str(policy).decode_utf8_lossy()),
        })
    }

    /// The resource as received, still percent-encoded.
    #[must_use]
    pub fn resource(&self) -> &'a str {
        self.resource
    }

    /// The claimed signature, to be compared with that of [`Self::string_to_sign`].
    #[must_use]
    pub fn signature(&self) -> &[u8; 32] {
        &self.signature
    }

    /// The policy whose key signed; devices and modules name none.
    #[must_use]
    pub fn policy(&self) -> Option<&str> {
        self.policy.as_deref()
    }

    /// When the token ends by its own word.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// Until when a connection may stand that is proven now by this token; none when it has ended.
    ///
    /// A token counts for [`limits::TOKEN_SKEW`] longer than it says, for clients whose clock is late.
    /// A connection still ends at the token's own expiry, which the SDKs never wait for; only one that
    /// began after it may use the grace.
    #[must_use]
    pub fn holds_until(&self, now: Timestamp) -> Option<Timestamp> {
        let grace = self.expires.after(limits::TOKEN_SKEW);
        match now {
            now if now < self.expires => Some(self.expires),
            now if now <= grace => Some(grace),
            _ => None,
        }
    }

    /// The text that the signature is made over.
    #[must_use]
    pub fn string_to_sign(&self) -> String {
        string_to_sign(self.resource, self.expiry)
    }

    /// True when a service client's token opens `path` of a hub that is called one of `hosts`: its
    /// resource is the hub's name, or that name and the first segments of the paths that it opens (IoT
    /// Hub: "URI prefix, by segment").
    #[must_use]
    pub fn covers(&self, hosts: &[&str], path: &str) -> bool {
        let Ok(resource) = percent_decode_str(self.resource).decode_utf8() else { return false };
        let Ok(path) = percent_decode_str(path).decode_utf8() else { return false };
        let mut wanted = resource.trim().trim_end_matches('/').split('/');
        let host = wanted.next().unwrap_or_default();
        let mut segments = path.trim_start_matches('/').split('/');
        hosts.iter().any(|name| is(name, host))
            && wanted.all(|segment| segments.next() == Some(segment))
    }

    /// What the token is for.
    ///
    /// # Errors
    /// [`SasError::Audience`].
    pub fn audience(&self) -> Result<Audience, SasError> {
        Audience::parse(self.resource)
    }
}

impl fmt::Debug for SasToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resource, expires, policy, .. } = self;
        write!(f, "SasToken({resource:?}, until {expires}, policy {policy:?})")
    }
}

/// The text that is signed for a resource (percent-encoded) and an expiry (seconds).
#[must_use]
pub fn string_to_sign(resource: &str, expiry: &str) -> String {
    format!("{resource}\n{expiry}")
}

/// The text of a token.
#[must_use]
pub fn token_text(resource: &str, signature: &[u8], expiry: &str, policy: Option<&str>) -> String {
    let signature = STANDARD.encode(signature);
    let signature = utf8_percent_encode(&signature, ENCODED);
    let mut text = format!("{SCHEME} sr={resource}&sig={signature}&se={expiry}");
    if let Some(policy) = policy {
        text.push_str("&skn=");
        text.extend(utf8_percent_encode(policy, ENCODED));
    }
    text
}

const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The resource of an identity, percent-encoded as in a token: `{host}%2Fdevices%2F{device}…`.
#[must_use]
pub fn resource_of(host: &str, identity: &Identity) -> String {
    let Identity { device, module } = identity;
    let plain = match module {
        Some(module) => format!("{host}/devices/{device}/modules/{module}"),
        None => format!("{host}/devices/{device}"),
    };
    utf8_percent_encode(&plain, ENCODED).to_string()
}

fn signature_bytes(text: &str) -> Result<[u8; 32], SasError> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| SasError::Signature)?;
    let bytes = STANDARD.decode(text.as_bytes()).map_err(|_| SasError::Signature)?;
    bytes.try_into().map_err(|_| SasError::Signature)
}

fn expiry_time(text: &str) -> Result<Timestamp, SasError> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(SasError::Expiry);
    }
    text.parse().map(Timestamp::from_secs).map_err(|_| SasError::Expiry)
}

/// What a token is for: a host, and a device or module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audience {
    host: String,
    device: String,
    module: Option<String>,
}

/// Whose key a token must be signed with to prove an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// The identity's own.
    Own,
    /// The key of the device that the module belongs to: a device speaks for its modules.
    Device,
}

impl Audience {
    /// Reads a resource, which is percent-encoded: host, `devices`, device, and for a module `modules`
    /// and its id; nothing more and nothing less.
    ///
    /// # Errors
    /// [`SasError::Audience`].
    pub fn parse(resource: &str) -> Result<Self, SasError> {
        let text = percent_decode_str(resource).decode_utf8().map_err(|_| SasError::Audience)?;
        let parts: Vec<&str> = text.trim().split('/').collect();
        let (host, device, module) = match parts[..] {
            [host, devices, device] if is(devices, "devices") => (host, device, None),
            [host, devices, device, modules, module]
                if is(devices, "devices") && is(modules, "modules") =>
            {
                (host, device, Some(module))
            }
            _ => return Err(SasError::Audience),
        };
        if host.is_empty() || device.is_empty() || module == Some("") {
            return Err(SasError::Audience);
        }
        let (host, device) = (host.to_owned(), device.to_owned());
        Ok(Self { host, device, module: module.map(str::to_owned) })
    }

    /// The identity that it names; none when a name is not an id.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        let device = self.device.parse().ok()?;
        match &self.module {
            None => Some(Identity::device(device)),
            Some(module) => Some(Identity::module(device, module.parse().ok()?)),
        }
    }

    /// True when the host is one of `names`, without regard to case.
    #[must_use]
    pub fn is_for_host(&self, names: &[&str]) -> bool {
        names.iter().any(|name| is(&self.host, name))
    }

    /// Whose token this is for `identity`; none when it is for another.
    #[must_use]
    pub fn signer_for(&self, identity: &Identity) -> Option<Signer> {
        if !is(&self.device, identity.device.as_str()) {
            return None;
        }
        match (&self.module, &identity.module) {
            (None, None) => Some(Signer::Own),
            (Some(named), Some(own)) => is(named, own.as_str()).then_some(Signer::Own),
            (None, Some(_)) => Some(Signer::Device),
            (Some(_), None) => None,
        }
    }
}

/// As IoT Edge compares names in an audience. The key decides; the name only says which key.
fn is(text: &str, name: &str) -> bool {
    text.eq_ignore_ascii_case(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const SIG: &str = "%2FizYH%2B3llhUcKn8%2BXNcM3%2BZYkWubYRiohJ15yPxN%2BxY%3D";

    fn token(fields: &str) -> Result<SasToken<'static>, SasError> {
        SasToken::parse(Box::leak(format!("SharedAccessSignature {fields}").into_boxed_str()))
    }

    fn audience(resource: &str) -> Audience {
        Audience::parse(resource).unwrap()
    }

    fn module() -> Identity {
        Identity::module("d1".parse().unwrap(), "m1".parse().unwrap())
    }

    #[test]
    fn fields_are_read_in_any_order_and_case() {
        let python = token(&format!("sr=h%2fdevices%2Fd1&sig={SIG}&se=100")).unwrap();
        let node = token(&format!("SE=100&Sig={SIG}&other=1&sR=h%2fdevices%2Fd1")).unwrap();
        assert_eq!(python, node);
        assert_eq!(python.string_to_sign(), "h%2fdevices%2Fd1\n100");
        assert_eq!(python.expires(), Timestamp::from_secs(100));
        let service = token(&format!("sr=h&sig={SIG}&skn=iothub%6Fwner&se=100")).unwrap();
        assert_eq!(service.policy(), Some("iothubowner"));
    }

    #[test]
    fn a_signature_may_have_plain_plus_signs() {
        let plain = token("sr=h&sig=/izYH+3llhUcKn8+XNcM3+ZYkWubYRiohJ15yPxN+xY=&se=1").unwrap();
        let encoded = token(&format!("sr=h&sig={SIG}&se=1")).unwrap();
        assert_eq!(plain.signature(), encoded.signature());
    }

    #[test]
    fn what_is_no_token_is_refused_with_its_reason() {
        for (fields, expected) in [
            (format!("sig={SIG}&se=1"), SasError::Missing("sr")),
            (format!("sr=&sig={SIG}&se=1"), SasError::Missing("sr")),
            ("sr=h&se=1".to_owned(), SasError::Missing("sig")),
            (format!("sr=h&sig={SIG}"), SasError::Missing("se")),
            (format!("sr=h&SR=h&sig={SIG}&se=1"), SasError::Twice("sr")),
            ("sr=h&sig=test&se=1".to_owned(), SasError::Signature),
            ("sr=h&sig=%ff&se=1".to_owned(), SasError::Signature),
            (format!("sr=h&sig={SIG}&se=-1"), SasError::Expiry),
            (format!("sr=h&sig={SIG}&se=99999999999999999999"), SasError::Expiry),
            (format!("sr=h&sig={SIG}&se=1 more"), SasError::Form),
        ] {
            assert_eq!(token(&fields), Err(expected), "{fields}");
        }
        let wrong_scheme = format!("Bearer sr=h&sig={SIG}&se=1");
        assert_eq!(SasToken::parse(&wrong_scheme), Err(SasError::Form));
    }

    #[test]
    fn a_token_holds_until_its_expiry_and_is_taken_five_minutes_longer() {
        let token = token(&format!("sr=h&sig={SIG}&se=1000")).unwrap();
        let at = |secs| token.holds_until(Timestamp::from_secs(secs)).map(Timestamp::as_secs);
        assert_eq!(at(0), Some(1000));
        assert_eq!(at(999), Some(1000));
        assert_eq!(at(1000), Some(1300));
        assert_eq!(at(1300), Some(1300));
        assert_eq!(at(1301), None);
        let late = Timestamp::from_secs(1300).after(Duration::from_micros(1));
        assert_eq!(token.holds_until(late), None);
    }

    #[test]
    fn a_token_of_the_device_is_good_for_its_modules_and_no_other() {
        let device = Identity::device("d1".parse().unwrap());
        let of_device = audience("h/devices/d1");
        assert_eq!(of_device.signer_for(&device), Some(Signer::Own));
        assert_eq!(of_device.signer_for(&module()), Some(Signer::Device));
        let of_module = audience("h%2Fdevices%2FD1%2Fmodules%2FM1");
        assert_eq!(of_module.signer_for(&module()), Some(Signer::Own));
        assert_eq!(of_module.signer_for(&device), None);
        assert_eq!(audience("h/devices/d2").signer_for(&module()), None);
        assert_eq!(audience("h/devices/d1/modules/m2").signer_for(&module()), None);
    }

    #[test]
    fn hosts_are_compared_whole_and_without_regard_to_case() {
        let audience = audience("Hub.Example/devices/d1");
        assert!(audience.is_for_host(&["gateway", "hub.example"]));
        assert!(!audience.is_for_host(&["hub", "hub.example.org", ""]));
    }

    #[test]
    fn only_the_two_forms_of_a_resource_are_taken() {
        for resource in [
            "",
            "h",
            "h/devices",
            "h/devices/",
            "/devices/d1",
            "h/things/d1",
            "h/devices/d1/",
            "h/devices/d1/modules",
            "h/devices/d1/modules/",
            "h/devices/d1/things/m1",
            "h/devices/d1/modules/m1/x",
            "%ff/devices/d1",
        ] {
            assert_eq!(Audience::parse(resource), Err(SasError::Audience), "{resource}");
        }
    }

    #[test]
    fn a_service_token_covers_its_hub_or_the_paths_below_it() {
        let covers = |resource: &str, path: &str| {
            let token = token(&format!("sr={resource}&sig={SIG}&se=1")).unwrap();
            token.covers(&["gw", "hub.example"], path)
        };
        for resource in ["gw", "Hub.Example", "hub.example/", "gw%2f"] {
            assert!(covers(resource, "/devices/d1"), "{resource}");
        }
        assert!(covers("gw%2Fdevices%2Fd1", "/devices/d1"));
        assert!(covers("gw%2Fdevices%2Fd1", "/devices/d1/modules"));
        assert!(covers("gw%2Fdevices%2Fa%24b", "/devices/a%24b"));
        for (resource, path) in [
            ("other", "/devices"),
            ("%20", "/devices"),
            ("gw.evil", "/devices"),
            ("gw/devices/d1", "/devices/d10"),
            ("gw/devices/d1", "/devices"),
            ("gw/devices/D1", "/devices/d1"),
            ("gw/twins", "/devices/d1"),
            ("%ff", "/devices"),
        ] {
            assert!(!covers(resource, path), "{resource} {path}");
        }
    }

    #[test]
    fn a_token_is_not_printed_with_its_signature() {
        let printed = format!("{:?}", token(&format!("sr=h&sig={SIG}&se=1")).unwrap());
        assert_eq!(printed, "SasToken(\"h\", until 1970-01-01T00:00:01Z, policy None)");
    }

    proptest! {
        #[test]
        fn a_token_that_was_written_reads_back(signature: [u8; 32], expiry in 0u32.., policy in proptest::option::of("[a-z&= ]{1,9}")) {
            let resource = resource_of("hub.example", &module());
            let text = token_text(&resource, &signature, &expiry.to_string(), policy.as_deref());
            let token = SasToken::parse(&text).unwrap();
            prop_assert_eq!(token.resource(), &resource);
            prop_assert_eq!(token.signature(), &signature);
            prop_assert_eq!(token.expires(), Timestamp::from_secs(i64::from(expiry)));
            prop_assert_eq!(token.policy(), policy.as_deref());
            prop_assert_eq!(token.audience().unwrap().signer_for(&module()), Some(Signer::Own));
        }

        #[test]
        fn any_text_is_read_or_refused_but_never_panics(text in any::<String>(), fields in "[srsigse=&%/0-9 ]{0,40}") {
            drop(SasToken::parse(&text));
            drop(SasToken::parse(&format!("SharedAccessSignature {fields}")));
            drop(Audience::parse(&text));
        }
    }
}
