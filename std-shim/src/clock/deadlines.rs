//! Who sleeps until when: a binary heap whose nodes are in the sleeps themselves, so that it needs no memory of its own.
//!
//! The heap is a complete tree, kept by links. Of the n-th place, counted from 1 in rows, the bits of n below the highest say
//! the way there: 0 is left, 1 is right. So every operation takes at most two walks between the root and a leaf.
//!
//! Invariant: every link points at an [`Entry`] that is in this heap. An entry in the heap is alive and stays where it is,
//! which [`Deadlines::insert`] asks of its caller, and its cells are only used by whoever has the heap by mutable reference.

use std::cell::Cell;
use std::marker::PhantomPinned;
use std::ops::Deref;
use std::ptr::NonNull;
use std::task::Waker;
use std::time::Instant;

/// What the clock keeps of a sleep.
pub struct Entry {
    /// `None` is later than everything.
    deadline: Option<Instant>,
    is_in: Cell<bool>,
    /// Who began to sleep earlier has the smaller number.
    number: Cell<u64>,
    /// Whom to wake; there as long as the entry is in the heap.
    waker: Cell<Option<Waker>>,
    parent: Cell<Link>,
    left: Cell<Link>,
    right: Cell<Link>,
    _pinned: PhantomPinned,
}

// SAFETY: an entry that is in no heap is plain data, and one that is does not move; its cells are only used by whoever has the
// heap by mutable reference, and heaps and wakers go to other threads.
unsafe impl Send for Entry {}
// SAFETY: what may be had from a shared reference alone is the deadline, which does not change.
unsafe impl Sync for Entry {}

