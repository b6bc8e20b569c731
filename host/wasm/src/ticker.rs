//! The epoch's tick: one thread that ends guests which run too long.
//!
//! It ticks every millisecond while calls are under way and sleeps when there has been none for a
//! while, so that an idle hub uses no processor time. It ends with the last [`Ticker`], which every
//! instance holds: no guest runs without it.

use crate::stopwatch::Stopwatch;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use wasmtime::Engine;
use weir_core::limits::EPOCH_TICK;

/// Ticks without a call before the thread goes to sleep: waking it costs a few microseconds, which
/// calls that follow each other closely should not pay.
const IDLE_TICKS: u32 = 100;

/// Ticks made up for after a late wake-up: what a busy machine's scheduler takes. More would end
/// guests because the machine stood still.
const MAX_CATCH_UP: u64 = 50;

/// Owner of the thread, shared by all that run guests.
pub(crate) struct Ticker(Arc<Ticks>);

/// The count of ticks, shared with the thread.
pub(crate) struct Ticks {
    engine: Engine,
    count: AtomicU64,
    calls: AtomicUsize,
    asleep: AtomicBool,
    ended: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
}

/// Keeps the ticks coming while a call is under way.
pub(crate) struct CallUnderWay<'a>(&'a Ticks);

impl Ticker {
    pub(crate) fn start(engine: Engine) -> std::io::Result<Arc<Self>> {
        let ticks = Arc::new(Ticks {
            engine,
            count: AtomicU64::new(0),
            calls: AtomicUsize::new(0),
            asleep: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            lock: Mutex::new(()),
            wake: Condvar::new(),
        });
        let own = Arc::clone(&ticks);
        std::thread::Builder::new().name("wasm-epoch".to_owned()).spawn(move || own.run())?;
        Ok(Arc::new(Self(ticks)))
    }
}

impl Deref for Ticker {
    type Target = Ticks;
    fn deref(&self) -> &Ticks {
        &self.0
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::SeqCst);
        self.0.wake();
    }
}

impl Ticks {
    /// The present tick.
    pub(crate) fn now(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Announces a call; the ticks go on until the guard is dropped.
    pub(crate) fn call(&self) -> CallUnderWay<'_> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) {
            self.wake();
        }
        CallUnderWay(self)
    }

    fn wake(&self) {
        let guard = self.guard();
        self.wake.notify_all();
        drop(guard);
    }

    fn guard(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut guard = self.guard();
        let mut idle = 0;
        let mut watch = Stopwatch::start();
        while !self.ended.load(Ordering::SeqCst) {
            idle = if self.calls.load(Ordering::SeqCst) == 0 { idle + 1 } else { 0 };
            if idle > IDLE_TICKS {
                guard = self.sleep(guard);
                idle = 0;
                watch = Stopwatch::start();
                continue;
            }
            let (back, _) = self
                .wake
                .wait_timeout(guard, EPOCH_TICK.saturating_sub(watch.elapsed()))
                .unwrap_or_else(PoisonError::into_inner);
            guard = back;
            let passed = watch.elapsed();
            if passed >= EPOCH_TICK {
                watch = Stopwatch::start();
                self.tick(passed);
            }
        }
    }

    fn sleep<'a>(&self, mut guard: MutexGuard<'a, ()>) -> MutexGuard<'a, ()> {
        self.asleep.store(true, Ordering::SeqCst);
        while self.calls.load(Ordering::SeqCst) == 0 && !self.ended.load(Ordering::SeqCst) {
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.asleep.store(false, Ordering::SeqCst);
        guard
    }

    fn tick(&self, passed: Duration) {
        let due = u64::try_from(passed.as_micros() / EPOCH_TICK.as_micros()).unwrap_or(u64::MAX);
        for _ in 0..due.clamp(1, MAX_CATCH_UP) {
            self.count.fetch_add(1, Ordering::Relaxed);
            self.engine.increment_epoch();
        }
    }
}

impl Drop for CallUnderWay<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_for(what: impl Fn() -> bool) {
        let watch = Stopwatch::start();
        while !what() {
            assert!(watch.elapsed() < Duration::from_secs(20), "nothing happened");
            std::thread::yield_now();
        }
    }

    #[test]
    fn ticks_come_during_calls_and_stop_when_there_are_none() {
        let ticker = Ticker::start(crate::engine::engine().unwrap()).unwrap();
        let ticks = &*ticker;
        for _ in 0..2 {
            let call = ticks.call();
            let before = ticks.now();
            wait_for(|| ticks.now() > before + 5);
            drop(call);
            wait_for(|| ticks.asleep.load(Ordering::SeqCst));
        }
    }

    #[test]
    fn the_thread_ends_with_its_owner() {
        let ticker = Ticker::start(crate::engine::engine().unwrap()).unwrap();
        let ticks = Arc::downgrade(&ticker.0);
        drop(ticker);
        wait_for(|| ticks.strong_count() == 0);
    }
}
