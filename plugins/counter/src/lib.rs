//! Counts the messages that come through, over restarts and versions.
//!
//! Methods: `stats` answers `{"count": …}`; `reset` begins anew and answers what the count was. With the
//! setting `report` (true) the count of every batch is also in the reported property `count`.

use serde_json::json;
use weir_guest::{
    Annotation, Configuration, Message, Methods, Module, Outcome, Response, export, state, twin,
    warn,
};

const COUNT: &str = "count";

struct Counter {
    reports: bool,
}

impl Module for Counter {
    fn start(configuration: &Configuration) -> Result<Self, String> {
        let reports = configuration.settings()?.get("report").is_some_and(|value| value == true);
        Ok(Self { reports })
    }

    /// Numbers a message.
    fn handle(&mut self, _: Message<'_>) -> Outcome {
        match state::increment(COUNT, 1) {
            Ok(count) => Outcome::Annotate(Annotation {
                output: 0,
                set: vec![("number".to_owned(), count.to_string())],
                unset: Vec::new(),
            }),
            Err(error) => Outcome::retry(&format!("the count cannot be kept: {error:?}")),
        }
    }

    fn handle_batch<'a>(&mut self, batch: impl Iterator<Item = Message<'a>>) -> Vec<Outcome> {
        let outcomes = batch.map(|message| self.handle(message)).collect();
        if self.reports
            && let Err(error) = twin::report(&json!({ COUNT: count() }).to_string())
        {
            warn!("the count is not reported: {error:?}");
        }
        outcomes
    }
}

impl Methods for Counter {
    fn call(&mut self, name: &str, _: &[u8]) -> Response {
        match name {
            "stats" => Response::ok(&json!({ COUNT: count() })),
            "reset" => {
                let before = count();
                match state::delete(COUNT) {
                    Ok(()) => Response::ok(&json!({ "was": before })),
                    Err(error) => Response::error(500, &format!("{error:?}")),
                }
            }
            _ => Response::unknown(name),
        }
    }
}

fn count() -> i64 {
    let kept = state::get(COUNT).ok().flatten().unwrap_or_default();
    String::from_utf8(kept).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

export!(Counter, methods);
