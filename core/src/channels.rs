//! The channels of a process.

use core::cell::Cell;
use core::ptr;

use crate::channel::{ChannelCore, ChannelRef, DISSOLVING};
use crate::fibre::{FibreRef, LIVE};
use crate::node::{Direction, NodeRef};
use crate::process::ProcessCore;

/// The channels of a process: a circle. Those whose waits are to be ended are in front.
pub(crate) struct Channels {
    first: Cell<*const ChannelCore>,
    /// How many endpoints there are, forgotten ones too.
    pub endpoints: Cell<u32>,
    /// Set when the first two-way channel is made.
    pub sweep: Cell<Option<fn(&ProcessCore) -> bool>>,
    /// Where a walk over the channels goes on, if there is one.
    walk: Cell<*const ChannelCore>,
    /// The channels that there were when the process began to close: linked by `next`, up to null.
    frozen: Cell<*const ChannelCore>,
}

impl Channels {
    pub const fn new() -> Self {
        Channels {
            first: Cell::new(ptr::null()),
            endpoints: Cell::new(0),
            sweep: Cell::new(None),
            walk: Cell::new(ptr::null()),
            frozen: Cell::new(ptr::null()),
        }
    }

    /// Counts endpoints that are about to be made. `None` if there would be more than a fibre can count waits: as one waits
    /// at most once, that keeps all counts in their bounds.
    pub fn add_endpoints(&self, n: u32) -> Option<()> {
        let endpoints = self.endpoints.get() + n;
        (endpoints < LIVE).then(|| self.endpoints.set(endpoints))
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

    pub fn is_dissolving(&self) -> bool {
        Self::at(self.first.get()).is_some_and(|channel| channel.flags() & DISSOLVING != 0)
    }

    /// The next wait that is to be ended.
    pub fn next_dissolving(&self) -> Option<(ChannelRef, NodeRef, bool)> {
        while let Some(channel) = Self::at(self.first.get())
            && channel.flags() & DISSOLVING != 0
        {
            if let Some((node, is_stuck)) = channel.next_to_end() {
                return Some((channel, node, is_stuck));
            }
            self.dissolved(channel);
        }
        None
    }

    /// A channel has no more waits to end: it goes to the end of the list.
    fn dissolved(&self, channel: ChannelRef) {
        channel.unmark();
        channel.set_flags(channel.flags() & !DISSOLVING);
        self.first.set(channel.next.get());
    }

    /// The whole list.
    fn all(&self) -> impl Iterator<Item = ChannelRef> {
        let first = Self::at(self.first.get());
        core::iter::successors(first, move |channel| Self::at(channel.next.get()).filter(|next| Some(*next) != first))
    }

    /// Moves all channels to the frozen list, with their rings set aside, and shows the fibres in those.
    pub fn freeze(&self, mut each: impl FnMut(FibreRef)) {
        for channel in self.all() {
            channel.freeze(&mut each);
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
    pub fn for_each_wait(&self, mut each: impl FnMut(FibreRef, &'static str, Direction)) {
        self.walk.set(self.first.get());
        while let Some(channel) = Self::at(self.walk.get()) {
            let mut nth = 0;
            // Each step starts anew, because the last one may have changed the ring, or released the channel.
            while self.walk.get() == channel.as_ptr()
                && let Some(node) = channel.ring().nodes().nth(nth)
            {
                nth += 1;
                if let Some(fibre) = node.fibre().filter(|fibre| fibre.flags() == 0) {
                    each(fibre, channel.name(), node.direction());
                }
            }
            if self.walk.get() == channel.as_ptr() {
                let next = channel.next.get();
                self.walk.set(if next == self.first.get() { ptr::null() } else { next });
            }
        }
    }
}

impl ProcessCore {
    /// Ends the waits on two-way channels all of whose endpoints are stuck; says whether there were any. Only called
    /// when no fibre is ready.
    pub fn sweep_two_way(&self) -> bool {
        self.channels.sweep.get().is_some_and(|sweep| sweep(self))
    }

    /// What `sweep` is set to. Takes a step for each channel.
    pub fn sweep(&self) -> bool {
        let mut any = false;
        let mut left = self.channels.all().count();
        let mut next = Channels::at(self.channels.first.get());
        while let Some(channel) = next.filter(|_| left > 0) {
            left -= 1;
            next = Channels::at(channel.next.get());
            if channel.flags() == 0 && channel.info.is_stuck.is_some_and(|is_stuck| is_stuck(channel)) {
                channel.dissolve();
                any = true;
            }
        }
        any
    }
}
