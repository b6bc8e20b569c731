//! A module's twin as the module sees it: the desired properties that are in force for it, its reported
//! properties with what it has reported and nobody has committed yet, and a journal that undoes a call
//! which failed.
//!
//! As with `module_state`, the patches of a call come out as a list that the store commits with the
//! batch; when a commit fails the hub loads the twin anew.

use crate::clock::Timestamp;
use crate::limits;
use crate::port::DesiredChange;
use crate::twin::{self, Patch, Problem, Properties, Section, TwinProblem};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Where the hub writes among a module's reported properties which desired ones the module has refused:
/// `{"refused": 7, "inForce": 5, "reason": "…"}`. It goes when later ones hold. The module cannot
/// report it.
pub const REFUSAL: &str = "weir-desired";

/// Of the reason of a refusal so much is kept.
const REASON_BYTES: usize = 1024;

/// Why a report is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// Not JSON, or against the rules of twins.
    #[error("{0}")]
    Invalid(TwinProblem),
    /// The member [`REFUSAL`].
    #[error("/{REFUSAL}: the hub writes it")]
    Reserved,
    /// The patch, or the reported properties after it.
    #[error("{0}")]
    TooLarge(TwinProblem),
    /// More reports than a call may make.
    #[error("a call may report {} times", limits::MODULE_REPORTS)]
    TooMany,
}

/// Desired properties that hold for a module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InForce {
    /// The properties.
    pub value: Map<String, Value>,
    /// Their version.
    pub version: u64,
}

impl Default for InForce {
    /// Those of a twin that nobody has written to.
    fn default() -> Self {
        Self::from(&Properties::default())
    }
}

impl From<&Properties> for InForce {
    fn from(desired: &Properties) -> Self {
        Self { value: desired.value.clone(), version: desired.version }
    }
}

impl InForce {
    /// What a module is told so that `wanted` hold.
    #[must_use]
    pub fn change_to(&self, wanted: &Self) -> DesiredChange {
        DesiredChange {
            version: wanted.version,
            patch: text(&twin::diff(&self.value, &wanted.value)),
            desired: text(&wanted.value),
        }
    }
}

/// The twin, and the journal of the call under way.
#[derive(Debug, Clone, Default)]
pub struct ModuleTwin {
    in_force: Arc<InForce>,
    reported: Arc<Properties>,
    /// Reports of the call under way.
    patches: Vec<Patch>,
    /// The reported properties before the first of them.
    before: Option<Arc<Properties>>,
}

impl ModuleTwin {
    /// From the desired properties in force and the reported ones that the store has.
    #[must_use]
    pub fn new(in_force: Arc<InForce>, reported: Arc<Properties>) -> Self {
        Self { in_force, reported, patches: Vec::new(), before: None }
    }

    /// The desired properties in force.
    #[must_use]
    pub fn in_force(&self) -> &Arc<InForce> {
        &self.in_force
    }

    /// From now on these hold.
    pub fn put_in_force(&mut self, desired: Arc<InForce>) {
        self.in_force = desired;
    }

    /// The desired properties in force, as a JSON object.
    #[must_use]
    pub fn desired_json(&self) -> String {
        text(&self.in_force.value)
    }

    /// The reported properties, those that are not committed yet included.
    #[must_use]
    pub fn reported(&self) -> &Arc<Properties> {
        &self.reported
    }

    /// These are what the module has reported.
    pub fn put_reported(&mut self, reported: Arc<Properties>) {
        self.reported = reported;
    }

    /// The same as a JSON object.
    #[must_use]
    pub fn reported_json(&self) -> String {
        text(&self.reported.value)
    }

    /// Merges a JSON merge patch into the reported properties.
    ///
    /// # Errors
    /// [`ReportError`]; nothing has changed then.
    pub fn report(&mut self, patch: &[u8], now: Timestamp) -> Result<(), ReportError> {
        if self.patches.len() >= limits::MODULE_REPORTS {
            return Err(ReportError::TooMany);
        }
        let patch = Patch::parse(Section::Reported, patch)?;
        if patch.as_map().contains_key(REFUSAL) {
            return Err(ReportError::Reserved);
        }
        let reported = self.reported.merged(Section::Reported, &patch, now)?;
        let before = std::mem::replace(&mut self.reported, Arc::new(reported));
        self.before.get_or_insert(before);
        self.patches.push(patch);
        Ok(())
    }

    /// Ends a call that went well: its reports, in order.
    pub fn commit(&mut self) -> Vec<Patch> {
        self.before = None;
        std::mem::take(&mut self.patches)
    }

    /// Undoes the call under way.
    pub fn rollback(&mut self) {
        if let Some(before) = self.before.take() {
            self.reported = before;
        }
        self.patches.clear();
    }

    /// Notes that desired properties of this version were refused; the patch is to be committed. None when
    /// the reported properties have no room for it.
    pub fn note_refusal(&mut self, version: u64, reason: &str, now: Timestamp) -> Option<Patch> {
        let reason = &reason[..reason.floor_char_boundary(REASON_BYTES)];
        let note =
            json!({ "refused": version, "inForce": self.in_force.version, "reason": reason });
        self.note(note, now)
    }

