//! The channels of a process.

use core::ptr;

use crate::channel::{ChannelCore, ChannelRef, DISSOLVING};
use crate::fibre::{FibreRef, LIVE, Lost};
use crate::node::{Direction, Waiter};
use crate::outcome::Wait;
use crate::process::{ProcessCore, ProcessRef};
use crate::reach::Guts;
use crate::sync::word::AtomicPtr;
use crate::sync::{Alone, AtomicU32, Cell, Ordering};

/// The channels of a process: a circle. Those whose waits are to be ended are in front.
pub(crate) struct Channels {
    first: Cell<*const ChannelCore>,
    /// How many endpoints there are, forgotten ones too.
    endpoints: AtomicU32,
    /// Set when the first two-way channel is made. A pointer, so that the image of a program without any has none of it.
    sweep: SweepCell,
    /// Where a walk over the channels goes on, if there is one.
    walk: Cell<*const ChannelCore>,
    /// The channels that there were when the process began to close: linked by `next`, up to null.
    frozen: Cell<*const ChannelCore>,
}

/// How the channels of a process are swept.
struct Sweep(fn(&ProcessCore) -> bool);

struct SweepCell(AtomicPtr<Sweep>);

impl Channels {
    /// There is a two-way channel now.
    pub fn sweep_from_now_on<K: Guts>(&self) {
        let sweep: &'static Sweep = &Sweep(ProcessCore::sweep::<K>);
        self.sweep.0.store(ptr::from_ref(sweep).cast_mut(), Ordering::Relaxed);
    }

    pub fn new() -> Self {
        Channels {
            first: Cell::new(ptr::null()),
            endpoints: AtomicU32::new(0),
            sweep: SweepCell(AtomicPtr::new(ptr::null_mut())),
            walk: Cell::new(ptr::null()),
            frozen: Cell::new(ptr::null()),
        }
    }

