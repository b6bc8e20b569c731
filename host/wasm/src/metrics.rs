//! Metrics that modules make, in a table of limited size.

use std::collections::BTreeMap;
use weir_core::id::ModuleId;

/// Series of one module; further ones are refused and counted.
pub(crate) const SERIES_PER_MODULE: usize = 100;
/// Bytes of a name or of all labels of a series; longer ones are refused.
pub(crate) const SERIES_BYTES: usize = 512;

/// The handle of a series that was refused; values recorded under it are counted as dropped.
pub(crate) const REFUSED: u32 = u32::MAX;

/// What a series counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MetricKind {
    /// Values are added up; negative ones are refused.
    Counter,
    /// The last value stands.
    Gauge,
    /// Values are counted and added up.
    Histogram,
}

/// One series of a module.
#[derive(Debug, Clone, PartialEq)]
pub struct ModuleMetric {
    /// The module that made it.
    pub module: ModuleId,
    /// The module's own name for it.
    pub name: String,
    /// What it counts.
    pub kind: MetricKind,
    /// Names and values, in the module's order.
    pub labels: Vec<(String, String)>,
    /// Counter: the total. Gauge: the last value. Histogram: the sum.
    pub value: f64,
    /// Values recorded.
    pub count: u64,
}

#[derive(Debug, Default)]
struct Series {
    value: f64,
    count: u64,
}

type Key = (String, MetricKind, Vec<(String, String)>);

/// The series of one module; they outlive its instances.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    handles: BTreeMap<Key, u32>,
    series: Vec<(Key, Series)>,
    pub(crate) dropped: u64,
}

impl Metrics {
    /// The handle of a series; made when it is new and there is room.
    pub(crate) fn declare(
        &mut self,
        name: String,
        kind: MetricKind,
        labels: Vec<(String, String)>,
    ) -> u32 {
        let key = (name, kind, labels);
        if let Some(handle) = self.handles.get(&key) {
            return *handle;
        }
        let label_bytes: usize = key.2.iter().map(|(name, value)| name.len() + value.len()).sum();
        let sound = is_metric_name(&key.0)
            && label_bytes <= SERIES_BYTES
            && key.2.iter().all(|(name, _)| is_metric_name(name));
        if !sound || self.series.len() >= SERIES_PER_MODULE {
            self.dropped += 1;
            return REFUSED;
        }
        let handle = u32::try_from(self.series.len()).expect("the table has a limit");
        self.handles.insert(key.clone(), handle);
        self.series.push((key, Series::default()));
        handle
    }

    /// Records a value.
    pub(crate) fn record(&mut self, handle: u32, value: f64) {
        let series = usize::try_from(handle).ok().and_then(|at| self.series.get_mut(at));
        let Some(((_, kind, _), series)) = series.filter(|_| value.is_finite()) else {
            self.dropped += 1;
            return;
        };
        match kind {
            MetricKind::Counter if value < 0.0 => self.dropped += 1,
            MetricKind::Counter | MetricKind::Histogram => {
                series.value += value;
                series.count += 1;
            }
            MetricKind::Gauge => {
                series.value = value;
                series.count += 1;
            }
        }
    }

    pub(crate) fn list(&self, module: &ModuleId) -> impl Iterator<Item = ModuleMetric> {
        self.series.iter().map(|((name, kind, labels), series)| ModuleMetric {
            module: module.clone(),
            name: name.clone(),
            kind: *kind,
            labels: labels.clone(),
            value: series.value,
            count: series.count,
        })
    }
}

/// Names that any metrics system takes.
fn is_metric_name(name: &str) -> bool {
    let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    first
        && name.len() <= SERIES_BYTES
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_made_once_and_keeps_its_values() {
        let mut metrics = Metrics::default();
        let handle = metrics.declare("seen".into(), MetricKind::Counter, vec![]);
        metrics.record(handle, 2.0);
        assert_eq!(metrics.declare("seen".into(), MetricKind::Counter, vec![]), handle);
        metrics.record(handle, 1.0);
        metrics.record(handle, -5.0);
        metrics.record(handle, f64::NAN);
        let all: Vec<_> = metrics.list(&"m".parse().unwrap()).collect();
        assert_eq!((all[0].value, all[0].count, metrics.dropped), (3.0, 2, 2));
    }

    #[test]
    fn the_table_does_not_grow_without_end() {
        let mut metrics = Metrics::default();
        for n in 0..1_000 {
            metrics.declare(format!("m{n}"), MetricKind::Gauge, vec![]);
        }
        assert_eq!(metrics.series.len(), SERIES_PER_MODULE);
        assert_eq!(metrics.declare("bad name".into(), MetricKind::Gauge, vec![]), REFUSED);
    }
}