    /// Takes the note of a refusal away, if there is one; the patch is to be committed.
    pub fn clear_refusal(&mut self, now: Timestamp) -> Option<Patch> {
        let noted = self.reported.value.contains_key(REFUSAL);
        noted.then(|| self.note(Value::Null, now)).flatten()
    }

    fn note(&mut self, note: Value, now: Timestamp) -> Option<Patch> {
        let to = Map::from_iter([(REFUSAL.to_owned(), note)]);
        let patch = Patch::between(&Map::new(), &to);
        self.reported = Arc::new(self.reported.merged(Section::Reported, &patch, now).ok()?);
        Some(patch)
    }
}

fn text(value: &Map<String, Value>) -> String {
    serde_json::to_string(value).expect("an object with text keys")
}

impl From<TwinProblem> for ReportError {
    fn from(problem: TwinProblem) -> Self {
        match problem.problem {
            Problem::Size { .. } | Problem::Document => Self::TooLarge(problem),
            _ => Self::Invalid(problem),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000);

    fn twin(reported: &str) -> ModuleTwin {
        let value = serde_json::from_str(reported).unwrap();
        let reported = Properties { value, version: 4, ..Properties::default() };
        ModuleTwin::new(Arc::default(), Arc::new(reported))
    }

    #[test]
    fn a_module_sees_its_reports_before_they_are_committed_and_a_failed_call_leaves_none() {
        let mut twin = twin(r#"{"a":1,"b":{"c":2}}"#);
        twin.report(br#"{"b":{"c":null,"d":3}}"#, NOW).unwrap();
        assert_eq!(twin.reported_json(), r#"{"a":1,"b":{"d":3}}"#);
        assert_eq!(twin.commit().len(), 1);
        twin.report(br#"{"a":null}"#, NOW).unwrap();
        twin.report(br#"{"b":7}"#, NOW).unwrap();
        assert_eq!((twin.reported_json().as_str(), twin.reported().version), (r#"{"b":7}"#, 7));
        twin.rollback();
        let left = (twin.reported_json(), twin.reported().version);
        assert_eq!(left, (r#"{"a":1,"b":{"d":3}}"#.to_owned(), 5));
        assert_eq!(twin.commit(), []);
    }

    #[test]
    fn a_report_that_is_refused_changes_nothing() {
        let mut twin = twin("{}");
        let large = format!(r#"{{"a":["{0}","{0}","{0}","{0}","{0}"]}}"#, "x".repeat(4_000));
        twin.report(large.as_bytes(), NOW).unwrap();
        let before = twin.reported_json();
        let more = large.replace("\"a\"", "\"b\"");
        assert!(matches!(twin.report(more.as_bytes(), NOW), Err(ReportError::TooLarge(_))));
        for invalid in ["", "7", "{", r#"{"a.b":1}"#, r#"{"$version":1,"a":[null]}"#] {
            let found = twin.report(invalid.as_bytes(), NOW);
            assert!(matches!(found, Err(ReportError::Invalid(_))), "{invalid}");
        }
        let forged = br#"{"weir-desired":{"refused":1}}"#;
        assert_eq!(twin.report(forged, NOW), Err(ReportError::Reserved));
        assert_eq!(twin.reported_json(), before);
        assert_eq!(twin.commit().len(), 1);
    }

    #[test]
    fn a_call_reports_so_often_and_no_more() {
        let mut twin = twin("{}");
        for _ in 0..limits::MODULE_REPORTS {
            twin.report(b"{}", NOW).unwrap();
        }
        assert_eq!(twin.report(b"{}", NOW), Err(ReportError::TooMany));
        twin.commit();
        assert_eq!(twin.report(b"{}", NOW), Ok(()));
    }

    #[test]
    fn a_change_leads_from_what_is_in_force_to_what_is_wanted() {
        let of =
            |text: &str, version| InForce { value: serde_json::from_str(text).unwrap(), version };
        let change = of(r#"{"a":1,"b":{"c":2}}"#, 5).change_to(&of(r#"{"b":{"d":3}}"#, 9));
        assert_eq!(change.version, 9);
        assert_eq!(change.patch, r#"{"a":null,"b":{"c":null,"d":3}}"#);
        assert_eq!(change.desired, r#"{"b":{"d":3}}"#);
    }

    #[test]
    fn the_note_of_a_refusal_is_within_the_rules_of_twins_and_goes_again() {
        let mut twin = twin(r#"{"a":1}"#);
        let patch = twin.note_refusal(7, &"é".repeat(3_000), NOW).unwrap();
        assert_eq!(Patch::parse(Section::Reported, &patch.to_json()).as_ref(), Ok(&patch));
        assert!(twin.reported_json().contains(r#""inForce":1"#));
        assert!(twin.clear_refusal(NOW).is_some());
        assert_eq!(twin.reported_json(), r#"{"a":1}"#);
        assert_eq!(twin.clear_refusal(NOW), None);
    }
}
