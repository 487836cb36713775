//! The sessions of a bucket: at most so many, and what happens where all are busy.

use crate::Error;
use std::sync::{Condvar, Mutex, MutexGuard};

/// What a call does where every session is busy and no more may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenBusy {
    /// Waits until one is free.
    #[default]
    Wait,
    /// Ends with [`Error::Busy`].
    Fail,
}

/// How a model is loaded.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Where it runs.
    pub device: crate::Device,
    /// Calls at once per bucket at most, each with memory of its own; 0 for as many as come.
    pub sessions: usize,
    /// What further calls do.
    pub when_busy: WhenBusy,
    /// On the CPU, no memory beside weights as they are stored and the plan's own: convolutions of 3 by 3 are then plain sums, which take
    /// longer.
    pub small: bool,
    /// The functions of custom operators on the CPU; generated code gives them.
    pub functions: &'static [crate::CustomFunction],
}

/// Idle sessions, and how many there are in all.
pub(crate) struct Sessions<T> {
    state: Mutex<(Vec<T>, usize)>,
    freed: Condvar,
    limit: usize,
    when_busy: WhenBusy,
}

impl<T> Sessions<T> {
    pub fn new(options: &Options, first: T) -> Self {
        let limit = if options.sessions == 0 { usize::MAX } else { options.sessions };
        Self { state: Mutex::new((vec![first], 1)), freed: Condvar::new(), limit, when_busy: options.when_busy }
    }

    fn lock(&self) -> MutexGuard<'_, (Vec<T>, usize)> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// An idle session, or a new one, until it is dropped.
    pub fn take(&self, make: impl FnOnce() -> Result<T, Error>) -> Result<Taken<'_, T>, Error> {
        let mut state = self.lock();
        let idle = loop {
            if let Some(session) = state.0.pop() {
                break Some(session);
            }
            if state.1 < self.limit {
                state.1 += 1;
                break None;
            }
            if self.when_busy == WhenBusy::Fail {
                return Err(Error::Busy { sessions: self.limit });
            }
            state = self.freed.wait(state).unwrap_or_else(|e| e.into_inner());
        };
        drop(state);
        let mut taken = Taken { owner: self, session: idle, usable: false };
        if taken.session.is_none() {
            taken.session = Some(make()?);
        }
        Ok(taken)
    }

    /// Runs something in an idle session, or in a new one. A session whose call fails or panics is not used again.
    pub fn with<R>(&self, make: impl FnOnce() -> Result<T, Error>, f: impl FnOnce(&mut T) -> Result<R, Error>) -> Result<R, Error> {
        let mut taken = self.take(make)?;
        let result = taken.run(f)?;
        taken.usable = true;
        Ok(result)
    }
}

/// A session in use. It is used again only where its call said that it may be; else there is room for another one.
pub(crate) struct Taken<'a, T> {
    owner: &'a Sessions<T>,
    session: Option<T>,
    /// Whether the session is whole.
    pub usable: bool,
}

impl<T> Taken<'_, T> {
    /// Runs something in the session.
    pub fn run<R>(&mut self, f: impl FnOnce(&mut T) -> Result<R, Error>) -> Result<R, Error> {
        self.session.as_mut().map_or_else(|| Err(Error::Invalid("a session that is gone".to_owned())), f)
    }
}

impl<T> Drop for Taken<'_, T> {
    fn drop(&mut self) {
        let mut state = self.owner.lock();
        match self.session.take().filter(|_| self.usable) {
            Some(session) => state.0.push(session),
            None => state.1 -= 1,
        }
        self.owner.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::{Options, Sessions, WhenBusy};
    use crate::Error;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn no_more_than_the_limit_run_at_once() {
        let sessions = Sessions::new(&Options { sessions: 2, ..Options::default() }, ());
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let call = |(): &mut ()| {
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::sleep(std::time::Duration::from_millis(5));
                        now.fetch_sub(1, Ordering::SeqCst);
                        Ok(())
                    };
                    assert!(sessions.with(|| Ok(()), call).is_ok());
                });
            }
        });
        assert_eq!(most.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_busy_model_fails_where_it_was_asked_to() {
        let sessions = Sessions::new(&Options { sessions: 1, when_busy: WhenBusy::Fail, ..Options::default() }, ());
        let busy = sessions.with(|| Ok(()), |()| Ok(sessions.with(|| Ok(()), |()| Ok(()))));
        assert!(matches!(busy, Ok(Err(Error::Busy { sessions: 1 }))));
        // A failed call leaves room for the next.
        let failed: Result<(), Error> = sessions.with(|| Ok(()), |()| Err(Error::Device("lost".to_owned())));
        assert!(failed.is_err() && sessions.with(|| Ok(()), |()| Ok(())).is_ok());
    }
}
