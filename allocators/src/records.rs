//! The record of blocks behind `Checking`, kept outside the blocks: what was given out, what waits in quarantine, and what
//! came back.
//!
//! ```text
//!                admit                claim                    retire
//!   (no record) ──────────▶ Live ───────────────▶ Claimed ──────────────▶ Quarantined
//!        ▲                  │  ▲                  │     ▲                      │
//!        │            claim │  │ settle, abandon  │     └──────────────────────┤ oldest
//!        │                  ▼  │            leave │                            │
//!        │                Resizing                │     withhold               │
//!        │                     │                  ├──────────────▶ Withheld    │
//!        │                     │ admit of another ▼                            │
//!        │                     └────────────▶  Released ◀──────────────────────┘ (by way of Claimed)
//!        └──────────────────────────────────────── the oldest one, when a slot is needed; or its address is given out again
//! ```
//!
//! A `Resizing` block is with the inner allocator, which may free its old address and give it to somebody else at once; then
//! its record is `Adrift`: out of the index, until the new address is known.
//!
//! # The index
//!
//! Addresses are scrambled in a way that loses nothing, so two of them never agree in all bits. The upper bits choose a head;
//! under each head hangs a binary tree in which the lower bits, one after the other, say left or right. There are as many
//! heads as records or more, so that a look-up takes one or two steps on average, however many blocks are live; and as there
//! are only so many bits, it takes `usize::BITS` steps at the very most, whatever the addresses.
//!
//! # Invariants
//!
//! 1. `heads .. heads + (1 << bits)` are initialised, `slots .. slots + carved` too, and `carved <= capacity`; all of it, up
//!    to `capacity` slots, lies in the backing.
//! 2. A number in a head, a child, a list or the chain of free slots is that of a carved slot, or `NONE`.
//! 3. A record in any state but `Free` and `Adrift` is in the index, under its address, and no other has that address.

use core::alloc::Layout;
use core::ptr::NonNull;
use core::slice;

use crate::extent::Backing;
use crate::mistake::{CheckedBlock, Mistake};

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Free,
    Live,
    Resizing,
    Adrift,
    Claimed,
    Quarantined,
    Released,
    Withheld,
}

/// A block as the inner allocator gave it: `layout` is what the user asked for. Of the inner allocator `slack` bytes more were
/// asked; it gave at least `zone` bytes more, which is never less.
#[derive(Clone, Copy)]
pub(crate) struct Body {
    pub(crate) block: NonNull<u8>,
    pub(crate) layout: Layout,
    pub(crate) slack: u8,
    pub(crate) zone: u8,
}

impl Body {
    /// What the inner allocator knows the block as.
    pub(crate) fn inner_layout(&self) -> Layout {
        // SAFETY: the inner allocator accepted this layout when it gave the block.
        unsafe { Layout::from_size_align_unchecked(self.layout.size() + usize::from(self.slack), self.layout.align()) }
    }

    /// In bytes, with the red zone.
    pub(crate) fn extent(&self) -> usize {
        self.layout.size() + usize::from(self.zone)
    }
}

/// A block in somebody's hands: nobody else does anything with it before its slot is put into another state.
#[derive(Clone, Copy)]
pub(crate) struct Held {
    pub(crate) slot: u32,
    pub(crate) body: Body,
    pub(crate) sequence: u64,
}

impl Held {
    pub(crate) fn named(&self) -> CheckedBlock {
        let Body { block, layout, .. } = self.body;
        CheckedBlock { address: block.addr().get(), layout, sequence: self.sequence }
    }
}

/// Why a block was not admitted.
pub(crate) enum Refusal {
    /// Every record is that of a block which is not free.
    Full,
    /// The address is that of this block, which is not free.
    Twice(CheckedBlock),
}

struct Record {
    body: Body,
    sequence: u64,
    child: [u32; 2],
    /// Neighbours on the list of the quarantined or of the released; `behind` also links the free slots.
    before: u32,
    behind: u32,
    state: State,
}

/// A chain of records, the oldest first.
struct List {
    first: u32,
    last: u32,
    count: usize,
}

