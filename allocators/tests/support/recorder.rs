//! An allocator that writes down what is asked of it, and when it goes.

use std::cell::RefCell;
use std::ptr::NonNull;
use std::rc::Rc;

use allocator_api2::alloc::Global;
use fibra_allocators::{AllocError, Allocator, Layout};

#[derive(Clone, Default)]
pub struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    pub fn add(&self, event: String) {
        self.0.borrow_mut().push(event);
    }

    /// What happened since the last time, in order.
    pub fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

pub struct Recorder {
    name: String,
    log: Log,
}

impl Recorder {
    pub fn new(name: impl ToString, log: &Log) -> Self {
        Recorder { name: name.to_string(), log: log.clone() }
    }

    fn add(&self, event: &str, layout: Layout) {
        self.log.add(format!("{} {event} {}", self.name, layout.size()));
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.log.add(format!("{} dropped", self.name));
    }
}

// SAFETY: it is `Global`, method by method.
unsafe impl Allocator for &Recorder {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.add("allocate", layout);
        Global.allocate(layout)
    }

    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.add("allocate_zeroed", layout);
        Global.allocate_zeroed(layout)
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        self.add("deallocate", layout);
        // SAFETY: passed on to the caller.
        unsafe { Global.deallocate(block, layout) }
    }

    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.add("grow", new);
        // SAFETY: passed on to the caller.
        unsafe { Global.grow(block, old, new) }
    }

    unsafe fn grow_zeroed(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.add("grow_zeroed", new);
        // SAFETY: passed on to the caller.
        unsafe { Global.grow_zeroed(block, old, new) }
    }

    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.add("shrink", new);
        // SAFETY: passed on to the caller.
        unsafe { Global.shrink(block, old, new) }
    }
}
