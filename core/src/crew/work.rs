//! A worker's life: turns, and what it does between two of them and when it has nothing to do.

use super::{DISSOLVE, END, HELP, INJECTED, SOME_CREDIT};
use crate::channels::Ended;
use crate::fibre::{Lost, QUEUED, Woken};
use crate::hub::HubCore;
use crate::reach::Guts;
use crate::sync::Ordering;
use crate::worker::WorkerRef;

/// How many turns for each fibre that was given are worth while, however short they are.
const USEFUL_TURNS: usize = 64;
/// After so many turns a worker looks how often a channel had been used by another one just before.
const TURNS_IN_SIGHT: usize = 256;
const MANY_SWITCHES: usize = TURNS_IN_SIGHT / 4;

/// What a worker that found nothing to do is to do.
enum Nothing {
    /// Look again.
    LookAgain,
    /// Wait until it is woken.
    Wait,
    /// Wait for a moment.
    Nap,
    /// Leave.
    Leave,
}

impl WorkerRef {
    /// Runs fibres until the process ends. If a fibre panics, this may be called again.
    pub fn work<K: Guts>(self, hub: &HubCore) {
        let process = self.process();
        loop {
            let calls = process.crew.calls.load(Ordering::Relaxed);
            if calls & HELP != 0 && self.has_several() {
                self.share::<K>(2);
            }
            let turns = self.turns.load(Ordering::Relaxed);
            if turns.is_multiple_of(TURNS_IN_SIGHT) && self.switches.take() > MANY_SWITCHES {
                let begun = self.retire::<K>();
                if begun.is_some() && !self.find_work::<K>(hub, begun) {
                    return;
                }
            }
            let is_called = calls & !HELP != 0 || hub.has_news();
            if is_called || (turns.is_multiple_of(16) && !hub.is_quiet(process.generation)) {
                // What is heard of after the end is not answered: who waits then is deadlocked.
                if !process.crew.is_called_for(END) {
                    self.answer::<K>(hub);
                }
                if process.crew.is_called_for(END) {
                    // Its poll has returned, and it may belong to another worker by now.
                    self.current.set(None);
                    return;
                }
            }
            match self.pop_queued::<K>() {
                Some(fibre) => {
                    // If nobody else names it, it may as well keep its mark.
                    if fibre.status.get() != QUEUED {
                        fibre.status.begin_to_run();
                    }
                    self.begin_turn();
                    self.current.set(Some(fibre));
                    // SAFETY: the fibre was popped just now, and nobody polls it but who pops it.
                    unsafe { fibre.poll(self) };
                }
                None => {
                    self.current.set(None);
                    if !self.find_work::<K>(hub, None) {
                        return;
                    }
                }
            }
        }
    }

    /// Does what the workers are called for, as far as one turn goes.
    #[cold]
    #[inline(never)]
    fn answer<K: Guts>(self, hub: &HubCore) {
        let process = self.process();
        self.current.set(None);
        if !hub.is_quiet(process.generation) {
            process.empty_inbox::<K>(hub);
            if hub.is_stopped(process.generation) {
                process.end_crew::<K>(true);
            }
        }
        if process.crew.is_called_for(INJECTED) {
            let injected = process.exclusive::<K, _>(|| {
                process.crew.uncall(INJECTED);
                process.crew.injected.take()
            });
            if let Some(batch) = injected {
                self.enqueue_all::<K>(batch);
            }
        }
        if process.crew.is_called_for(DISSOLVE) {
            self.dissolve::<K>();
        }
    }

    /// Ends one wait whose last counterpart has gone, and with it the fibre if it had no other.
    fn dissolve<K: Guts>(self) {
        let process = self.process();
        let reporting = process.reporting.get();
        let ended = process.exclusive::<K, _>(|| {
            let ended = process.channels.end_next_wait::<K>(reporting.map(|reporting| reporting.name));
            if ended.is_none() {
                process.crew.uncall(DISSOLVE);
            }
            ended
        });
        let Some(Ended { waiter, direction, wants_end, lost, name, .. }) = ended else { return };
        if let Some(fibre) = waiter.fibre {
            match lost {
                None => process.wake_up::<K>(fibre, true),
                Some(Lost::All) => {
                    if let (Some(reporting), Some(name)) = (reporting, name) {
                        (reporting.dead_wait)(self, fibre, name, direction);
                    }
                    self.collapse(fibre);
                }
                Some(Lost::One(Woken::Ready)) => process.make_ready::<K>(fibre),
                Some(Lost::One(Woken::NotNow)) => {}
                // SAFETY: its future is gone, and nothing names it any more.
                Some(Lost::One(Woken::Unused)) => unsafe { fibre.release(process) },
            }
        }
        // Foreign code, so it comes last.
        if let Some(waker) = waiter.waker
            && wants_end
        {
            waker.wake();
        }
    }

    /// Wakes one who waits. It is given the older half of the queue, if that holds so many at least.
    #[cold]
    #[inline(never)]
    pub fn share<K: Guts>(self, at_least: usize) {
        let process = self.process();
        let idle = process.exclusive::<K, _>(|| {
            let helper = process.crew.pick_one()?;
            if at_least == 1 || self.has_several() {
                helper.gift.set(self.split::<K>());
            }
            Some(helper.idle.get())
        });
        if let Some(idle) = idle {
            idle.wake();
        }
    }

