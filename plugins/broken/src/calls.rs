//! Methods and desired properties that go wrong as their caller asks.

use crate::{Broken, faults};
use weir_guest::{Configured, Desired, Methods, OutputMessage, Response, hub, state, twin};

impl Methods for Broken {
    /// The name of the method is the fault, or the answer.
    fn call(&mut self, name: &str, body: &[u8]) -> Response {
        let answer = |body: Vec<u8>| Response { status: 200, body };
        match name {
            "echo" => answer(body.to_vec()),
            "nothing" => answer(Vec::new()),
            "effects" => {
                let sent = hub::send(&OutputMessage::new(0, "sent")).is_ok();
                let kept = state::set("called", b"yes", None).is_ok();
                let reported = twin::report(r#"{"called":true}"#).is_ok();
                hub::release(&[7]);
                answer(format!("[{sent},{kept},{reported}]").into_bytes())
            }
            "effects-then-panic" => {
                self.call("effects", body);
                panic!("after effects")
            }
            "not-json" => answer(b"no JSON {".to_vec()),
            "not-utf8" => answer(b"\"\xff\"".to_vec()),
            "largest" => answer(faults::json_text(128 * 1024)),
            "too-large" => answer(faults::json_text(128 * 1024 + 1)),
            "giant" => answer(faults::json_text(8 << 20)),
            "panic" => panic!("the method panics on purpose"),
            "loop" => {
                faults::endless_loop();
                answer(Vec::new())
            }
            "memory" => {
                faults::eat_memory();
                answer(Vec::new())
            }
            _ => Response::unknown(name),
        }
    }
}

impl Configured for Broken {
    /// The desired property `fault` says what goes wrong.
    fn configure(&mut self, desired: &Desired) -> Result<(), String> {
        match desired.text("fault")? {
            Some("refuse") => Err("I do not like them".to_owned()),
            Some("refuse-at-length") => Err("x".repeat(1 << 20)),
            Some("refuse-after-effects") => {
                twin::report(r#"{"tried":true}"#).ok();
                Err("they do not work".to_owned())
            }
            Some("panic") => panic!("desired properties make me panic"),
            Some("loop") => {
                faults::endless_loop();
                Ok(())
            }
            _ => {
                let old = twin::desired().map(|document| document.version);
                let seen = serde_json::json!({
                    "seen": { "version": desired.version, "patch": &desired.patch, "before": old.ok() }
                });
                twin::report(&seen.to_string()).map_err(|error| format!("{error:?}"))
            }
        }
    }
}
