//! A message for a route test, from options or a file.

use super::Error;
use serde_json::{Map, Value, json};
use std::io::Read;

/// Options that describe a message.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "The message")]
pub(super) struct SampleArgs {
    /// A file with {source, body, properties, systemProperties}; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["source", "body", "property", "system"])]
    message: Option<String>,
    /// Where it comes from, such as /messages/modules/m/outputs/o
    #[arg(long, value_name = "PATH")]
    source: Option<String>,
    /// Its body; JSON, or any text
    #[arg(long, value_name = "TEXT")]
    body: Option<String>,
    /// An application property; again for more
    #[arg(short, long, value_name = "NAME=VALUE")]
    property: Vec<String>,
    /// A system property, such as contentType=application/json; again for more
    #[arg(short, long, value_name = "NAME=VALUE")]
    system: Vec<String>,
}

impl SampleArgs {
    /// The message in the API's form.
    pub(super) fn message(&self) -> Result<Value, Error> {
        if let Some(file) = &self.message {
            return read_json(file);
        }
        let mut message = json!({ "source": self.source.as_deref().unwrap_or("/messages") });
        if let Some(body) = &self.body {
            let body = serde_json::from_str(body).unwrap_or_else(|_| Value::from(body.as_str()));
            // A query of the body needs JSON's content type, which options would have to repeat.
            message["body"] = body;
        }
        message["properties"] = pairs(&self.property)?;
        message["systemProperties"] = pairs(&self.system)?;
        Ok(message)
    }
}

fn pairs(words: &[String]) -> Result<Value, Error> {
    let mut map = Map::new();
    for word in words {
        let Some((name, value)) = word.split_once('=') else {
            return Err(Error::Usage(format!("{word:?} is not NAME=VALUE")));
        };
        map.insert(name.to_owned(), Value::from(value));
    }
    Ok(Value::from(map))
}

/// JSON out of a file, or standard input for `-`.
pub(super) fn read_json(file: &str) -> Result<Value, Error> {
    let mut text = String::new();
    let read = match file {
        "-" => std::io::stdin().read_to_string(&mut text).map(|_| ()),
        file => std::fs::read_to_string(file).map(|read| text = read),
    };
    read.map_err(|cause| Error::Input { doing: format!("read {file}"), cause })?;
    serde_json::from_str(&text).map_err(|error| Error::Form(format!("{file} is no JSON: {error}")))
}
