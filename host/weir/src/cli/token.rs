//! `weir token`: tokens of the REST API.

use super::{Error, HubArgs};
use crate::client::{self, Client, paths};
use crate::output::{Column, Console, cell};
use serde_json::{Value, json};

/// Arguments of `weir token`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  weir token create ci --scope modules:write --scope artifacts:write --expires 90d > ci.token
  weir token list
  weir token show 3f9a0c1b7d2e4f60
  weir token delete 3f9a0c1b7d2e4f60")]
pub struct TokenArgs {
    #[command(flatten)]
    pub(super) hub: HubArgs,
    #[command(subcommand)]
    pub(super) verb: TokenVerb,
}

/// What is done with tokens.
#[derive(Debug, clap::Subcommand)]
pub(super) enum TokenVerb {
    /// List the tokens, without their secrets
    List,
    /// Show a token, without its secret
    Show {
        /// Its id: what stands between the underscores
        id: String,
    },
    /// Make a token; it is printed this once
    Create {
        /// For people
        name: String,
        /// What it allows: AREA:read, AREA:write or AREA:admin; AREA is system, metrics, tokens,
        /// devices, service, clients, modules, artifacts, routes, queues, messages, upstream or *
        #[arg(long, value_name = "SCOPE", required = true)]
        scope: Vec<String>,
        /// When it ends: 90d, 12h, 30m or 45s from now; never when it is left out
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        expires: Option<u64>,
    },
    /// Delete a token; it is refused from then on
    Delete {
        /// Its id: what stands between the underscores
        id: String,
    },
}

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("NAME", "/name"),
    ("SCOPES", "/scopes"),
    ("CREATED", "/created"),
    ("EXPIRES", "/expires"),
    ("LAST USED", "/lastUsed"),
];

impl TokenVerb {
    pub(super) async fn run(self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        match self {
            Self::List => Ok(console.list(COLUMNS, &hub.list(&paths::tokens(), None).await?)?),
            Self::Show { id } => Ok(console.thing(&hub.get(&paths::token(&id)).await?.body)?),
            Self::Create { name, scope, expires } => {
                let mut body = json!({ "name": name, "scopes": scope });
                if let Some(expires) = expires {
                    body["expiresInSecs"] = expires.into();
                }
                let answer = hub.post(&paths::tokens(), &body).await?.body;
                if console.wants_json() {
                    return Ok(console.json(&answer)?);
                }
                let token = answer.get("token").and_then(Value::as_str);
                console.line(token.ok_or(client::Error::Form)?)?;
                let id = cell(&answer, "/id");
                Ok(console.note(&format!("token {id}; its text is shown this once"))?)
            }
            Self::Delete { id } => {
                hub.delete(&paths::token(&id)).await?;
                Ok(console.note(&format!("token {id} is gone"))?)
            }
        }
    }
}

/// `90d`, `12h`, `30m`, `45s` in seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || "write 90d, 12h, 30m or 45s".to_owned();
    let unit = text.chars().last().and_then(|unit| match unit {
        'd' => Some(24 * 60 * 60),
        'h' => Some(60 * 60),
        'm' => Some(60),
        's' => Some(1),
        _ => None,
    });
    let unit: u64 = unit.ok_or_else(wrong)?;
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number.checked_mul(unit).filter(|seconds| *seconds > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_with_a_unit() {
        assert_eq!(seconds("90d"), Ok(7_776_000));
        assert_eq!(seconds("45s"), Ok(45));
        for text in
            ["", "d", "90", "-1d", "0s", "9é", "99999999999999999999d", "999999999999999999d"]
        {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
