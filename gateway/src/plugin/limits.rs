//! Bounds on what a plugin may use: time in ticks, memory, and what the host does for it.
//!
//! Time is counted in ticks of one millisecond during which the call was running or ready to run: at each tick a call
//! gives way to others, so that one that never ends costs its neighbours a millisecond at a time and is stopped when its
//! ticks are used up.

use std::{
    num::NonZero,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::{Engine, ResourceLimiter, UpdateDeadline, format_err};

use crate::config;

pub(super) const TICK: Duration = Duration::from_millis(1);

/// Linear memories, tables and core instances of one component; a Python plugin has 38 instances.
pub(super) const CORE_INSTANCES: usize = 64;

/// Elements of a table, which hold a plugin's function pointers.
pub(super) const TABLE_ELEMENTS: usize = 20_000;

/// Bytes that may cross from a plugin to the host in one call of either, on top of what it may return.
const HOST_CALL_BYTES: usize = 4 << 20;

/// Bytes that the host hashes for one webhook: enough for every candidate of the most undecided provider.
pub(super) const HASHED_BYTES: usize = 64 << 20;

/// Log lines and bytes of each, for one webhook.
pub(super) const LOG_LINES: u32 = 16;
pub(super) const LOG_BYTES: usize = 1 << 10;

/// Bytes of an explanation for the operator.
pub(super) const DETAIL_BYTES: usize = 1 << 10;

/// Bytes of the short, stable words that a plugin uses: codes, forms, reasons.
pub(super) const WORD_BYTES: usize = 128;

/// The bounds of one call, from the configuration.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) ticks: u32,
    pub(super) memory_bytes: usize,
    pub(super) output_bytes: usize,
    pub(super) events: usize,
    pub(super) host_calls: u32,
}

impl Bounds {
    pub(super) fn new(limits: &config::Limits) -> Self {
        Self {
            ticks: u32::try_from(limits.plugin_time.as_millis()).unwrap_or(u32::MAX).max(1),
            memory_bytes: limits.plugin_memory_bytes,
            output_bytes: limits.plugin_output_bytes,
            events: limits.plugin_events_max,
            host_calls: limits.plugin_host_calls_max,
        }
    }

    pub(super) fn growth(&self) -> Growth {
        Growth {
            memory_bytes_max: self.memory_bytes,
            memory_bytes: 0,
            refused: false,
        }
    }

    /// What wasmtime lets cross from guest to host; without it a small guest returns gigabytes of overlapping text.
    pub(super) fn hostcall_fuel(&self) -> usize {
        HOST_CALL_BYTES.max(self.output_bytes.saturating_mul(2))
    }
}

/// Lets a call's memory grow up to its bound, all its memories together.
#[derive(Debug)]
pub(super) struct Growth {
    memory_bytes_max: usize,
    pub(super) memory_bytes: usize,
    /// Whether it asked for more than it may have.
    pub(super) refused: bool,
}

impl ResourceLimiter for Growth {
    /// An error stops the plugin at once and tells why; `false` would leave it to the plugin, which only aborts.
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        self.memory_bytes = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        if self.memory_bytes > self.memory_bytes_max {
            let max = self.memory_bytes_max;
            self.refused = true;
            return Err(format_err!(
                "it asked for more memory than limits.plugin_memory ({max} bytes)"
            ));
        }
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        if desired > TABLE_ELEMENTS {
            self.refused = true;
            return Err(format_err!(
                "it asked for a table of more than {TABLE_ELEMENTS} elements"
            ));
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES
    }

    fn tables(&self) -> usize {
        CORE_INSTANCES
    }

    fn memories(&self) -> usize {
        CORE_INSTANCES
    }
}

/// Ticks after which a call is one of the long ones. Most need a fraction of one.
const SHORT_TICKS: u32 = 3;

