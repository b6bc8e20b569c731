//! Lets messages pass whose number reaches a threshold; drops the others.
//!
//! Settings: `threshold` (default 25), and where the number is: `field`, the index of one of the
//! specification's `fields` (default 0; the hub reads it, which is much faster), or `member`, the
//! name of a member of the JSON body, which is then parsed here. `mark` names a property that is
//! set to `hot` on what passes.

mod body;

use weir_guest::{Configuration, Message, Module, Outcome, export};

struct Filter {
    threshold: f64,
    number: Number,
    mark: Option<String>,
}

enum Number {
    Field(usize),
    Member(String),
}

impl Module for Filter {
    fn start(configuration: &Configuration) -> Result<Self, String> {
        let number = match configuration.text("member")? {
            Some(member) => Number::Member(member),
            None => Number::Field(configuration.number("field")?.unwrap_or(0.0) as usize),
        };
        configuration.outputs.first().ok_or("the filter needs an output")?;
        Ok(Self {
            threshold: configuration.number("threshold")?.unwrap_or(25.0),
            number,
            mark: configuration.text("mark")?,
        })
    }

    fn handle(&mut self, message: Message<'_>) -> Outcome {
        let number = match &self.number {
            Number::Field(field) => message.number(*field),
            Number::Member(member) => body::number(&message.body, member),
        };
        match number {
            Some(number) if number >= self.threshold => match &self.mark {
                Some(mark) => Outcome::annotate(0, mark, "hot"),
                None => Outcome::Pass(0),
            },
            Some(_) | None => Outcome::Drop,
        }
    }
}

export!(Filter);
