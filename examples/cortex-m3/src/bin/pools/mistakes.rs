//! Mistakes made on purpose, under the eyes of the checking allocator.

use core::cell::RefCell;
use core::mem::MaybeUninit;

use fibra_allocators::{
    AllocRef, Arena, Checking, CriticalSection, Layout, MemReq, Mistake, SizeClasses, Table, checking_arena_size, table,
};

const SIZES: Table<2> = table([MemReq::new(32, 8), MemReq::new(64, 8)]);
const RECORDS: usize = checking_arena_size(16);

/// What was caught, in the order of its being made, and which allocation it was about.
pub fn make() -> impl Iterator<Item = (&'static str, u64)> {
    static MEMORY: Arena<{ SIZES.arena_size() }> = Arena::new();
    static BOOKS: Arena<RECORDS> = Arena::new();
    let system = SizeClasses::new(&SIZES, MEMORY.take().expect("taken only here")).expect("as large as it says");
    let caught = RefCell::new([None; 8]);
    let note = |mistake: &Mistake| {
        let mut caught = caught.borrow_mut();
        let free = caught.iter_mut().find(|slot| slot.is_none()).expect("no more than are made");
        *free = Some((name(mistake), mistake.block().map_or(0, |block| block.sequence)));
    };
    let checking = Checking::new(&system, BOOKS.take().expect("taken only here"))
        .with_lock::<CriticalSection>()
        .quarantine(4, 1024)
        .on_mistake(note);

    blunder(&checking);
    assert_eq!(checking.verify(), 1, "the write after free, which nobody else has met yet");
    drop(checking);
    // What leaked, or was written to, is kept from everybody else.
    let live: usize = system.classes().map(|class| class.live).sum();
    assert_eq!((system.verify(), live), (Ok(()), 2));
    caught.into_inner().into_iter().flatten()
}

fn blunder(memory: impl AllocRef) {
    let layout = Layout::new::<[u64; 4]>();
    let allocate = || memory.allocate(layout).expect("there are some").cast::<MaybeUninit<u8>>();
    let [one, two, three, four] = [allocate(), allocate(), allocate(), allocate()];
    // SAFETY: these are mistakes. The checking allocator ignores a release that is one, and the bytes that are written
    // although they are not ours are in blocks that it has and nobody else uses.
    unsafe {
        memory.deallocate(one.cast(), layout);
        memory.deallocate(one.cast(), layout);
        memory.deallocate(two.cast(), Layout::new::<u64>());
        memory.deallocate(two.add(8).cast(), layout);
        two.add(layout.size()).write(MaybeUninit::new(0));
        memory.deallocate(two.cast(), layout);
        memory.deallocate(three.cast(), layout);
        three.add(5).write(MaybeUninit::new(0));
    }
    let _leaked = four;
}

fn name(mistake: &Mistake) -> &'static str {
    match mistake {
        Mistake::DoubleFree { .. } => "double free",
        Mistake::ForeignPointer { .. } => "foreign pointer",
        Mistake::WrongLayout { .. } => "wrong layout",
        Mistake::WrongResize { .. } => "wrong resize",
        Mistake::WriteAfterFree { .. } => "write after free",
        Mistake::Overrun { .. } => "overrun",
        Mistake::Leak { .. } => "leak",
        Mistake::HandedOutTwice { .. } => "handed out twice",
    }
}
