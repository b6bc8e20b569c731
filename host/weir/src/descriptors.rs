//! Room for file descriptors: as many as the hub's clients need, where the system allows it.
//!
//! Called once by `run` before anything is opened. Many systems start programs with room for 1,024, and
//! let them have more for the asking.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};
use weir_core::limits;

/// Clients, those that wait at the doors, and what the hub itself opens.
const WANTED: u64 = (2 * (limits::MAX_CLIENTS + limits::MAX_WAITING_CLIENTS) + 1_024) as u64;

/// Asks for as many descriptors as may be needed, and says when there will be fewer.
pub(crate) fn make_room() {
    let found = getrlimit(Resource::Nofile);
    let Some(current) = raised(found.current, found.maximum) else { return };
    let wish = Rlimit { current: Some(current), maximum: found.maximum };
    match setrlimit(Resource::Nofile, wish) {
        Ok(()) if current >= WANTED => {
            info!(descriptors = current, "room for descriptors was made");
        }
        Ok(()) => warn!(
            descriptors = current,
            wanted = WANTED,
            "the system allows few file descriptors, some clients may have to wait"
        ),
        Err(error) => warn!(%error, "room for file descriptors could not be made"),
    }
}

/// What to ask for; none when there is enough. An absent limit is none at all.
fn raised(current: Option<u64>, maximum: Option<u64>) -> Option<u64> {
    let current = current?;
    let possible = maximum.unwrap_or(u64::MAX).min(WANTED);
    (current < possible).then_some(possible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_for_what_is_missing_and_possible() {
        assert_eq!(raised(Some(1_024), Some(1 << 20)), Some(WANTED));
        assert_eq!(raised(Some(1_024), None), Some(WANTED));
        assert_eq!(raised(Some(1_024), Some(4_096)), Some(4_096));
        assert_eq!(raised(Some(4_096), Some(4_096)), None);
        assert_eq!(raised(Some(WANTED), Some(1 << 20)), None);
        assert_eq!(raised(None, None), None);
    }
}