/// Where the long calls of one plugin go on: only a few at a time, the others wait for their turn. Without it every short
/// call would share the processors with all that never end, and wait for a tick of each of them whenever it has to wait
/// at all. Each plugin has its own, so that nobody waits for another one's.
#[derive(Debug, Clone)]
pub(super) struct SlowLane {
    places: Arc<Semaphore>,
}

impl SlowLane {
    pub(super) fn new() -> Self {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            places: Arc::new(Semaphore::new((processors / 2).max(1))),
        }
    }
}

/// The time of one call.
#[derive(Debug)]
pub(super) struct Clockwork {
    ticks: u32,
    ticks_left: u32,
    lane: SlowLane,
    /// Held to the end of the call.
    place: Arc<OnceLock<OwnedSemaphorePermit>>,
}

impl Clockwork {
    pub(super) fn new(ticks: u32, lane: &SlowLane) -> Self {
        Self {
            ticks,
            ticks_left: ticks,
            lane: lane.clone(),
            place: Arc::default(),
        }
    }

    /// Gives the call so many times the ticks, before it begins.
    pub(super) fn extend(&mut self, times: u32) {
        self.ticks = self.ticks.saturating_mul(times);
        self.ticks_left = self.ticks;
    }

    pub(super) fn is_over(&self) -> bool {
        self.ticks_left == 0
    }

    /// One more tick is over: what the call has to do before it goes on.
    pub(super) fn tick(&mut self) -> UpdateDeadline {
        self.ticks_left = self.ticks_left.saturating_sub(1);
        if self.ticks_left == 0 {
            return UpdateDeadline::Interrupt;
        }
        if self.ticks - self.ticks_left < SHORT_TICKS || self.place.get().is_some() {
            return UpdateDeadline::Yield(1);
        }
        let (places, place) = (Arc::clone(&self.lane.places), Arc::clone(&self.place));
        let turn = async move {
            if let Ok(permit) = places.acquire_owned().await {
                // Only this call fills it, and it asks once.
                drop(place.set(permit));
            }
        };
        UpdateDeadline::YieldCustom(1, Box::pin(turn))
    }
}

/// Advances the engine's epoch while calls are running, and sleeps while none is.
#[derive(Debug, Clone)]
pub(super) struct Ticker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    running: AtomicUsize,
    thread: Thread,
}

impl Ticker {
    pub(super) fn start(engine: &Engine) -> std::io::Result<Self> {
        let engine = engine.weak();
        let (hand_over, handed) = std::sync::mpsc::sync_channel::<Weak<Shared>>(1);
        let thread = thread::Builder::new().name("plugin-ticker".into()).spawn(move || {
            let Ok(shared) = handed.recv() else { return };
            // Without the engine or the last handle there is nothing left to interrupt.
            while let (Some(engine), Some(shared)) = (engine.upgrade(), shared.upgrade()) {
                if shared.running.load(Ordering::SeqCst) == 0 {
                    drop((engine, shared));
                    // Bounded, so that the thread notices the end of the engine.
                    thread::park_timeout(Duration::from_secs(1));
                } else {
                    engine.increment_epoch();
                    drop((engine, shared));
                    thread::sleep(TICK);
                }
            }
        })?;
        let shared = Arc::new(Shared {
            running: AtomicUsize::new(0),
            thread: thread.thread().clone(),
        });
        hand_over
            .send(Arc::downgrade(&shared))
            .expect("the thread waits for exactly this");
        Ok(Self { shared })
    }

    /// Keeps the ticks coming until the guard is dropped.
    pub(super) fn run(&self) -> Running {
        if self.shared.running.fetch_add(1, Ordering::SeqCst) == 0 {
            self.shared.thread.unpark();
        }
        Running {
            shared: Arc::clone(&self.shared),
        }
    }
}

#[derive(Debug)]
pub(super) struct Running {
    shared: Arc<Shared>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.running.fetch_sub(1, Ordering::SeqCst);
    }
}