impl List {
    const EMPTY: List = List { first: NONE, last: NONE, count: 0 };
}

/// Where the number of a record stands in the index.
#[derive(Clone, Copy)]
enum Place {
    Head(usize),
    Child(u32, usize),
}

pub(crate) struct Records<B: Backing> {
    heads: NonNull<u32>,
    /// There are two to the power of this many heads: at least one bit.
    bits: u32,
    slots: NonNull<Record>,
    capacity: u32,
    carved: u32,
    free: u32,
    quarantine: List,
    quarantined_bytes: usize,
    released: List,
    live: usize,
    admitted: u64,
    /// Mistakes that were reported, and whether a handler has unwound.
    pub(crate) mistakes: usize,
    pub(crate) unwound: bool,
    _backing: B,
}

// SAFETY: it owns the memory that its own pointers lead into. The blocks' addresses are only carried along; who follows
// them says there why that is allowed.
unsafe impl<B: Backing + Send> Send for Records<B> {}

const fn heads_for(records: usize) -> usize {
    if records < 2 { 2 } else { records.next_power_of_two() }
}

/// Bytes of memory in which `records` records find room, wherever the memory begins.
pub(crate) const fn bytes_for(records: usize) -> Option<usize> {
    if records > NONE as usize / 2 {
        return None;
    }
    let Some(slots) = records.checked_mul(size_of::<Record>()) else { return None };
    let Some(heads) = heads_for(records).checked_mul(size_of::<u32>()) else { return None };
    let Some(sum) = slots.checked_add(heads) else { return None };
    sum.checked_add(align_of::<Record>() - 1)
}

/// How many records fit into so many bytes, if these are aligned for one.
fn records_in(bytes: usize) -> usize {
    let most = (bytes / (size_of::<Record>() + size_of::<u32>())).min(NONE as usize / 2);
    let heads = heads_for(most);
    let with_all_heads = bytes.saturating_sub(heads * size_of::<u32>()) / size_of::<Record>();
    let records = if with_all_heads > heads / 2 { with_all_heads.min(most) } else { most.min(heads / 2) };
    // There is no single head.
    if records == 1 && bytes < size_of::<Record>() + heads_for(1) * size_of::<u32>() { 0 } else { records }
}

const ODD: usize = 0x9E37_79B9_7F4A_7C15_u64 as usize;

/// The address scrambled, so that all bits depend on all bits of it. Each of the three steps can be undone, so nothing is
/// lost. (One multiplication alone is not good enough for addresses at regular distances.)
const fn scrambled(address: usize) -> usize {
    let product = address.wrapping_mul(ODD);
    (product ^ (product >> (usize::BITS / 2))).wrapping_mul(ODD)
}

impl<B: Backing> Records<B> {
    /// The layout to be asked of a parent.
    pub(crate) fn layout(records: usize) -> Option<Layout> {
        Layout::from_size_align(bytes_for(records)?, align_of::<Record>()).ok()
    }