    /// Its fibres meet those of other workers all the time. If the credit for that is used up, and another worker is there, that one
    /// gets them all, and this one is to wait.
    #[cold]
    #[inline(never)]
    fn retire<K: Guts>(self) -> Option<Nothing> {
        let process = self.process();
        let crew = &process.crew;
        if !self.idle.get().has_moments() {
            return None;
        }
        process.exclusive::<K, _>(|| {
            crew.charge(1 + crew.credit.get() / 64);
            let is_alone = crew.workers().all(|worker| worker == self || worker.is_waiting.get());
            if crew.credit.get() != 0 || is_alone || crew.is_called_for(END) {
                return None;
            }
            crew.inject(self.take_all::<K>()?);
            Some(self.begin_to_wait(false))
        })
    }

    /// Waits until there is something to do, in the queue or to answer; perhaps because it has begun to. `false` if there will be
    /// nothing.
    #[cold]
    #[inline(never)]
    fn find_work<K: Guts>(self, hub: &HubCore, mut begun: Option<Nothing>) -> bool {
        let process = self.process();
        let crew = &process.crew;
        // How many turns all had given when this one last looked, before a nap.
        let mut turns_before = None;
        let mut has_napped = false;
        self.current.set(None);
        loop {
            let nothing = match begun.take() {
                Some(begun) => begun,
                None if self.take_some::<K>(turns_before.take()) => Nothing::LookAgain,
                None => process.exclusive::<K, _>(|| self.nothing_to_do(hub)),
            };
            match nothing {
                Nothing::LookAgain => {
                    // What it is called for may be no more than an empty call. A stop is not among what it looks for in each turn.
                    if hub.is_stopped(process.generation) {
                        process.end_crew::<K>(true);
                    }
                    if has_napped {
                        // Another one is to nap in its place.
                        self.share::<K>(2);
                    }
                    return true;
                }
                Nothing::Leave => return false,
                Nothing::Wait => {
                    self.wait();
                    process.exclusive::<K, _>(|| self.stop_waiting(false));
                }
                Nothing::Nap => {
                    let turns = process.exclusive::<K, _>(|| crew.turns(true));
                    has_napped = true;
                    let is_over = self.nap();
                    process.exclusive::<K, _>(|| self.stop_waiting(true));
                    if is_over {
                        turns_before = Some(turns);
                    }
                }
            }
        }
    }

    /// Decides what is to be done by a worker with nothing to do. The lock is held.
    fn nothing_to_do(self, hub: &HubCore) -> Nothing {
        let process = self.process();
        let crew = &process.crew;
        if crew.is_called_for(END) {
            return Nothing::Leave;
        }
        if crew.is_called_for(DISSOLVE | INJECTED) || !hub.is_quiet(process.generation) {
            return Nothing::LookAgain;
        }
        let is_last = crew.workers().all(|worker| worker == self || worker.is_waiting.get());
        if is_last {
            // Nothing runs now, and nothing is ready: whoever waits here found no fibre in its own queue, which nobody else
            // fills, and was given none.
            if process.sweep_two_way() {
                return Nothing::LookAgain;
            }
            let is_over = !process.cells().any(|cell| cell.is_live())
                || process.outside.is_some_and(|outside| outside.source.all_wait(process.waits_inside(hub)));
            if is_over {
                crew.call(END);
                crew.workers().for_each(|worker| worker.wake());
                return Nothing::Leave;
            }
            crew.have_all_waited.set(true);
            // Whatever comes now is something else.
            crew.credit.set(SOME_CREDIT);
        }
        self.begin_to_wait(is_last)
    }

    /// The lock is held.
    fn begin_to_wait(self, is_last: bool) -> Nothing {
        let crew = &self.process().crew;
        self.is_waiting.set(true);
        crew.waiting.set(crew.waiting.get() + 1);
        crew.note_helpers();
        if !is_last && !crew.is_napping.replace(true) { Nothing::Nap } else { Nothing::Wait }
    }

    /// The lock is held.
    fn stop_waiting(self, was_napping: bool) {
        let crew = &self.process().crew;
        if was_napping {
            crew.is_napping.set(false);
        }
        self.process().go_on();
        // Unless who woke it has done so.
        if self.is_waiting.replace(false) {
            crew.waiting.set(crew.waiting.get() - 1);
            crew.note_helpers();
        }
    }

    /// Takes what it was given, or else another one that has not woken up yet. If a moment ago all had given so many turns, it learns
    /// from that how long turns are, and takes the queue of one that is stuck in one.
    fn take_some<K: Guts>(self, turns_before: Option<usize>) -> bool {
        let process = self.process();
        let crew = &process.crew;
        let loot = process.exclusive::<K, _>(|| {
            let gift = self.gift.take();
            if gift.is_some() {
                return gift;
            }
            self.account_for_loot();
            if let Some(before) = turns_before {
                crew.learn(crew.turns(false).wrapping_sub(before));
            }
            crew.workers().filter(|worker| *worker != self).find_map(|worker| {
                let gift = worker.gift.take();
                let is_stuck = turns_before.is_some() && worker.is_stuck() && !worker.is_queue_empty();
                if gift.is_some() || !is_stuck {
                    gift
                } else {
                    Some((worker.visit::<K, _>(|| worker.take_queue())??, 0))
                }
            })
        });
        if let Some((batch, n)) = loot {
            self.loot.set(n);
            self.turns_at_loot.set(self.turns.load(Ordering::Relaxed));
            self.enqueue_all::<K>(batch);
        }
        loot.is_some()
    }

    /// Fibres that came from another worker have come to rest, or are there again. The lock is held.
    fn account_for_loot(self) {
        let crew = &self.process().crew;
        let loot = self.loot.take();
        if loot == 0 || !self.idle.get().has_moments() {
            return;
        }
        let turns = self.turns.load(Ordering::Relaxed).wrapping_sub(self.turns_at_loot.get());
        if turns < USEFUL_TURNS * loot {
            crew.charge(1);
        } else {
            crew.credit.set(crew.credit.get().max(SOME_CREDIT));
            crew.note_helpers();
        }
    }
}
