//! Worker threads that live as long as their backend.
//!
//! A job is a number of pieces; whoever is free claims the next one by an atomic counter. A worker that the system
//! has taken off its processor therefore delays at most the piece it holds, and one that never arrives delays
//! nothing: the calling thread does all the pieces itself. Workers spin briefly between jobs, then park.
//!
//! *Invariant:* a job's closure is borrowed only between the opening of the gate and the moment when the gate is
//! closed and no worker is inside.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::backend::BackendError;

/// Set while workers may enter; the bits below count those inside.
const OPEN: u32 = 1 << 31;
/// Looks at the gate before a worker parks, some tens of microseconds.
const SPINS_BEFORE_PARK: u32 = 4_000;
/// Looks at the gate before the caller gives way to a worker that holds the last piece.
const SPINS_BEFORE_SLEEP: u32 = 4_000;
/// How long the caller then sleeps between looks.
const SLEEP: Duration = Duration::from_micros(50);

/// A piece of work: (worker, piece).
type Job<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// What caller and workers share.
struct Shared {
    gate: AtomicU32,
    next: AtomicUsize,
    pieces: AtomicUsize,
    job: UnsafeCell<Option<*const Job<'static>>>,
    parked: AtomicUsize,
    ended: AtomicBool,
    failed: AtomicBool,
}

// SAFETY: `job` is written only by the caller while the gate is closed and empty, and read only by workers inside.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is only followed inside the gate, while the caller waits in `run`.
unsafe impl Send for Shared {}

/// The workers of one backend.
pub(super) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({})", self.threads())
    }
}

impl Pool {
    /// A pool of `threads`, the calling one included.
    pub(super) fn new(threads: usize) -> Result<Self, BackendError> {
        let shared = Arc::new(Shared {
            gate: AtomicU32::new(0),
            next: AtomicUsize::new(0),
            pieces: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            parked: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        });
        let mut pool = Self { shared, workers: Vec::new() };
        for worker in 1..threads.max(1) {
            let shared = Arc::clone(&pool.shared);
            let handle = std::thread::Builder::new()
                .name(format!("cairn-cpu-{worker}"))
                .spawn(move || shared.work(worker))
                .map_err(|error| BackendError::Resources(format!("thread {worker} of {threads}: {error}")))?;
            pool.workers.push(handle);
        }
        Ok(pool)
    }

    /// Threads, the calling one included.
    pub(super) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Whether a worker has died in a job; its results are then worthless.
    pub(super) fn failed(&self) -> bool {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Does `pieces` pieces of `job` and returns when all are done.
    ///
    /// `&mut`, because one job runs at a time.
    pub(super) fn run(&mut self, pieces: usize, job: &Job<'_>) {
        if pieces <= 1 || self.workers.is_empty() {
            (0..pieces).for_each(|piece| job(0, piece));
            return;
        }
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes; `Closing` sees to it that no worker is inside when this call ends.
        let eternal = unsafe { std::mem::transmute::<*const Job<'_>, *const Job<'static>>(job) };
        // SAFETY: the gate is closed and empty, since the last call ended so, and `&mut self` admits one call.
        unsafe { *shared.job.get() = Some(eternal) };
        shared.next.store(0, Ordering::Relaxed);
        shared.pieces.store(pieces, Ordering::Relaxed);
        shared.gate.store(OPEN, Ordering::SeqCst);
        let closing = Closing(shared);
        if shared.parked.load(Ordering::SeqCst) > 0 {
            self.workers.iter().take(pieces - 1).for_each(|worker| worker.thread().unpark());
        }
        shared.claim(0, job);
        drop(closing);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker that panicked has said so through `failed`.
            let _ = worker.join();
        }
    }
}

/// Closes the gate and waits for those inside, also when the caller's own piece panics.
struct Closing<'a>(&'a Shared);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.gate.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0;
        while self.0.gate.load(Ordering::Acquire) != 0 {
            spins += 1;
            if spins < SPINS_BEFORE_SLEEP {
                std::hint::spin_loop();
            } else {
                std::thread::park_timeout(SLEEP);
            }
        }
    }
}

impl Shared {
    fn claim(&self, worker: usize, job: &Job<'_>) {
        let pieces = self.pieces.load(Ordering::Relaxed);
        loop {
            let piece = self.next.fetch_add(1, Ordering::Relaxed);
            if piece >= pieces {
                return;
            }
            job(worker, piece);
        }
    }

    /// Enters if the gate is open.
    fn enter(&self) -> bool {
        let mut gate = self.gate.load(Ordering::Relaxed);
        while gate & OPEN != 0 {
            match self.gate.compare_exchange_weak(gate, gate + 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => gate = now,
            }
        }
        false
    }

    /// Whether there is still something to claim. A worker that has seen a job exhausted waits for the next one.
    fn has_work(&self) -> bool {
        self.gate.load(Ordering::SeqCst) & OPEN != 0
            && self.next.load(Ordering::Relaxed) < self.pieces.load(Ordering::Relaxed)
    }

    /// The life of a worker.
    fn work(&self, worker: usize) {
        let mut spins = 0;
        while !self.ended.load(Ordering::SeqCst) {
            if self.has_work() && self.enter() {
                self.inside(worker);
                spins = 0;
            } else if spins < SPINS_BEFORE_PARK {
                spins += 1;
                std::hint::spin_loop();
            } else {
                self.parked.fetch_add(1, Ordering::SeqCst);
                // Looked at once more after announcing to park: a job opened before sees the announcement.
                if !self.has_work() && !self.ended.load(Ordering::SeqCst) {
                    std::thread::park();
                }
                self.parked.fetch_sub(1, Ordering::SeqCst);
                spins = 0;
            }
        }
    }

    fn inside(&self, worker: usize) {
        // SAFETY: this worker is inside the gate, so the job is set and its caller waits.
        let job = unsafe { (*self.job.get()).map(|job| &*job) };
        if let Some(job) = job
            && catch_unwind(AssertUnwindSafe(|| self.claim(worker, job))).is_err()
        {
            self.failed.store(true, Ordering::Relaxed);
        }
        self.gate.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn every_piece_is_done_exactly_once() {
        for threads in [1, 2, 3, 7] {
            let mut pool = Pool::new(threads).unwrap();
            for pieces in [0, 1, 2, 3, 64, 1000] {
                let done: Vec<AtomicU64> = (0..pieces).map(|_| AtomicU64::new(0)).collect();
                pool.run(pieces, &|worker, piece| {
                    assert!(worker < threads);
                    done[piece].fetch_add(1, Ordering::Relaxed);
                });
                assert!(done.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{threads} {pieces}");
            }
        }
    }

    #[test]
    fn many_small_jobs_follow_each_other() {
        let mut pool = Pool::new(3).unwrap();
        let sum = AtomicU64::new(0);
        for round in 0..20_000u64 {
            pool.run(3, &|_, piece| {
                sum.fetch_add(round * 3 + piece as u64, Ordering::Relaxed);
            });
        }
        assert_eq!(sum.load(Ordering::Relaxed), (0..60_000).sum::<u64>());
    }

    #[test]
    fn a_panic_in_a_worker_is_seen_and_ends_nothing() {
        let mut pool = Pool::new(2).unwrap();
        while !pool.failed() {
            pool.run(64, &|worker, _| assert_eq!(worker, 0, "only to be caught"));
        }
        let done = AtomicU64::new(0);
        pool.run(8, &|_, _| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.load(Ordering::Relaxed), 8);
    }
}