    /// As many records as fit, and at most `most`. Writes the heads: O(capacity).
    pub(crate) fn new(backing: B, most: usize) -> Self {
        let base = backing.base();
        let padding = base.addr().get().wrapping_neg() & (align_of::<Record>() - 1);
        let room = backing.len().saturating_sub(padding);
        let capacity = if room < 2 * size_of::<u32>() { 0 } else { records_in(room).min(most) };
        let n_heads = heads_for(capacity);
        let (slots, heads) = if capacity == 0 {
            (NonNull::dangling(), NonNull::dangling())
        } else {
            // SAFETY: `records_in` found that so many slots with their heads behind them fit; a slot is more aligned than a
            // head and a multiple of its size. The backing is ours alone.
            unsafe {
                let slots = base.add(padding).cast::<Record>();
                let heads = slots.add(capacity).cast::<u32>();
                for head in 0..n_heads {
                    heads.add(head).write(NONE);
                }
                (slots, heads)
            }
        };
        Records {
            heads,
            bits: n_heads.trailing_zeros(),
            slots,
            capacity: capacity as u32,
            carved: 0,
            free: NONE,
            quarantine: List::EMPTY,
            quarantined_bytes: 0,
            released: List::EMPTY,
            live: 0,
            admitted: 0,
            mistakes: 0,
            unwound: false,
            _backing: backing,
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity as usize
    }

    /// Blocks that the user holds.
    pub(crate) fn live(&self) -> usize {
        self.live
    }

    pub(crate) fn quarantined(&self) -> usize {
        self.quarantine.count
    }

    /// Slots that were ever used: all records are below.
    pub(crate) fn carved(&self) -> u32 {
        self.carved
    }

    /// The block of this slot, if it is in this state.
    pub(crate) fn held_in(&mut self, slot: u32, state: State) -> Option<Held> {
        (self.record(slot).state == state).then(|| self.held(slot))
    }

    /// Enters a block that was just given out as live.
    pub(crate) fn admit(&mut self, body: Body) -> Result<(), Refusal> {
        let known = self.find(body.block.addr().get());
        let slot = match known.map(|slot| (slot, self.record(slot).state)) {
            Some((slot, State::Released)) => {
                self.remove_released(slot);
                slot
            }
            None | Some((_, State::Resizing)) => {
                let fresh = self.take_slot().ok_or(Refusal::Full)?;
                // Making room cannot have taken the known record, which was no released one.
                if let Some(slot) = known {
                    self.unlink(slot);
                    self.record(slot).state = State::Adrift;
                }
                self.record(fresh).body = body;
                self.link(fresh);
                fresh
            }
            Some((slot, _)) => return Err(Refusal::Twice(self.held(slot).named())),
        };
        self.admitted += 1;
        self.live += 1;
        let sequence = self.admitted;
        let record = self.record(slot);
        record.body = body;
        record.sequence = sequence;
        record.state = State::Live;
        Ok(())
    }

    /// Takes a live block in hand, for its release (`Claimed`) or to resize it (`Resizing`), or says what is wrong with that.
    pub(crate) fn claim(&mut self, address: usize, layout: Layout, state: State) -> Result<Held, Mistake> {
        let Some(slot) = self.find(address) else { return Err(Mistake::ForeignPointer { address, layout }) };
        let held = self.held(slot);
        match self.record(slot).state {
            State::Live if held.body.layout == layout => {
                self.record(slot).state = state;
                if state == State::Claimed {
                    self.live -= 1;
                }
                Ok(held)
            }
            State::Live => Err(Mistake::WrongLayout { block: held.named(), given: layout }),
            _ => Err(Mistake::DoubleFree { block: held.named() }),
        }
    }

    /// What is wrong with releasing no bytes at this address.
    pub(crate) fn check_nothing(&mut self, address: usize, layout: Layout) -> Result<(), Mistake> {
        match self.find(address) {
            Some(slot) if self.record(slot).state == State::Live => {
                Err(Mistake::WrongLayout { block: self.held(slot).named(), given: layout })
            }
            _ => Ok(()),
        }
    }

    /// Puts a claimed block behind all others in quarantine.
    pub(crate) fn retire(&mut self, held: &Held) {
        self.record(held.slot).state = State::Quarantined;
        self.quarantined_bytes += held.body.extent();
        let mut list = core::mem::replace(&mut self.quarantine, List::EMPTY);
        self.push(&mut list, held.slot);
        self.quarantine = list;
    }

    /// Takes the oldest block of the quarantine in hand, if that has more than so many blocks or bytes.
    pub(crate) fn oldest(&mut self, blocks: usize, bytes: usize) -> Option<Held> {
        let slot = self.quarantine.first;
        if slot == NONE || (self.quarantine.count <= blocks && self.quarantined_bytes <= bytes) {
            return None;
        }
        let mut list = core::mem::replace(&mut self.quarantine, List::EMPTY);
        self.remove(&mut list, slot);
        self.quarantine = list;
        self.record(slot).state = State::Claimed;
        let held = self.held(slot);
        self.quarantined_bytes -= held.body.extent();
        Some(held)
    }

    /// A claimed block is about to go back to the inner allocator.
    pub(crate) fn leave(&mut self, held: &Held) {
        self.record(held.slot).state = State::Released;
        self.push_released(held.slot);
    }

    /// A claimed block is not to go back.
    pub(crate) fn withhold(&mut self, held: &Held) {
        self.record(held.slot).state = State::Withheld;
    }

    /// A resize turns out to be a release.
    pub(crate) fn release_instead(&mut self, held: &Held) {
        self.record(held.slot).state = State::Claimed;
        self.live -= 1;
    }

    /// A resize did not come about.
    pub(crate) fn abandon(&mut self, held: &Held) {
        if self.record(held.slot).state == State::Adrift {
            // The inner allocator gave the address away all the same; the new owner has it.
            self.live -= 1;
            self.free_slot(held.slot);
        } else {
            self.record(held.slot).state = State::Live;
        }
    }

    /// A resize came about. Returns the block that had the new address already, if the inner allocator gave that out twice;
    /// the resized one then has no record.
    pub(crate) fn settle(&mut self, held: &Held, body: Body) -> Option<CheckedBlock> {
        let slot = held.slot;
        let kept_its_address = self.record(slot).state == State::Resizing;
        if kept_its_address && body.block.addr() == held.body.block.addr() {
            let record = self.record(slot);
            record.body = body;
            record.state = State::Live;
            return None;
        }
        if kept_its_address {
            self.unlink(slot);
        }
        if let Some(other) = self.find(body.block.addr().get()) {
            match self.record(other).state {
                State::Released => {
                    self.remove_released(other);
                    self.unlink(other);
                    self.free_slot(other);
                }
                State::Resizing => {
                    self.unlink(other);
                    self.record(other).state = State::Adrift;
                }
                _ => {
                    self.live -= 1;
                    self.free_slot(slot);
                    return Some(self.held(other).named());
                }
            }
        }
        let record = self.record(slot);
        record.body = body;
        record.state = State::Live;
        self.link(slot);
        if kept_its_address && let Some(memory) = self.take_slot() {
            let record = self.record(memory);
            record.body = held.body;
            record.sequence = held.sequence;
            record.state = State::Released;
            self.link(memory);
            self.push_released(memory);
        }
        None
    }

    fn held(&mut self, slot: u32) -> Held {
        let Record { body, sequence, .. } = *self.record(slot);
        Held { slot, body, sequence }
    }

    fn record(&mut self, slot: u32) -> &mut Record {
        // SAFETY: invariant 1, and we are borrowed exclusively.
        let slots = unsafe { slice::from_raw_parts_mut(self.slots.as_ptr(), self.carved as usize) };
        &mut slots[slot as usize]
    }

    fn heads(&mut self) -> &mut [u32] {
        let n_heads = if self.capacity == 0 { 0 } else { 1 << self.bits };
        // SAFETY: invariant 1, and we are borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.heads.as_ptr(), n_heads) }
    }

    /// A slot that is nobody's: a free one, a new one, or that of the block whose release is longest ago.
    fn take_slot(&mut self) -> Option<u32> {
        if self.free != NONE {
            let slot = self.free;
            self.free = self.record(slot).behind;
            return Some(slot);
        }
        if self.carved < self.capacity {
            let slot = self.carved;
            let nothing = Body { block: NonNull::dangling(), layout: Layout::new::<()>(), slack: 0, zone: 0 };
            let record =
                Record { body: nothing, sequence: 0, child: [NONE; 2], before: NONE, behind: NONE, state: State::Free };
            // SAFETY: invariant 1: there is room for one more.
            unsafe { self.slots.add(slot as usize).write(record) };
            self.carved += 1;
            return Some(slot);
        }
        let slot = self.released.first;
        if slot == NONE {
            return None;
        }
        self.remove_released(slot);
        self.unlink(slot);
        Some(slot)
    }

    fn free_slot(&mut self, slot: u32) {
        let next = self.free;
        let record = self.record(slot);
        record.state = State::Free;
        record.behind = next;
        self.free = slot;
    }

    fn push_released(&mut self, slot: u32) {
        let mut list = core::mem::replace(&mut self.released, List::EMPTY);
        self.push(&mut list, slot);
        self.released = list;
    }

    fn remove_released(&mut self, slot: u32) {
        let mut list = core::mem::replace(&mut self.released, List::EMPTY);
        self.remove(&mut list, slot);
        self.released = list;
    }

    fn push(&mut self, list: &mut List, slot: u32) {
        let record = self.record(slot);
        record.before = list.last;
        record.behind = NONE;
        match list.last {
            NONE => list.first = slot,
            last => self.record(last).behind = slot,
        }
        list.last = slot;
        list.count += 1;
    }

    fn remove(&mut self, list: &mut List, slot: u32) {
        let Record { before, behind, .. } = *self.record(slot);
        match before {
            NONE => list.first = behind,
            before => self.record(before).behind = behind,
        }
        match behind {
            NONE => list.last = before,
            behind => self.record(behind).before = before,
        }
        list.count -= 1;
    }

    /// The head of an address, and the turns to take below it, first in the highest bit.
    fn way(&self, address: usize) -> (usize, usize) {
        let scrambled = scrambled(address);
        (scrambled >> (usize::BITS - self.bits), scrambled << self.bits)
    }

    fn at(&mut self, place: Place) -> &mut u32 {
        match place {
            Place::Head(head) => &mut self.heads()[head],
            Place::Child(slot, side) => &mut self.record(slot).child[side],
        }
    }

    /// Where the record of this address stands, or would have to.
    fn place(&mut self, address: usize) -> Place {
        let (head, mut turns) = self.way(address);
        let mut place = Place::Head(head);
        loop {
            let slot = *self.at(place);
            if slot == NONE || self.record(slot).body.block.addr().get() == address {
                return place;
            }
            place = Place::Child(slot, turns >> (usize::BITS - 1));
            turns <<= 1;
        }
    }

    fn find(&mut self, address: usize) -> Option<u32> {
        if self.capacity == 0 {
            return None;
        }
        let place = self.place(address);
        let slot = *self.at(place);
        (slot != NONE).then_some(slot)
    }

    fn link(&mut self, slot: u32) {
        let record = self.record(slot);
        record.child = [NONE; 2];
        let address = record.body.block.addr().get();
        let place = self.place(address);
        debug_assert!(*self.at(place) == NONE, "two records of one address");
        *self.at(place) = slot;
    }

    fn unlink(&mut self, slot: u32) {
        let address = self.record(slot).body.block.addr().get();
        let place = self.place(address);
        debug_assert!(*self.at(place) == slot, "the record is in the index");
        // Any leaf below may take its place: all that hangs there agrees in the turns that lead here.
        let mut leaf_place = place;
        let mut leaf = slot;
        while let Some(side) = self.record(leaf).child.iter().position(|child| *child != NONE) {
            leaf_place = Place::Child(leaf, side);
            leaf = self.record(leaf).child[side];
        }
        *self.at(leaf_place) = NONE;
        if leaf != slot {
            let child = self.record(slot).child;
            self.record(leaf).child = child;
            *self.at(place) = leaf;
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::{BTreeMap, VecDeque};
    use std::mem::MaybeUninit;
    use std::vec::Vec;

    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::extent::Borrowed;

    const CAPACITY: usize = 24;

    fn shape(size: usize) -> Layout {
        Layout::from_size_align(size, 8).expect("small")
    }

    /// A block at an address that nobody follows.
    fn body(address: usize, size: usize) -> Body {
        let block = NonNull::<u8>::dangling().with_addr(address.try_into().expect("not null"));
        Body { block, layout: shape(size), slack: 0, zone: 0 }
    }

    /// The address that is scrambled to this.
    fn unscrambled(wanted: usize) -> usize {
        // Newton's iteration for the inverse of an odd number; each step doubles the bits that are right.
        let inverse = (0..6).fold(ODD, |x, _| x.wrapping_mul(2_usize.wrapping_sub(ODD.wrapping_mul(x))));
        let folded = wanted.wrapping_mul(inverse);
        let address = (folded ^ (folded >> (usize::BITS / 2))).wrapping_mul(inverse);
        assert_eq!(scrambled(address), wanted);
        address
    }

    fn with_records(capacity: usize, test: impl FnOnce(&mut Records<Borrowed<'_>>)) {
        let mut memory = std::vec![MaybeUninit::uninit(); bytes_for(capacity).expect("small")];
        let mut records = Records::new(Borrowed::new(&mut memory), usize::MAX);
        assert_eq!(records.capacity(), capacity);
        test(&mut records);
    }

    #[test]
    fn the_worst_addresses_make_a_way_of_as_many_steps_as_there_are_bits() {
        with_records(200, |records| {
            // Each shares one turn more with all that follow it. All hang under the first head.
            let lowest = records.bits + 1;
            let addresses: Vec<_> = (lowest..=usize::BITS).map(|bit| unscrambled(1 << (usize::BITS - bit))).collect();
            for address in &addresses {
                assert!(records.admit(body(*address, 8)).is_ok());
            }
            let steps = |records: &mut Records<_>, address| {
                let (head, mut turns) = records.way(address);
                let (mut slot, mut steps) = (records.heads()[head], 1);
                while slot != NONE && records.record(slot).body.block.addr().get() != address {
                    slot = records.record(slot).child[turns >> (usize::BITS - 1)];
                    turns <<= 1;
                    steps += 1;
                }
                (slot != NONE).then_some(steps)
            };
            let deepest = addresses.iter().map(|address| steps(records, *address).expect("it is there")).max();
            assert_eq!(deepest, Some(addresses.len()), "that many at least, for the worst case to be one");
            assert!(addresses.len() <= usize::BITS as usize);
            for address in addresses {
                assert!(records.claim(address, shape(8), State::Claimed).is_ok());
            }
            assert_eq!(records.live(), 0);
        });
    }

    #[test]
    fn usual_addresses_are_found_in_two_steps_on_average() {
        for (stride, capacity) in [(16, 1 << 14), (48, 10_000), (4096, 1 << 14), (80, 1 << 14)] {
            with_records(capacity, |records| {
                let addresses: Vec<_> = (1..=capacity).map(|n| 0x7f00_0000 + n * stride).collect();
                addresses.iter().for_each(|address| assert!(records.admit(body(*address, 8)).is_ok()));
                let mut steps = 0;
                for address in addresses {
                    let (head, mut turns) = records.way(address);
                    let mut slot = records.heads()[head];
                    steps += 1;
                    while records.record(slot).body.block.addr().get() != address {
                        slot = records.record(slot).child[turns >> (usize::BITS - 1)];
                        turns <<= 1;
                        steps += 1;
                    }
                }
                assert!(steps <= 2 * capacity, "{steps} for {capacity} of {stride}");
            });
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Admit(Index),
        Release(Index),
        Shed,
        Move(Index, Index),
        TakenOver(Index, Index),
    }

    fn step() -> impl Strategy<Value = Step> {
        let two = || (any::<Index>(), any::<Index>());
        prop_oneof![
            5 => any::<Index>().prop_map(Step::Admit),
            3 => any::<Index>().prop_map(Step::Release),
            2 => Just(Step::Shed),
            1 => two().prop_map(|(which, to)| Step::Move(which, to)),
            1 => two().prop_map(|(which, to)| Step::TakenOver(which, to)),
        ]
    }

    proptest! {
        /// Few addresses, most of them under one head, against a map.
        #[test]
        fn the_records_are_what_a_map_would_hold(steps in prop::collection::vec(step(), 0..300)) {
            let address_of = |at: Index| unscrambled(at.index(64) + 1);
            with_records(CAPACITY, |records| {
                let mut live = BTreeMap::<usize, usize>::new();
                let mut waiting = VecDeque::<usize>::new();
                // With the size that tells one life of an address from another.
                let mut gone = BTreeMap::<usize, usize>::new();
                for (size, step) in (1..).zip(steps) {
                    // While a block moves and its former address has a new owner already, one record more is needed.
                    let mut crowded = false;
                    match step {
                        Step::Admit(at) => {
                            let address = address_of(at);
                            let taken = live.contains_key(&address) || waiting.contains(&address);
                            match records.admit(body(address, size)) {
                                Ok(()) => {
                                    assert!(!taken);
                                    live.insert(address, size);
                                    gone.remove(&address);
                                }
                                Err(Refusal::Twice(block)) => {
                                    assert!(taken);
                                    assert_eq!(block.address, address);
                                }
                                Err(Refusal::Full) => assert_eq!(live.len() + waiting.len(), CAPACITY),
                            }
                        }
                        Step::Release(which) if !live.is_empty() => {
                            let (address, size) = live.iter().nth(which.index(live.len())).map(|(a, s)| (*a, *s)).expect("below len");
                            assert!(records.claim(address, shape(size + 1), State::Claimed).is_err());
                            let Ok(held) = records.claim(address, shape(size), State::Claimed) else { panic!("it is live") };
                            records.retire(&held);
                            live.remove(&address);
                            waiting.push_back(address);
                        }
                        Step::Shed => {
                            let held = records.oldest(2, usize::MAX);
                            let expected = (waiting.len() > 2).then(|| waiting.pop_front()).flatten();
                            assert_eq!(held.map(|held| held.named().address), expected);
                            if let Some(held) = held {
                                records.leave(&held);
                                gone.insert(held.named().address, held.named().layout.size());
                            }
                        }
                        Step::Move(which, to) | Step::TakenOver(which, to) if !live.is_empty() => {
                            let (address, old) = live.iter().nth(which.index(live.len())).map(|(a, s)| (*a, *s)).expect("below len");
                            let to = address_of(to);
                            let Ok(held) = records.claim(address, shape(old), State::Resizing) else { panic!("it is live") };
                            assert!(records.claim(address, shape(old), State::Claimed).is_err(), "it is in hand");
                            let taken = to != address && (live.contains_key(&to) || waiting.contains(&to));
                            let over = matches!(step, Step::TakenOver(..)) && records.admit(body(address, size)).is_ok();
                            crowded = over;
                            if taken || (over && to == address) {
                                records.abandon(&held);
                                if over {
                                    live.insert(address, size);
                                }
                            } else {
                                let size = size + 1000;
                                assert!(records.settle(&held, body(to, size)).is_none());
                                live.remove(&address);
                                gone.remove(&to);
                                live.insert(to, size);
                                if over {
                                    live.insert(address, size - 1000);
                                } else if to != address {
                                    gone.insert(address, old);
                                }
                            }
                        }
                        _ => {}
                    }
                    assert_eq!((records.live(), records.quarantined()), (live.len(), waiting.len()));
                    let bytes: usize = waiting.iter().map(|at| {
                        let slot = records.find(*at).expect("it waits");
                        records.held(slot).body.extent()
                    }).sum();
                    assert_eq!(records.quarantined_bytes, bytes);
                    for at in 1..=64 {
                        let address = unscrambled(at);
                        let found = records.find(address).map(|slot| (records.record(slot).state, records.held(slot)));
                        match found {
                            Some((State::Live, held)) => assert_eq!(live.get(&address), Some(&held.body.layout.size())),
                            Some((State::Quarantined, _)) => assert!(waiting.contains(&address)),
                            Some((State::Released, held)) => {
                                assert_eq!(gone.get(&address), Some(&held.body.layout.size()));
                            }
                            Some(_) => panic!("nothing is in hand now"),
                            None => assert!(!live.contains_key(&address) && !waiting.contains(&address)),
                        }
                    }
                    // What went is remembered as long as there is room.
                    let room = CAPACITY - live.len() - waiting.len();
                    assert!(records.released.count <= room);
                    assert!(records.released.count + usize::from(crowded) >= gone.len().min(room));
                    gone.retain(|address, _| records.find(*address).is_some());
                }
            });
        }
    }
}