    /// Counts endpoints that are about to be made. `None` if there would be more than a fibre can count waits: as one waits
    /// at most once, that keeps all counts in their bounds.
    pub fn add_endpoints<K: Guts>(&self, n: u32) -> Option<()> {
        if K::IS_SHARED {
            let more = |endpoints: u32| endpoints.checked_add(n).filter(|endpoints| *endpoints < LIVE);
            return self.endpoints.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| ());
        }
        // SAFETY: the channels of a process that is not shared are made and dropped by one thread.
        unsafe {
            let endpoints = self.endpoints.load_alone() + n;
            (endpoints < LIVE).then(|| self.endpoints.store_alone(endpoints))
        }
    }

    /// One that was counted has gone.
    pub fn remove_endpoint<K: Guts>(&self) {
        if K::IS_SHARED {
            self.endpoints.fetch_sub(1, Ordering::Relaxed);
        } else {
            // SAFETY: as above.
            unsafe { self.endpoints.store_alone(self.endpoints.load_alone() - 1) }
        }
    }

    fn at(channel: *const ChannelCore) -> Option<ChannelRef> {
        // SAFETY: the list holds channels that are allocated: `free` takes them out.
        (!channel.is_null()).then(|| unsafe { ChannelRef::new(channel) })
    }

    /// Adds a channel at the end.
    pub fn insert(&self, channel: ChannelRef) {
        let this = channel.as_ptr();
        match Self::at(self.first.get()) {
            None => {
                channel.next.set(this);
                channel.prev.set(this);
                self.first.set(this);
            }
            Some(first) => {
                let last = first.prev.get();
                channel.next.set(first.as_ptr());
                channel.prev.set(last);
                first.prev.set(this);
                if let Some(last) = Self::at(last) {
                    last.next.set(this);
                }
            }
        }
    }

    pub fn remove(&self, channel: ChannelRef) {
        let this = channel.as_ptr();
        let (next, prev) = (channel.next.get(), channel.prev.get());
        let is_last = next == this;
        if self.walk.get() == this {
            self.walk.set(if next == self.first.get() { ptr::null() } else { next });
        }
        if let (Some(next), Some(prev)) = (Self::at(next), Self::at(prev)) {
            next.prev.set(channel.prev.get());
            prev.next.set(channel.next.get());
        }
        if self.first.get() == this {
            self.first.set(if is_last { ptr::null() } else { next });
        }
    }

    pub fn to_front(&self, channel: ChannelRef) {
        let this = channel.as_ptr();
        if self.first.get() != this {
            self.remove(channel);
            self.insert(channel);
            self.first.set(this);
        }
    }

    /// Ends the next wait that is to be ended. The process's own lock is held.
    pub fn end_next_wait<K: Guts>(&self, name: Option<fn(ChannelRef) -> &'static str>) -> Option<Ended> {
        while let Some(channel) = Self::at(self.first.get()) {
            let ended = channel.locked::<K, _>(|| {
                if channel.flags() & DISSOLVING == 0 {
                    return None;
                }
                Some(channel.next_to_end::<K>().map(|(node, is_stuck)| {
                    let (waiter, direction, wants_end) = channel.end_wait(node);
                    let mut lost = None;
                    if K::IS_SHARED
                        && !wants_end
                        && let Some(fibre) = waiter.fibre
                    {
                        // While nobody can meet it in another of its nodes here.
                        lost = Some(channel.lose_wait(fibre, is_stuck));
                    }
                    Ended { waiter, direction, wants_end, is_stuck, lost, name: name.map(|name| name(channel)) }
                }))
            });
            match ended {
                None => return None,
                Some(None) => self.dissolved::<K>(channel),
                Some(ended) => return ended,
            }
        }
        None
    }

    /// A channel has no more waits to end: it goes to the end of the list.
    fn dissolved<K: Guts>(&self, channel: ChannelRef) {
        channel.locked::<K, _>(|| {
            channel.unmark();
            channel.set_flags(channel.flags() & !DISSOLVING);
        });
        self.first.set(channel.next.get());
    }

    /// The whole list.
    fn all(&self) -> impl Iterator<Item = ChannelRef> {
        let first = Self::at(self.first.get());
        core::iter::successors(first, move |channel| Self::at(channel.next.get()).filter(|next| Some(*next) != first))
    }

    /// Moves all channels to the frozen list, with their rings set aside, and shows the fibres in those.
    pub fn freeze(&self, process: ProcessRef, mut each: impl FnMut(FibreRef)) {
        for channel in self.all() {
            channel.freeze(process, &mut each);
        }
        let first = self.first.replace(ptr::null());
        let mut last = Self::at(first);
        while let Some(channel) = last {
            last = Self::at(channel.next.get()).filter(|next| next.as_ptr() != first);
            if last.is_none() {
                channel.next.set(ptr::null());
            }
        }
        self.frozen.set(first);
    }

    /// The frozen list.
    pub fn frozen(&self) -> impl Iterator<Item = ChannelRef> {
        core::iter::successors(Self::at(self.frozen.get()), |channel| Self::at(channel.next.get()))
    }

    /// Releases the frozen channels.
    pub fn thaw(&self) {
        let mut next = self.frozen.replace(ptr::null());
        while let Some(channel) = Self::at(next) {
            next = channel.next.get();
            channel.thaw();
        }
    }

    /// Shows the waits on all channels; `each` may make and drop channels and endpoints.
    pub fn for_each_wait<K: Guts>(&self, process: ProcessRef, mut each: impl FnMut(&Wait)) {
        process.exclusive::<K, _>(|| self.walk.set(self.first.get()));
        let running = K::worker_of(process).and_then(|worker| worker.current.get());
        let mut nth = 0;
        // Each step starts anew, because the last one may have changed the ring, or released the channel: then the walk has
        // moved on, and the next channel is begun where the last was left.
        let mut last = ptr::null();
        loop {
            let step = process.exclusive::<K, _>(|| {
                let channel = Self::at(self.walk.get())?;
                if channel.as_ptr() != last {
                    (last, nth) = (channel.as_ptr(), 0);
                }
                let wait = channel.locked::<K, _>(|| {
                    let node = channel.ring().nodes().nth(nth)?;
                    nth += 1;
                    let fibre = node.fibre().filter(|fibre| fibre.is_parked() && Some(*fibre) != running);
                    Some(fibre.map(|fibre| Wait::new(fibre.name(), Some((channel.name(), node.direction())))))
                });
                if wait.is_none() {
                    let next = channel.next.get();
                    self.walk.set(if next == self.first.get() { ptr::null() } else { next });
                    last = ptr::null();
                }
                Some(wait.flatten())
            });
            match step {
                None => return,
                Some(None) => {}
                Some(Some(wait)) => each(&wait),
            }
        }
    }
}

/// A wait that was ended because its counterparts had gone.
pub(crate) struct Ended {
    /// Who waited. The fibre counts the node still.
    pub waiter: Waiter,
    pub direction: Direction,
    /// It is to be told, and goes on.
    pub wants_end: bool,
    /// All who have an endpoint wait for one another.
    pub is_stuck: bool,
    /// With several workers, and if it is not to be told: what is left to the fibre, which no longer counts the node.
    pub lost: Option<Lost>,
    /// The channel's, if somebody wants to know.
    pub name: Option<&'static str>,
}

impl ProcessCore {
    /// Ends the waits on two-way channels all of whose endpoints are stuck; says whether there were any. Only called
    /// when no fibre is ready.
    pub fn sweep_two_way(&self) -> bool {
        // SAFETY: only `sweep_from_now_on` stores anything there.
        unsafe { self.channels.sweep.0.load(Ordering::Relaxed).as_ref() }.is_some_and(|sweep| (sweep.0)(self))
    }

    /// Takes a step for each channel. The process's own lock is held, and no fibre runs.
    fn sweep<K: Guts>(&self) -> bool {
        let mut any = false;
        let mut left = self.channels.all().count();
        let mut next = Channels::at(self.channels.first.get());
        while let Some(channel) = next.filter(|_| left > 0) {
            left -= 1;
            next = Channels::at(channel.next.get());
            let is_two_way = channel.info.is_stuck.is_some();
            if is_two_way && channel.flags() == 0 && channel.locked::<K, _>(|| channel.mark_if_stuck()) {
                channel.dissolve::<K>();
                any = true;
            }
        }
        any
    }
}
