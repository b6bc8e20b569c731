//! Looks once a second at what changes without anybody calling: the link to the upstream and how full
//! the queues are. What has changed is told as an event.

use crate::Hub;
use crate::events::Topic;
use crate::tasks::Stop;
use serde_json::json;
use std::collections::HashMap;
use std::time::Duration;
use weir_store::QueueUsage;

const LOOK: Duration = Duration::from_secs(1);

/// How full a queue is. Steps down are taken later than steps up, so that a queue at the edge of one
/// does not tell of itself each second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fill {
    Normal,
    /// From 80 % of its limit, until below 70 %.
    Filling,
    /// From 98 %, until below 95 %.
    Full,
}

impl Fill {
    fn next(self, bytes: u64, limit: Option<u64>) -> Self {
        let Some(limit) = limit.filter(|limit| *limit > 0) else { return Self::Normal };
        // In wide numbers: a limit may be anything.
        let percent = u128::from(bytes) * 100 / u128::from(limit);
        match self {
            _ if percent >= 98 => Self::Full,
            Self::Full if percent >= 95 => Self::Full,
            _ if percent >= 80 => Self::Filling,
            Self::Filling | Self::Full if percent >= 70 => Self::Filling,
            Self::Normal | Self::Filling | Self::Full => Self::Normal,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Filling => "filling",
            Self::Full => "full",
        }
    }
}

/// Runs until the hub stops.
pub(crate) async fn run(hub: Hub, stop: Stop) {
    let mut link = "";
    let mut fills = HashMap::new();
    loop {
        look_at_link(&hub, &mut link);
        for queue in hub.store().usage().queues {
            look_at_queue(&hub, &queue, &mut fills);
        }
        tokio::select! {
            () = stop.draining() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

fn look_at_link(hub: &Hub, before: &mut &'static str) {
    let view = hub.uplink();
    if view.state != *before {
        *before = view.state;
        // That it is cut is told by whoever cuts it.
        if !matches!(view.state, "none" | "paused") {
            let data = json!({"kind": view.kind, "target": view.target, "reason": view.reason});
            hub.tell(Topic::Link, view.state, "upstream", data);
        }
    }
}

fn look_at_queue(hub: &Hub, queue: &QueueUsage, fills: &mut HashMap<u32, Fill>) {
    let before = fills.get(&queue.endpoint.0).copied().unwrap_or(Fill::Normal);
    let now = before.next(queue.bytes, queue.limit.max_bytes);
    if now != before {
        fills.insert(queue.endpoint.0, now);
        let data = json!({
            "messages": queue.messages, "bytes": queue.bytes,
            "maxBytes": queue.limit.max_bytes, "dropped": queue.dropped,
        });
        hub.tell(Topic::Queue, now.name(), &queue.name, data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_tells_when_it_fills_and_when_it_has_drained_well_below() {
        let mut fill = Fill::Normal;
        let mut seen = Vec::new();
        for bytes in [10, 79, 80, 79, 70, 69, 81, 97, 98, 96, 95, 94, 79, 71, 10] {
            fill = fill.next(bytes, Some(100));
            seen.push(fill.name());
        }
        let expected = [
            "normal", "normal", "filling", "filling", "filling", "normal", "filling", "filling",
            "full", "full", "full", "filling", "filling", "filling", "normal",
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_queue_without_a_limit_is_never_full() {
        assert_eq!(Fill::Normal.next(u64::MAX, None), Fill::Normal);
        assert_eq!(Fill::Normal.next(1, Some(0)), Fill::Normal);
        assert_eq!(Fill::Normal.next(u64::MAX, Some(u64::MAX)), Fill::Full);
    }
}
