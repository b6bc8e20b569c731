//! Priority of a route, and the name of the queue that follows from it.

use std::fmt;

use serde::Serialize;

/// 0 is taken first, 9 last of the given ones; a route without priority comes after all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Priority(u32);

impl Priority {
    /// Priority of a route that names none (IoT Edge: 2 000 000 000).
    pub const DEFAULT: Priority = Priority(2_000_000_000);
    /// The lowest priority that a route can name.
    pub const LAST: Priority = Priority(9);

    /// 0 to 9, or the default; `None` for anything else.
    pub fn new(value: u32) -> Option<Self> {
        let priority = Priority(value);
        (priority <= Self::LAST || priority == Self::DEFAULT).then_some(priority)
    }

    pub fn get(self) -> u32 {
        self.0
    }

    /// Name of the queue of an endpoint at this priority.
    pub fn queue_id(self, endpoint: &str) -> String {
        queue_id(endpoint, self.0)
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

const DELIMITER: &str = "_Pri";

/// `{endpoint}` for the default priority, else `{endpoint}_Pri{priority}`, as in IoT Edge.
pub fn queue_id(endpoint: &str, priority: u32) -> String {
    if priority == Priority::DEFAULT.0 {
        endpoint.to_owned()
    } else {
        format!("{endpoint}{DELIMITER}{priority}")
    }
}

/// Endpoint and priority of a queue name; a name that ends otherwise has the default priority.
pub fn parse_queue_id(queue: &str) -> (&str, u32) {
    queue
        .rsplit_once(DELIMITER)
        .and_then(|(endpoint, priority)| Some((endpoint, priority.parse().ok()?)))
        .unwrap_or((queue, Priority::DEFAULT.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_0_to_9_and_the_default_are_priorities() {
        assert_eq!(Priority::new(0).map(Priority::get), Some(0));
        assert_eq!(Priority::new(9), Some(Priority::LAST));
        assert_eq!(Priority::new(10), None);
        assert_eq!(Priority::new(2_000_000_000), Some(Priority::default()));
    }
}
