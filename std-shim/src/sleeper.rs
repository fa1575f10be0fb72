//! How a thread waits, and is woken.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fibra_core::Idle;

/// How long a worker sleeps before it looks whether others are stuck.
const MOMENT: Duration = Duration::from_millis(1);

/// A place for one thread to wait, on a condition variable, which remembers a wake-up that comes before the wait.
///
/// ```text
///              wait                        wake
///   AWAKE ------------> ASLEEP ------------------------> WOKEN
///     ^ \                 | the deadline                  ^ |
///     |  `- wake ---------+-------------------------------' |
///     `-------------------'---------------------------------' the wait returns
/// ```
///
/// Only who finds it `ASLEEP` has to ask the operating system, and does not keep the mutex meanwhile.
#[derive(Default)]
pub struct Sleeper {
    state: AtomicU8,
    /// Held by who goes to sleep, from saying so until it sleeps.
    falling_asleep: Mutex<()>,
    changed: Condvar,
}

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
const WOKEN: u8 = 2;

impl Sleeper {
    /// Waits until it is woken, or, if there is one, until `deadline`. Says whether it was woken.
    pub fn wait_until(&self, deadline: Option<Instant>) -> bool {
        if self.wake_up() {
            return true;
        }
        let mut guard = self.lock();
        if self.state.compare_exchange(AWAKE, ASLEEP, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            while self.state.load(Ordering::Relaxed) == ASLEEP {
                guard = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                    Some(Duration::ZERO) => break,
                    Some(left) => self.changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0,
                    None => self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner),
                };
            }
        }
        // What was done before a wake-up is seen here.
        self.state.swap(AWAKE, Ordering::Acquire) == WOKEN
    }

    /// Ends a wait, now or the next one.
    pub fn wake(&self) {
        if self.state.swap(WOKEN, Ordering::AcqRel) == ASLEEP {
            // Once the mutex is free, the other one sleeps, or sees by itself.
            drop(self.lock());
            self.changed.notify_one();
        }
    }

    /// Takes a wake-up that has come already.
    fn wake_up(&self) -> bool {
        self.state.compare_exchange(WOKEN, AWAKE, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// No other code runs under the lock, so what a panic left behind is whole.
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.falling_asleep.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idle for Sleeper {
    fn wait(&self) {
        self.wait_until(None);
    }

    fn wake(&self) {
        Sleeper::wake(self);
    }

    fn nap(&self) -> bool {
        !self.wait_until(Some(Instant::now() + MOMENT))
    }

    fn has_moments(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_wake_up_before_the_wait_is_not_lost() {
        let sleeper = Sleeper::default();
        sleeper.wake();
        sleeper.wake();
        assert!(sleeper.wait_until(None));
    }

    #[test]
    fn a_wake_up_serves_once() {
        let sleeper = Sleeper::default();
        sleeper.wake();
        sleeper.wait();
        assert!(sleeper.nap(), "nobody has woken it again");
        assert!(!sleeper.wait_until(Some(Instant::now())));
        sleeper.wake();
        assert!(sleeper.wait_until(Some(Instant::now())), "a wake-up counts even if the time is over");
    }

    #[test]
    fn each_wake_up_of_another_thread_ends_a_wait() {
        let (ping, pong) = (Sleeper::default(), Sleeper::default());
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    ping.wait();
                    pong.wake();
                }
            });
            for _ in 0..10_000 {
                ping.wake();
                pong.wait();
            }
        });
    }
}
