//! Twins in memory: one cell for each that is in use, and for some that were.
//!
//! The cell's lock puts the changes of one twin in order and is held over their commits; other twins do
//! not wait for it.

use super::TwinError;
use super::record::{self, Loaded};
use crate::Hub;
use crate::sync::lock;
use serde_json::{Map, Value};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{MutexGuard, watch};
use weir_core::id::Identity;
use weir_core::limits;
use weir_core::twin::{DesiredPatch, Patch, Properties};

/// Desired patches that a client may be behind before it gets what they come to instead.
const RECENT: usize = 8;

/// The newest desired properties, for those who watch.
#[derive(Debug)]
pub(super) struct Latest {
    /// The version when the cell was filled: nothing has changed before it since the cell was made.
    pub(super) first: u64,
    pub(super) properties: Arc<Properties>,
    /// The changes that led here, oldest first.
    recent: VecDeque<Recent>,
}

/// A change and what came of it.
#[derive(Debug, Clone)]
struct Recent {
    patch: DesiredPatch,
    after: Arc<Properties>,
}

impl Latest {
    /// What a client that knows `version` and `base` is to be given next, and what it knows then.
    pub(super) fn next(
        &self,
        version: u64,
        base: &Map<String, Value>,
    ) -> Option<(DesiredPatch, Arc<Properties>)> {
        if version >= self.properties.version {
            return None;
        }
        if let Some(next) = self.recent.iter().find(|recent| recent.patch.version == version + 1) {
            return Some((next.patch.clone(), Arc::clone(&next.after)));
        }
        Some(self.whole_difference(base))
    }

    /// All that has changed since `base`, as one patch.
    pub(super) fn whole_difference(
        &self,
        base: &Map<String, Value>,
    ) -> (DesiredPatch, Arc<Properties>) {
        let patch = Patch::between(base, &self.properties.value);
        (DesiredPatch::new(&patch, self.properties.version), Arc::clone(&self.properties))
    }
}

/// One twin.
#[derive(Debug)]
pub(super) struct Cell {
    state: tokio::sync::Mutex<Option<Loaded>>,
    latest: watch::Sender<Option<Arc<Latest>>>,
    /// The identity is gone; another cell stands for its name.
    gone: AtomicBool,
    /// When it was used last, in uses of all cells.
    used: AtomicU64,
    /// What it holds, as on disk.
    bytes: AtomicU64,
}

/// All twins in memory.
#[derive(Debug, Default)]
pub(super) struct Cells {
    cells: Mutex<HashMap<Identity, Arc<Cell>>>,
    uses: AtomicU64,
}

impl Cells {
    pub(super) fn get(&self, of: &Identity) -> Arc<Cell> {
        let mut cells = lock(&self.cells);
        let used = self.uses.fetch_add(1, Ordering::Relaxed);
        if let Some(cell) = cells.get(of) {
            cell.used.store(used, Ordering::Relaxed);
            return Arc::clone(cell);
        }
        make_room(&mut cells);
        let cell = Arc::new(Cell {
            state: tokio::sync::Mutex::default(),
            latest: watch::Sender::new(None),
            gone: AtomicBool::new(false),
            used: AtomicU64::new(used),
            bytes: AtomicU64::new(0),
        });
        cells.insert(of.clone(), Arc::clone(&cell));
        cell
    }
}

/// Those that nobody uses leave, the ones not used for longest first, when together they are many.
fn make_room(cells: &mut HashMap<Identity, Arc<Cell>>) {
    let bytes = |cell: &Cell| cell.bytes.load(Ordering::Relaxed);
    // Nobody can take one meanwhile: that needs the map.
    let mut idle: Vec<(u64, u64, Identity)> = Vec::new();
    if cells.len() < limits::TWINS_IN_MEMORY {
        let held: u64 = cells.values().map(|cell| bytes(cell)).sum();
        if held < limits::TWIN_MEMORY_BYTES {
            return;
        }
    }
    for (of, cell) in cells.iter().filter(|(_, cell)| Arc::strong_count(cell) == 1) {
        idle.push((cell.used.load(Ordering::Relaxed), bytes(cell), of.clone()));
    }
    idle.sort_unstable();
    for (_, _, of) in idle.iter().take(idle.len().div_ceil(2)) {
        cells.remove(of);
    }
}

/// The right to delete a twin; others wait.
pub(super) struct Seized<'c> {
    cell: &'c Cell,
    state: MutexGuard<'c, Option<Loaded>>,
}

impl Seized<'_> {
    /// It is deleted: one of the same name has another cell.
    pub(super) fn deleted(mut self, cells: &Cells, of: &Identity) {
        *self.state = None;
        self.cell.gone.store(true, Ordering::SeqCst);
        lock(&cells.cells).remove(of);
    }
}

/// The right to change a twin; others wait.
pub(super) struct Held<'c> {
    cell: &'c Cell,
    of: &'c Identity,
    state: MutexGuard<'c, Option<Loaded>>,
}

impl Cell {
    /// Waits for its turn and for what the store has.
    pub(super) async fn hold<'c>(
        &'c self,
        hub: &Hub,
        of: &'c Identity,
    ) -> Result<Held<'c>, TwinError> {
        let mut state = self.state.lock().await;
        if self.gone.load(Ordering::SeqCst) || !hub.has_twin(of) {
            return Err(TwinError::Unknown(of.clone()));
        }
        if state.is_none() {
            let loaded = record::load(hub.store(), of).await?;
            let properties = Arc::clone(&loaded.desired.now);
            let first = properties.version;
            let recent = VecDeque::new();
            self.latest.send_replace(Some(Arc::new(Latest { first, properties, recent })));
            *state = Some(loaded);
        }
        Ok(Held { cell: self, of, state })
    }

    /// Waits for its turn, whatever is in it.
    pub(super) async fn seize(&self) -> Seized<'_> {
        Seized { cell: self, state: self.state.lock().await }
    }

    pub(super) fn watch(&self) -> watch::Receiver<Option<Arc<Latest>>> {
        self.latest.subscribe()
    }
}

impl Held<'_> {
    /// What is known of the twin.
    pub(super) fn loaded(&mut self) -> &mut Loaded {
        self.state.as_mut().expect("a held cell is filled")
    }

    pub(super) fn of(&self) -> &Identity {
        self.of
    }

    /// Puts what was committed in force and tells those who watch.
    pub(super) fn desired_changed(&mut self, patch: DesiredPatch) {
        let properties = Arc::clone(&self.loaded().desired.now);
        let watched = self.cell.latest.receiver_count() > 0;
        self.cell.latest.send_modify(|latest| {
            let (first, mut recent) = match latest.take() {
                Some(latest) if watched => (latest.first, latest.recent.clone()),
                Some(latest) => (latest.first, VecDeque::new()),
                None => (properties.version, VecDeque::new()),
            };
            if watched {
                if recent.len() == RECENT {
                    recent.pop_front();
                }
                recent.push_back(Recent { patch, after: Arc::clone(&properties) });
            }
            *latest = Some(Arc::new(Latest { first, properties, recent }));
        });
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let bytes = self.state.as_ref().map_or(0, |loaded| loaded.bytes());
        self.cell.bytes.store(bytes, Ordering::Relaxed);
    }
}
