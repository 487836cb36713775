//! One pool of threads for all models. Forking costs little: workers spin for a while before they sleep. Threads begin with neighbouring tasks of their own,
//! the same part of every job, so that what one step stores lies in the caches of the thread that reads it in the next; then they take those of others.

use crate::cpu::part;
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, OnceLock, TryLockError};

/// Spins before a worker sleeps, about 50 microseconds.
const SPINS: u32 = 20_000;

/// A counter in a line of its own.
#[derive(Default)]
#[repr(align(128))]
struct Next(AtomicUsize);

type Task<'a> = dyn Fn(usize, usize) + Sync + 'a;

struct Shared {
    /// The job's number while it is open, else 0.
    open: AtomicU64,
    /// The number of the newest job.
    newest: AtomicU64,
    /// The next task of every thread's part.
    next: Vec<Next>,
    tasks: AtomicUsize,
    /// Workers that may be looking at the job.
    active: AtomicUsize,
    asleep: AtomicUsize,
    job: UnsafeCell<Option<*const Task<'static>>>,
    lock: Mutex<bool>,
    wake: Condvar,
}

// SAFETY: `job` is written only while `open` is 0 and `active` is 0, and read only by active workers that then saw it open.
unsafe impl Sync for Shared {}
// SAFETY: the pointer is only followed while the job's owner waits for it.
unsafe impl Send for Shared {}

/// Threads that share the tasks of one job at a time.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    threads: usize,
    owner: Mutex<u64>,
    workers: Vec<std::thread::JoinHandle<()>>,
}

static WANTED: AtomicUsize = AtomicUsize::new(0);
static GLOBAL: OnceLock<Pool> = OnceLock::new();

/// Sets the number of threads of the pool, the caller's included, before the first model is loaded; also `WPK_THREADS`.
/// Returns whether it took effect.
pub fn set_threads(n: usize) -> bool {
    WANTED.store(n.max(1), SeqCst);
    GLOBAL.get_or_init(|| Pool::new(n.max(1))).threads == n.max(1)
}

/// The pool all models use.
pub(crate) fn global() -> &'static Pool {
    GLOBAL.get_or_init(|| {
        let named = std::env::var("WPK_THREADS").ok().and_then(|n| n.parse().ok());
        let wanted = Some(WANTED.load(SeqCst)).filter(|&n| n > 0).or(named);
        Pool::new(wanted.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1))
    })
}

impl Pool {
    fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            open: AtomicU64::new(0),
            newest: AtomicU64::new(0),
            next: (0..threads).map(|_| Next::default()).collect(),
            tasks: AtomicUsize::new(0),
            active: AtomicUsize::new(0),
            asleep: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            lock: Mutex::new(false),
            wake: Condvar::new(),
        });
        let spawn = |index: usize| {
            let shared = shared.clone();
            std::thread::Builder::new().name(format!("wpk-{index}")).spawn(move || shared.work(index)).ok()
        };
        let workers: Vec<_> = (1..threads).filter_map(spawn).collect();
        Self { shared, threads: workers.len() + 1, owner: Mutex::new(0), workers }
    }

    /// The number of threads, the caller's included.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `f(task, thread)` for every task, in any order, on any thread. Where the pool is busy with another caller's
    /// job, the caller does all tasks itself.
    pub(crate) fn run(&self, tasks: usize, f: &Task<'_>) {
        let alone = || (0..tasks).for_each(|t| f(t, 0));
        if tasks <= 1 || self.threads == 1 {
            return alone();
        }
        let mut number = match self.owner.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(e)) => e.into_inner(),
            Err(TryLockError::WouldBlock) => return alone(),
        };
        *number += 1;
        let s = &*self.shared;
        // SAFETY: no job is open and no worker active, so none reads the cell; the lifetime is restored by waiting below.
        unsafe { *s.job.get() = Some(std::mem::transmute::<*const Task<'_>, *const Task<'static>>(f)) };
        s.tasks.store(tasks, SeqCst);
        let parts = s.next.len();
        s.next.iter().enumerate().for_each(|(i, next)| next.0.store(part(tasks, parts, i).start, SeqCst));
        s.open.store(*number, SeqCst);
        s.newest.store(*number, SeqCst);
        if s.asleep.load(SeqCst) > 0 {
            drop(s.lock.lock().unwrap_or_else(|e| e.into_inner()));
            s.wake.notify_all();
        }
        let finish = Finish(s);
        s.drain(f, 0);
        drop(finish);
    }
}

/// Closes the job and waits for its workers, also when a task panics.
struct Finish<'a>(&'a Shared);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.open.store(0, SeqCst);
        while self.0.active.load(SeqCst) != 0 {
            std::hint::spin_loop();
        }
    }
}

impl Shared {
    fn drain(&self, f: &Task<'_>, thread: usize) {
        let (tasks, parts) = (self.tasks.load(SeqCst), self.next.len());
        for i in (thread..parts).chain(0..thread) {
            let end = part(tasks, parts, i).end;
            loop {
                let task = self.next[i].0.fetch_add(1, SeqCst);
                if task >= end {
                    break;
                }
                f(task, thread);
            }
        }
    }

    fn work(&self, thread: usize) {
        let mut seen = 0;
        loop {
            let mut spins = 0;
            while self.newest.load(SeqCst) == seen {
                spins += 1;
                if spins < SPINS {
                    std::hint::spin_loop();
                    continue;
                }
                let mut stop = self.lock.lock().unwrap_or_else(|e| e.into_inner());
                self.asleep.fetch_add(1, SeqCst);
                while self.newest.load(SeqCst) == seen && !*stop {
                    stop = self.wake.wait(stop).unwrap_or_else(|e| e.into_inner());
                }
                self.asleep.fetch_sub(1, SeqCst);
                if *stop {
                    return;
                }
            }
            seen = self.newest.load(SeqCst);
            self.active.fetch_add(1, SeqCst);
            let active = Active(self);
            if self.open.load(SeqCst) != 0 {
                // SAFETY: the job is open and this worker counted as active, so its owner waits.
                let job = unsafe { (*self.job.get()).map(|f| &*f) };
                if let Some(f) = job {
                    self.drain(f, thread);
                }
            }
            drop(active);
        }
    }
}

/// Counts a worker as done, also when a task panics.
struct Active<'a>(&'a Shared);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, SeqCst);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        *self.shared.lock.lock().unwrap_or_else(|e| e.into_inner()) = true;
        self.shared.wake.notify_all();
        self.workers.drain(..).for_each(|w| drop(w.join()));
    }
}

#[cfg(test)]
mod tests {
    use super::Pool;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_task_runs_once() {
        let pool = Pool::new(3);
        for tasks in [0, 1, 2, 7, 100] {
            let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
            for _ in 0..200 {
                pool.run(tasks, &|t, thread| {
                    assert!(thread < 3);
                    counts[t].fetch_add(1, Ordering::Relaxed);
                });
            }
            assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 200));
        }
    }

    #[test]
    fn callers_do_not_wait_for_each_other() {
        let pool = Pool::new(2);
        let sum = AtomicUsize::new(0);
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    (0..100).for_each(|_| {
                        pool.run(10, &|t, _| {
                            sum.fetch_add(t, Ordering::Relaxed);
                        })
                    })
                });
            }
        });
        assert_eq!(sum.load(Ordering::Relaxed), 4 * 100 * 45);
    }
}