impl Entry {
    /// In no heap yet.
    pub fn new(deadline: Option<Instant>) -> Self {
        Entry {
            deadline,
            is_in: Cell::new(false),
            number: Cell::new(0),
            waker: Cell::new(None),
            parent: Cell::new(None),
            left: Cell::new(None),
            right: Cell::new(None),
            _pinned: PhantomPinned,
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub fn is_due(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

/// Whether one deadline comes before another. For ever is later than everything.
pub fn is_sooner(one: Option<Instant>, other: Option<Instant>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one < other,
        (one, other) => one.is_some() && other.is_none(),
    }
}

/// A pointer to an entry in the heap, or on its way in or out: it is alive.
#[derive(Clone, Copy, PartialEq, Eq)]
struct EntryRef(NonNull<Entry>);

type Link = Option<EntryRef>;

impl Deref for EntryRef {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        // SAFETY: the invariant: it is alive; and it only changes through cells.
        unsafe { self.0.as_ref() }
    }
}

impl EntryRef {
    fn goes_before(self, other: EntryRef) -> bool {
        is_sooner(self.deadline, other.deadline)
            || (self.deadline == other.deadline && self.number.get() < other.number.get())
    }

    /// Gives it these children, and no others.
    fn adopt(self, left: Link, right: Link) {
        self.left.set(left);
        self.right.set(right);
        for child in [left, right].into_iter().flatten() {
            child.parent.set(Some(self));
        }
    }
}

/// The entries, soonest first.
#[derive(Default)]
pub struct Deadlines {
    root: Link,
    len: usize,
    next_number: u64,
}

// SAFETY: entries may be used from any thread that has the heap by mutable reference.
unsafe impl Send for Deadlines {}

impl Deadlines {
    pub fn len(&self) -> usize {
        self.len
    }

    /// Enters a sleep, behind those with the same deadline. O(log n).
    ///
    /// # Safety
    /// The entry is in no heap. From now on it stays where it is, and alive, until it has been taken out: by
    /// [`remove`](Self::remove), [`pop`](Self::pop) or [`pop_due`](Self::pop_due) of this heap. Until then it is given to no
    /// other heap's functions.
    pub unsafe fn insert(&mut self, entry: &Entry, waker: Waker) {
        let entry = EntryRef(NonNull::from(entry));
        entry.is_in.set(true);
        entry.waker.set(Some(waker));
        entry.number.set(self.next_number);
        self.next_number += 1;
        entry.adopt(None, None);
        self.len += 1;
        let parent = self.at(self.len / 2);
        entry.parent.set(parent);
        match parent {
            None => self.root = Some(entry),
            Some(parent) if self.len.is_multiple_of(2) => parent.left.set(Some(entry)),
            Some(parent) => parent.right.set(Some(entry)),
        }
        self.rise(entry);
    }

    /// Whether the entry is in the heap: its time has not come yet.
    pub fn contains(&mut self, entry: &Entry) -> bool {
        entry.is_in.get()
    }

    /// Takes a sleep out, if it is still in, and gives its waker. O(log n).
    pub fn remove(&mut self, entry: &Entry) -> Option<Waker> {
        if !self.contains(entry) {
            return None;
        }
        self.take_out(EntryRef(NonNull::from(entry)))
    }

    /// Whether this is the waker that a sleep has.
    pub fn has_waker(&mut self, entry: &Entry, waker: &Waker) -> bool {
        let of_entry = entry.waker.take();
        let is_same = of_entry.as_ref().is_some_and(|of_entry| of_entry.will_wake(waker));
        entry.waker.set(of_entry);
        is_same
    }

    /// Gives a sleep that is in the heap another waker, and gives back the one before.
    pub fn exchange_waker(&mut self, entry: &Entry, waker: Waker) -> Option<Waker> {
        entry.waker.replace(Some(waker))
    }

    /// The first deadline; `None` if there is none, or only sleeps for ever.
    pub fn first(&self) -> Option<Instant> {
        self.root?.deadline
    }

    /// Takes the first sleep out if it is due, and gives its waker. O(log n).
    pub fn pop_due(&mut self, now: Instant) -> Option<Waker> {
        let first = self.root.filter(|first| first.is_due(now))?;
        self.take_out(first)
    }

    /// Takes the first sleep out, due or not, and gives its waker. O(log n).
    pub fn pop(&mut self) -> Option<Waker> {
        self.take_out(self.root?)
    }

    fn take_out(&mut self, entry: EntryRef) -> Option<Waker> {
        if let Some(last) = self.at(self.len) {
            self.replace(last, None);
            self.len -= 1;
            if last != entry {
                self.replace(entry, Some(last));
                last.adopt(entry.left.get(), entry.right.get());
                self.rise(last);
                self.sink(last);
            }
        }
        entry.is_in.set(false);
        entry.waker.take()
    }

    /// The entry in the `nth` place.
    fn at(&self, nth: usize) -> Link {
        let mut entry = self.root?;
        for bit in (0..nth.checked_ilog2()?).rev() {
            entry = if (nth >> bit) & 1 == 0 { entry.left.get()? } else { entry.right.get()? };
        }
        Some(entry)
    }

    /// Links whatever is above `old` with `new` instead. Their children stay as they are.
    fn replace(&mut self, old: EntryRef, new: Link) {
        let parent = old.parent.get();
        match parent {
            None => self.root = new,
            Some(parent) if parent.left.get() == Some(old) => parent.left.set(new),
            Some(parent) => parent.right.set(new),
        }
        if let Some(new) = new {
            new.parent.set(parent);
        }
    }

    fn rise(&mut self, entry: EntryRef) {
        while let Some(parent) = entry.parent.get()
            && entry.goes_before(parent)
        {
            self.exchange(parent, entry);
        }
    }

    fn sink(&mut self, entry: EntryRef) {
        loop {
            let child = match (entry.left.get(), entry.right.get()) {
                (Some(left), Some(right)) if right.goes_before(left) => right,
                (Some(left), _) => left,
                (None, _) => return,
            };
            if !child.goes_before(entry) {
                return;
            }
            self.exchange(entry, child);
        }
    }

    /// Lets an entry and its child change places.
    fn exchange(&mut self, parent: EntryRef, child: EntryRef) {
        let (left, right) = (parent.left.get(), parent.right.get());
        self.replace(parent, Some(child));
        parent.adopt(child.left.get(), child.right.get());
        if left == Some(child) {
            child.adopt(Some(parent), right);
        } else {
            child.adopt(left, Some(parent));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::Pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, mpsc};
    use std::task::Wake;
    use std::time::Duration;

    /// Writes its number where the test reads it.
    struct Numbered(usize, Arc<AtomicUsize>);

    impl Wake for Numbered {
        fn wake(self: Arc<Self>) {
            self.1.store(self.0, Ordering::Relaxed);
        }
    }

    /// A heap beside what it should be: deadline, number of the insertion, number of the sleep.
    struct Pair {
        start: Instant,
        heap: Deadlines,
        model: Vec<(u64, usize, usize)>,
        sleeps: Vec<Pin<Box<Entry>>>,
        woken: Arc<AtomicUsize>,
    }

    /// As a deadline: for ever.
    const NEVER: u64 = 50;

    impl Pair {
        fn new() -> Self {
            let woken = Arc::default();
            Pair { start: Instant::now(), heap: Deadlines::default(), model: Vec::new(), sleeps: Vec::new(), woken }
        }

        fn insert(&mut self, after: u64) {
            let id = self.sleeps.len();
            let deadline = (after < NEVER).then(|| self.start + Duration::from_secs(after));
            let entry = Box::pin(Entry::new(deadline));
            let waker = Waker::from(Arc::new(Numbered(id, Arc::clone(&self.woken))));
            // SAFETY: it is new, pinned, and dropped after the heap was emptied.
            unsafe { self.heap.insert(&entry, waker) };
            self.sleeps.push(entry);
            self.model.push((after, id, id));
            self.model.sort_unstable();
        }

        fn id(&self, waker: Waker) -> usize {
            waker.wake();
            self.woken.load(Ordering::Relaxed)
        }

        fn remove(&mut self, id: usize) {
            let waker = self.heap.remove(&self.sleeps[id]);
            let place = self.model.iter().position(|&(_, _, known)| known == id);
            assert_eq!(waker.map(|waker| self.id(waker)), place.map(|place| self.model.remove(place).2));
        }

        fn pop_due(&mut self, now: u64) {
            let waker = self.heap.pop_due(self.start + Duration::from_secs(now));
            let due = self.model.first().is_some_and(|&(after, ..)| after <= now && after < NEVER);
            assert_eq!(waker.map(|waker| self.id(waker)), due.then(|| self.model.remove(0).2));
        }

        fn check(&mut self) {
            assert_eq!(self.heap.len(), self.model.len());
            let first = self.model.first().filter(|&&(after, ..)| after < NEVER);
            assert_eq!(self.heap.first(), first.map(|&(after, ..)| self.start + Duration::from_secs(after)));
            for nth in 1..=self.heap.len() {
                let entry = self.heap.at(nth).expect("a complete tree");
                assert!(entry.parent.get() == self.heap.at(nth / 2));
                assert!(nth == 1 || !entry.goes_before(entry.parent.get().expect("only the root has none")));
                assert!(self.heap.contains(&entry));
            }
            assert_eq!(self.heap.root.is_none(), self.model.is_empty());
        }

        fn pop_all(mut self) {
            while let Some(waker) = self.heap.pop() {
                assert_eq!(self.id(waker), self.model.remove(0).2);
            }
            assert!(self.model.is_empty());
            assert!(self.sleeps.iter().all(|entry| !self.heap.contains(entry)));
            assert_eq!(Arc::strong_count(&self.woken), 1, "wakers that nobody dropped");
        }
    }

    #[test]
    fn any_order_of_operations_leaves_a_heap() {
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        for round in 0..if cfg!(miri) { 3 } else { 60 } {
            let mut pair = Pair::new();
            // Rounds that grow, rounds that shrink, and deadlines that are often the same.
            for _ in 0..200 {
                match next(10) {
                    n if n < 4 + round % 3 => pair.insert(next(NEVER + 5).min(NEVER)),
                    n if n < 8 && !pair.sleeps.is_empty() => pair.remove(next(pair.sleeps.len() as u64) as usize),
                    _ => pair.pop_due(next(NEVER)),
                }
                pair.check();
            }
            pair.pop_all();
        }
    }

    #[test]
    fn the_same_deadlines_come_out_in_order_of_insertion() {
        let mut pair = Pair::new();
        (0..100).for_each(|n| pair.insert(n % 3));
        // What is moved about by a removal keeps its turn.
        (0..100).step_by(7).for_each(|id| pair.remove(id));
        pair.pop_all();
    }

    #[test]
    fn for_ever_is_never_due_and_comes_last() {
        let mut pair = Pair::new();
        pair.insert(NEVER);
        pair.insert(NEVER);
        pair.pop_due(NEVER - 1);
        pair.check();
        pair.insert(3);
        pair.check();
        pair.pop_due(2);
        pair.pop_due(3);
        pair.pop_all();
    }

    #[test]
    fn sooner() {
        let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        assert!(is_sooner(Some(now), Some(later)) && !is_sooner(Some(later), Some(now)));
        assert!(!is_sooner(Some(now), Some(now)));
        assert!(is_sooner(Some(now), None) && !is_sooner(None, Some(now)) && !is_sooner(None, None));
    }

    #[test]
    fn a_waker_is_exchanged() {
        let mut pair = Pair::new();
        pair.insert(1);
        let new = Waker::from(Arc::new(Numbered(7, Arc::clone(&pair.woken))));
        assert!(!pair.heap.has_waker(&pair.sleeps[0], &new));
        let old = pair.heap.exchange_waker(&pair.sleeps[0], new.clone()).expect("the first one");
        assert_eq!(pair.id(old), 0);
        // Miri gives a constant many addresses, so that a waker may not be known again.
        assert!(cfg!(miri) || pair.heap.has_waker(&pair.sleeps[0], &new));
        drop(new);
        let waker = pair.heap.remove(&pair.sleeps[0]).expect("the second one");
        assert_eq!(pair.id(waker), 7);
        assert!(pair.heap.remove(&pair.sleeps[0]).is_none());
    }

    #[test]
    fn a_heap_is_used_from_any_thread() {
        let mut pair = Pair::new();
        (0..20).for_each(|n| pair.insert(20 - n));
        let (tx, rx) = mpsc::channel();
        std::thread::scope(|s| {
            let heap = &mut pair.heap;
            s.spawn(move || {
                while let Some(waker) = heap.pop() {
                    tx.send(waker).unwrap();
                }
            });
        });
        let ids: Vec<usize> = rx.into_iter().map(|waker| pair.id(waker)).collect();
        assert_eq!(ids, (0..20).rev().collect::<Vec<_>>());
    }
}
