//! Adds properties to every message: those of the setting `set`, an object of texts.
//!
//! With `sender-as` it also writes the sending device under that name; the specification must then
//! ask for the system property `connectionDeviceId`.

use weir_guest::{Annotation, Configuration, Message, Module, Outcome, export};

struct Enrich {
    set: Vec<(String, String)>,
    sender_as: Option<String>,
}

impl Module for Enrich {
    fn start(configuration: &Configuration) -> Result<Self, String> {
        let settings = configuration.settings()?;
        let mut set = Vec::new();
        for (name, value) in
            settings.get("set").and_then(|set| set.as_object()).into_iter().flatten()
        {
            let value =
                value.as_str().ok_or_else(|| format!("settings.set.{name} is not a text"))?;
            set.push((name.clone(), value.to_owned()));
        }
        Ok(Self { set, sender_as: configuration.text("sender-as")? })
    }

    fn handle(&mut self, message: Message<'_>) -> Outcome {
        let mut set = self.set.clone();
        if let Some((name, sender)) =
            self.sender_as.as_ref().zip(message.system("connectionDeviceId"))
        {
            set.push((name.clone(), sender.to_owned()));
        }
        Outcome::Annotate(Annotation { output: 0, set, unset: Vec::new() })
    }
}

export!(Enrich);
