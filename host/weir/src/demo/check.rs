//! The judge: compares what the sensors sent with what is in the file.
//!
//! Both versions of the filter keep 25 degrees and more, and neither keeps less than 20: between
//! these it depends on the version in force, so such a reading may be there or not.

use super::sensors::{self, Report};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;
use std::time::Duration;
use weir_hub::CounterView;

/// What happened, and whether the promises were kept.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Version 2 took over.
    pub(super) swapped: bool,
    /// Version 3 went back by itself.
    pub(super) returned: bool,
    /// The queues were empty in the end.
    pub(super) drained: bool,
    /// Messages on disk when the cut was mended.
    pub(super) stored_while_cut: u64,
    sent: u64,
    acknowledged: u64,
    delivered: u64,
    lost: u64,
    doubled: u64,
    disordered: u64,
    unwanted: u64,
    counters: CounterView,
    p99: Duration,
}

impl Verdict {
    /// Reads the file and counts; true when every promise was kept.
    pub(super) fn judge(
        &mut self,
        report: &Report,
        run: &str,
        out: &Path,
        counters: CounterView,
        p99: Duration,
    ) -> Result<bool> {
        self.counters = counters;
        self.p99 = p99;
        self.sent = report.sent.iter().sum();
        self.acknowledged = report.acknowledged.iter().sum();
        let found = read(out, run)?;
        for (sensor, name) in sensors::NAMES.iter().enumerate() {
            let numbers = found.get(*name).map(Vec::as_slice).unwrap_or_default();
            self.count(report.sent[sensor], numbers);
        }
        Ok(self.kept())
    }

    fn count(&mut self, sent: u64, numbers: &[u64]) {
        let mut times = vec![0_u32; usize::try_from(sent).unwrap_or(0)];
        let mut newest = None;
        for &number in numbers {
            self.delivered += 1;
            match times.get_mut(usize::try_from(number).unwrap_or(usize::MAX)) {
                Some(seen) => *seen += 1,
                None => self.unwanted += 1,
            }
            self.disordered += u64::from(newest.is_some_and(|newest| number < newest));
            newest = newest.max(Some(number));
        }
        for (number, seen) in times.iter().enumerate() {
            let temperature = sensors::temperature(number as u64);
            self.lost += u64::from(*seen == 0 && temperature >= 25.0);
            self.unwanted += u64::from(*seen > 0 && temperature < 20.0);
            self.doubled += u64::from(*seen > 1);
        }
    }

    fn kept(&self) -> bool {
        let nothing_lost = self.lost == 0 && self.acknowledged == self.sent;
        // In the hub every message takes effect once; a file that was cut may have got some twice.
        let counted = self.counters.dropped + self.counters.passed == self.sent;
        nothing_lost
            && counted
            && self.unwanted == 0
            && self.swapped
            && self.returned
            && self.drained
            && self.stored_while_cut > 0
            && self.delivered > 0
    }

    /// One line for machines.
    pub(super) fn json(&self, kept: bool) -> Value {
        json!({
            "ok": kept,
            "sent": self.sent,
            "acknowledged": self.acknowledged,
            "dropped_by_filter": self.counters.dropped,
            "passed_by_filter": self.counters.passed,
            "delivered": self.delivered,
            "lost": self.lost,
            "doubled": self.doubled,
            "out_of_order": self.disordered,
            "unwanted": self.unwanted,
            "swapped": self.swapped,
            "broken_version_returned": self.returned,
            "stored_while_cut": self.stored_while_cut,
            "drained": self.drained,
            "ack_p99_ms": (self.p99.as_secs_f64() * 1e5).round() / 100.0,
        })
    }
}

/// Sequence numbers in the file, by sensor, in the order of the lines.
fn read(out: &Path, run: &str) -> Result<BTreeMap<String, Vec<u64>>> {
    let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let file = std::fs::File::open(out).context("the upstream's file is missing")?;
    for line in std::io::BufReader::new(file).lines() {
        let line: Value = serde_json::from_str(&line?).context("a line of the file is no JSON")?;
        let body = &line["body"];
        if body["run"] != run {
            continue;
        }
        let (Some(sensor), Some(number)) = (body["sensor"].as_str(), body["seq"].as_u64()) else {
            continue;
        };
        found.entry(sensor.to_owned()).or_default().push(number);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_reading_is_lost_only_if_every_version_keeps_it() {
        let hot: Vec<u64> = (0..200).filter(|n| sensors::temperature(*n) >= 25.0).collect();
        let mut verdict = Verdict::default();
        verdict.count(200, &hot);
        assert_eq!((verdict.lost, verdict.unwanted, verdict.doubled), (0, 0, 0));
        let mut verdict = Verdict::default();
        verdict.count(200, &hot[1..]);
        assert_eq!(verdict.lost, 1);
    }

    #[test]
    fn repeats_disorder_and_cold_readings_are_counted() {
        let cold = (0..200).find(|n| sensors::temperature(*n) < 20.0).unwrap();
        let mut hot = (0..200).filter(|n| sensors::temperature(*n) >= 25.0);
        let (first, second) = (hot.next().unwrap(), hot.next().unwrap());
        let mut verdict = Verdict::default();
        verdict.count(200, &[second, first, first, cold, 999]);
        assert_eq!((verdict.doubled, verdict.unwanted), (1, 2));
        assert!(verdict.disordered >= 1);
    }
}
