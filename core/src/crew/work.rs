//! A worker's life: turns, and what it does between two of them and when it has nothing to do.

use core::marker::PhantomData;

use super::{Crew, DISSOLVE, END, HELP, INJECTED, SOME_CREDIT};
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
/// So many naps that end early are as good as one that does not, to see who is stuck.
const INTERRUPTIONS: u8 = 16;

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
                // Its poll has returned, and it may belong to another worker by now.
                self.current.set(None);
                self.share::<K>(false);
            }
            let turns = self.turns.load(Ordering::Relaxed);
            if turns.is_multiple_of(TURNS_IN_SIGHT) && self.switches.take() > MANY_SWITCHES {
                self.current.set(None);
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

    /// A fibre was queued, and another worker waits.
    #[inline]
    pub fn offer<K: Guts>(self, has_several: bool) {
        // A single one that is queued between two turns will run at once.
        let is_in_turn = self.current.get().is_some();
        if has_several || is_in_turn && self.has_long_turns.load(Ordering::Relaxed) {
            self.share::<K>(false);
        }
    }

    /// Gives half of the queue to one who waits. `to_watch`: only if nobody naps, and even if there is nothing to give, or no
    /// credit for it.
    #[cold]
    #[inline(never)]
    fn share<K: Guts>(self, to_watch: bool) {
        let process = self.process();
        let crew = &process.crew;
        let idle = process.exclusive::<K, _>(|| {
            if to_watch && (crew.is_napping.get() || !crew.has_moments.get()) {
                return None;
            }
            let helper = crew.pick_one()?;
            if !to_watch || crew.credit.get() != 0 && self.has_several() {
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
        process.exclusive::<K, _>(|| {
            if !crew.has_moments.get() {
                return None;
            }
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
        // How many turns all had given before a nap that has just ended; and whether that was long enough to see who is stuck.
        let mut turns_before = None;
        let mut may_rob = false;
        self.current.set(None);
        loop {
            let nothing = match begun.take() {
                Some(begun) => begun,
                None if self.take_some::<K>(turns_before.take(), core::mem::take(&mut may_rob)) => Nothing::LookAgain,
                None => process.exclusive::<K, _>(|| self.nothing_to_do(hub)),
            };
            match nothing {
                Nothing::LookAgain => {
                    // What it is called for may be no more than an empty call. A stop is not among what it looks for in each turn.
                    if hub.is_stopped(process.generation) {
                        process.end_crew::<K>(true);
                    }
                    // If others wait, one of them is to watch whether those who do not are stuck.
                    self.share::<K>(true);
                    return true;
                }
                Nothing::Leave => return false,
                Nothing::Wait => {
                    let _until = Waits::<K>(self, false, PhantomData);
                    self.wait();
                }
                Nothing::Nap => {
                    let until = Waits::<K>(self, true, PhantomData);
                    let turns = process.exclusive::<K, _>(|| crew.turns(crew.interruptions.get() == 0));
                    let is_over = self.nap();
                    drop(until);
                    turns_before = is_over.then_some(turns);
                    may_rob = process.exclusive::<K, _>(|| crew.end_nap(is_over));
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
        let naps = !is_last && self.idle.get().has_moments() && !crew.is_napping.replace(true);
        crew.note_helpers();
        if naps { Nothing::Nap } else { Nothing::Wait }
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
        }
        crew.note_helpers();
    }

    /// Takes what it was given, or else another one that has not woken up yet. If a moment ago all had given so many turns, it learns
    /// from that how long turns are, and takes the queue of one that is stuck in one.
    fn take_some<K: Guts>(self, turns_before: Option<usize>, may_rob: bool) -> bool {
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
                let is_stuck = may_rob && worker.is_stuck() && !worker.is_queue_empty();
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
        if loot == 0 || !crew.has_moments.get() {
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

impl Crew {
    /// A nap has ended: by itself, or because of something else. Says whether it is known by now who is stuck. The lock is held.
    fn end_nap(&self, is_over: bool) -> bool {
        let interruptions = self.interruptions.get() + 1;
        let is_known = is_over || interruptions == INTERRUPTIONS;
        self.interruptions.set(if is_known { 0 } else { interruptions });
        if is_known && self.credit.get() == 0 {
            self.credit.set(1);
            self.note_helpers();
        }
        is_known
    }
}

/// A worker waits; also if how it waits panics, it does no longer.
struct Waits<K: Guts>(WorkerRef, bool, PhantomData<K>);

impl<K: Guts> Drop for Waits<K> {
    fn drop(&mut self) {
        let Waits(worker, naps, _) = *self;
        worker.process().exclusive::<K, _>(|| worker.stop_waiting(naps));
    }
}
