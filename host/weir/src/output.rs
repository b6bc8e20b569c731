//! What the client verbs print: tables for people, the hub's JSON for programs.
//!
//! Texts from the hub may hold anything that a client has sent, so control characters never reach the
//! terminal.

use serde_json::Value;
use std::io::{self, Write};

/// How answers are printed: for people, or as the hub's own JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    #[default]
    Table,
    Json,
}

/// Where a verb prints: answers to one side, progress and notes to the other.
pub struct Console<'a> {
    format: Format,
    out: &'a mut dyn Write,
    notes: &'a mut dyn Write,
    /// The notes go to a terminal, so a line may be drawn again.
    redraw: bool,
}

/// A column of a table: its title, and where its value stands in an item (JSON Pointer).
pub type Column = (&'static str, &'static str);

impl<'a> Console<'a> {
    /// Prints to `out`, with notes to `notes`.
    pub fn new(
        format: Format,
        out: &'a mut dyn Write,
        notes: &'a mut dyn Write,
        redraw: bool,
    ) -> Self {
        Self { format, out, notes, redraw }
    }

    /// True when the hub's JSON is wanted.
    #[must_use]
    pub fn wants_json(&self) -> bool {
        self.format == Format::Json
    }

    /// One line of the answer.
    ///
    /// # Errors
    /// When it cannot be written; so for all of these.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{}", printable(text))
    }

    /// Several lines.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn block(&mut self, text: &str) -> io::Result<()> {
        text.lines().try_for_each(|line| self.line(line))
    }

    /// Bytes as they stand.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// The answer as JSON.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn json(&mut self, value: &Value) -> io::Result<()> {
        writeln!(self.out, "{value:#}")
    }

    /// A sentence beside the answer.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.notes, "{}", printable(text))
    }

    /// A list: its JSON, or a table of `columns`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn list(&mut self, columns: &[Column], items: &[Value]) -> io::Result<()> {
        if self.wants_json() {
            return self.json(&Value::from(items.to_vec()));
        }
        let cells =
            items.iter().map(|item| columns.iter().map(|(_, from)| cell(item, from)).collect());
        let titles: Vec<&str> = columns.iter().map(|(title, _)| *title).collect();
        self.table(&titles, &cells.collect::<Vec<_>>())
    }

    /// A table with aligned columns; columns of numbers stand to the right.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn table(&mut self, titles: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([titles[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..titles.len()).map(width).collect();
        let numeric: Vec<bool> = (0..titles.len())
            .map(|column| {
                let mut cells = rows.iter().map(|row| row[column].as_str()).filter(|c| *c != "-");
                cells.clone().next().is_some() && cells.all(is_number)
            })
            .collect();
        let titles: Vec<String> = titles.iter().map(|title| (*title).to_owned()).collect();
        for row in std::iter::once(&titles).chain(&rows) {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let pad = " ".repeat(widths[column] - cell.chars().count());
                let (before, after) =
                    if numeric[column] { (pad.as_str(), "") } else { ("", pad.as_str()) };
                line += &format!("{before}{cell}{after}  ");
            }
            writeln!(self.out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    /// One thing: its JSON, or each of its members on a line of its own.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn thing(&mut self, value: &Value) -> io::Result<()> {
        if self.wants_json() {
            return self.json(value);
        }
        let mut members = Vec::new();
        flatten(value, String::new(), &mut members);
        let width = members.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, text) in members {
            self.line(&format!("{name:width$}  {text}"))?;
        }
        Ok(())
    }

    /// Progress of an upload: drawn over itself on a terminal, silent otherwise until the end.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn progress(&mut self, what: &str, done: u64, total: u64) -> io::Result<()> {
        let percent = (done * 100).checked_div(total).unwrap_or(100);
        if self.redraw {
            write!(self.notes, "\r{} {percent:3} %", printable(what))?;
            if done >= total {
                writeln!(self.notes)?;
            }
            self.notes.flush()
        } else {
            Ok(())
        }
    }
}

/// A text without control characters.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The text at a JSON Pointer; `-` where it leads nowhere.
#[must_use]
pub fn cell(item: &Value, pointer: &str) -> String {
    text(item.pointer(pointer).unwrap_or(&Value::Null))
}

/// A JSON value as people read it.
#[must_use]
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        Value::Object(_) => value.to_string(),
    }
}

fn flatten(value: &Value, path: String, members: &mut Vec<(String, String)>) {
    match value {
        Value::Object(object) if !object.is_empty() => {
            for (name, value) in object {
                let dot = if path.is_empty() { "" } else { "." };
                flatten(value, format!("{path}{dot}{name}"), members);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (at, item) in items.iter().enumerate() {
                flatten(item, format!("{path}[{at}]"), members);
            }
        }
        other => members.push((path, text(other))),
    }
}

fn is_number(cell: &str) -> bool {
    cell.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn printed(format: Format, print: impl FnOnce(&mut Console<'_>) -> io::Result<()>) -> String {
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        print(&mut Console::new(format, &mut out, &mut notes, false)).unwrap();
        String::from_utf8(out).unwrap()
    }

    const COLUMNS: &[Column] = &[("NAME", "/name"), ("MESSAGES", "/usage/messages")];

    #[test]
    fn columns_are_aligned_and_numbers_stand_to_the_right() {
        let items = [
            json!({"name": "é", "usage": {"messages": 7}}),
            json!({"name": "long", "usage": {"messages": 1234}}),
        ];
        let table = printed(Format::Table, |console| console.list(COLUMNS, &items));
        assert_eq!(table, "NAME  MESSAGES\né            7\nlong      1234\n");
    }

    #[test]
    fn an_empty_list_is_its_titles() {
        assert_eq!(
            printed(Format::Table, |console| console.list(COLUMNS, &[])),
            "NAME  MESSAGES\n"
        );
        assert_eq!(printed(Format::Json, |console| console.list(COLUMNS, &[])), "[]\n");
    }

    #[test]
    fn a_clients_text_cannot_move_the_cursor() {
        let items = [json!({"name": "\u{1b}[2J\nx"})];
        let table = printed(Format::Table, |console| console.list(&COLUMNS[..1], &items));
        assert_eq!(table, "NAME\n\u{fffd}[2J\u{fffd}x\n");
    }

    #[test]
    fn a_thing_is_one_member_a_line() {
        let thing = json!({"name": "f", "limits": {"memory": "64Mi"}, "inputs": ["a", "b"], "runs": [{"n": 1}]});
        let shown = printed(Format::Table, |console| console.thing(&thing));
        assert_eq!(
            shown,
            "inputs         a, b\nlimits.memory  64Mi\nname           f\nruns[0].n      1\n"
        );
    }
}
