//! What a guest may take of the host's memory.

use wasmtime::{ResourceLimiter, Result};

/// Elements of all tables of an instance together.
const TABLE_ELEMENTS: usize = 100_000;
/// Core instances in a component: Python's, with its linked libraries, has 33.
const INSTANCES: usize = 64;
/// Tables in a component.
const TABLES: usize = 16;
/// Linear memories in a component; their sizes count together.
const MEMORIES: usize = 8;

/// Counts linear memory and tables of one instance and refuses growth beyond the limit.
#[derive(Debug)]
pub(crate) struct Limiter {
    memory_limit: usize,
    memory: usize,
    elements: usize,
    /// What the guest asked for when it was refused last.
    refused: Option<usize>,
}

impl Limiter {
    pub(crate) fn new(memory_limit: usize) -> Self {
        Self { memory_limit, memory: 0, elements: 0, refused: None }
    }

    /// Linear memory in bytes; memories never shrink, so this is also the peak.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    /// True when the guest asked for more than it may have.
    pub(crate) fn has_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// What was asked for beyond the limit since the last call of this function, and the limit.
    pub(crate) fn take_refused(&mut self) -> Option<(usize, usize)> {
        self.refused.take().map(|asked| (asked, self.memory_limit))
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, now: usize, wanted: usize, _: Option<usize>) -> Result<bool> {
        let total = self.memory.saturating_sub(now).saturating_add(wanted);
        match total <= self.memory_limit {
            true => self.memory = total,
            false => self.refused = Some(total),
        }
        Ok(total <= self.memory_limit)
    }

    fn table_growing(&mut self, now: usize, wanted: usize, _: Option<usize>) -> Result<bool> {
        let total = self.elements.saturating_sub(now).saturating_add(wanted);
        if total <= TABLE_ELEMENTS {
            self.elements = total;
        }
        Ok(total <= TABLE_ELEMENTS)
    }

    fn instances(&self) -> usize {
        INSTANCES
    }

    fn tables(&self) -> usize {
        TABLES
    }

    fn memories(&self) -> usize {
        MEMORIES
    }
}
