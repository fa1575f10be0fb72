//! Pools that the main program and an interrupt handler share.
//!
//! The timer's interrupt comes every few hundred instructions, each time after another number of them, and often in the
//! middle of an allocation or a release. Both sides mark the blocks that they have. A block that was given out twice has
//! one side's mark where the other one looks for its own.

use core::cell::Cell;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use cortex_m::interrupt::{self, Mutex};
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m::peripheral::{SCB, SYST};
use cortex_m_rt::exception;
use fibra_allocators::{
    Arena, Borrowed, CriticalSection, Fifo, Form, Lazy, LockFree, MemReq, PoolBox, SizeClasses, Table, table,
};

use crate::random::Random;

/// So few that a block comes back soon, and that there are often none.
const SIZES: Table<2> = table([MemReq::new(16, 4), MemReq::new(40, 3)]);
/// More than there are blocks, for each side.
const SLOTS: usize = 8;
/// How many interrupts have to come in the middle of the main program's operations.
const ENOUGH: usize = 20_000;
/// Steps in each interrupt: so many that blocks come back, and out again, while the main program's operation stands still.
const BURST: usize = 4;

type System<F> = SizeClasses<2, Borrowed<'static>, F>;

/// Which pool is being shared: the place of its form in the list below, or [`NOBODY`].
static TURN: AtomicUsize = AtomicUsize::new(NOBODY);
const NOBODY: usize = usize::MAX;
/// The handler is to release what it has.
static LEAVING: AtomicBool = AtomicBool::new(false);
static GONE: AtomicBool = AtomicBool::new(false);
/// The main program is in the middle of an operation.
static INSIDE: AtomicBool = AtomicBool::new(false);
static STRUCK: AtomicUsize = AtomicUsize::new(0);
/// The handler's, who says when it is to be called next.
static TIMER: Mutex<Cell<Option<SYST>>> = Mutex::new(Cell::new(None));

/// What one side has.
struct Side<F: Form + 'static> {
    slots: [Option<(PoolBox<[Cell<u32>], &'static System<F>>, u32)>; SLOTS],
    random: Random,
    /// Different in each block, and on each side.
    mark: u32,
}

impl<F: Form> Side<F> {
    const fn new(seed: u32) -> Self {
        Side { slots: [const { None }; SLOTS], random: Random(seed), mark: seed << 24 }
    }

    /// Takes a block or gives one back. `doing` is told when it begins and ends.
    fn step(&mut self, system: &'static System<F>, doing: impl Fn(bool)) {
        let slot = self.random.below(SLOTS);
        if self.slots[slot].is_some() {
            self.release(slot, doing);
            return;
        }
        let words = 1 + self.random.below(10);
        doing(true);
        let block = PoolBox::from_fn_in(words, |_| Cell::new(0), system);
        doing(false);
        self.slots[slot] = block.ok().map(|block| {
            self.mark += 1;
            block.iter().for_each(|word| word.set(self.mark));
            (block, self.mark)
        });
    }

    fn release(&mut self, slot: usize, doing: impl Fn(bool)) {
        if let Some((block, mark)) = self.slots[slot].take() {
            assert!(block.iter().all(|word| word.get() == mark), "a block was given out twice");
            doing(true);
            drop(block);
            doing(false);
        }
    }

    fn release_all(&mut self) {
        (0..SLOTS).for_each(|slot| self.release(slot, |_| ()));
    }
}

macro_rules! pools {
    ($($place:literal: $name:ident, $form:ty;)*) => {
        $(static $name: Lazy<System<$form>> = Lazy::new(|| {
            static MEMORY: Arena<{ SIZES.arena_size_for::<$form>() }> = Arena::new();
            SizeClasses::with_form(&SIZES, MEMORY.take()?).ok()
        });)*

        #[exception]
        fn SysTick() {
            static mut PAUSES: Random = Random(0x9E37_79B9);
            $({
                static mut SIDE: Side<$form> = Side::new($place + 1);
                if TURN.load(SeqCst) == $place && let Some(system) = $name.get() {
                    // SAFETY: a handler does not interrupt itself, and nobody else knows the name.
                    handle(unsafe { &mut *&raw mut SIDE }, system);
                }
            })*
            if !GONE.load(SeqCst) {
                call_again_after(2 + PAUSES.below(10) as u32);
            }
        }

        /// Shares each pool for a while, and then looks what is left of it. The names of the forms.
        pub fn share(timer: SYST) -> impl Iterator<Item = &'static str> {
            interrupt::free(|token| TIMER.borrow(token).set(Some(timer)));
            let pools: [(&str, fn(usize)); _] =
                [$((stringify!($form), |place| share_one($name.get().expect("as large as it says"), place))),*];
            pools.into_iter().enumerate().map(|(place, (name, share))| {
                share(place);
                name
            })
        }
    };
}

pools! {
    0: LOCK_FREE, LockFree;
    1: FIFO, Fifo;
    2: LOCKED, CriticalSection;
}

/// Calls the handler so many ticks from now, and not before.
fn call_again_after(ticks: u32) {
    interrupt::free(|token| {
        let timer = TIMER.borrow(token);
        if let Some(mut running) = timer.take() {
            running.set_clock_source(SystClkSource::Core);
            running.set_reload(ticks);
            running.clear_current();
            running.enable_counter();
            running.enable_interrupt();
            SCB::clear_pendst();
            timer.set(Some(running));
        }
    });
}

fn stop() {
    interrupt::free(|token| {
        let timer = TIMER.borrow(token);
        if let Some(mut running) = timer.take() {
            running.disable_interrupt();
            running.disable_counter();
            SCB::clear_pendst();
            timer.set(Some(running));
        }
    });
}

fn handle<F: Form>(side: &mut Side<F>, system: &'static System<F>) {
    if LEAVING.load(SeqCst) {
        side.release_all();
        GONE.store(true, SeqCst);
        return;
    }
    if INSIDE.load(SeqCst) {
        STRUCK.store(STRUCK.load(SeqCst) + 1, SeqCst);
    }
    (0..BURST).for_each(|_| side.step(system, |_| ()));
}

fn share_one<F: Form>(system: &'static System<F>, place: usize) {
    let mut side = Side::<F>::new(0x80 + place as u32);
    STRUCK.store(0, SeqCst);
    GONE.store(false, SeqCst);
    LEAVING.store(false, SeqCst);
    TURN.store(place, SeqCst);
    call_again_after(10);
    while STRUCK.load(SeqCst) < ENOUGH {
        side.step(system, |inside| INSIDE.store(inside, SeqCst));
    }
    LEAVING.store(true, SeqCst);
    while !GONE.load(SeqCst) {
        side.step(system, |_| ());
    }
    stop();
    TURN.store(NOBODY, SeqCst);
    side.release_all();

    assert_eq!(system.verify(), Ok(()));
    for class in system.classes() {
        assert_eq!((class.peak, class.live), (class.reserved, 0), "a block was lost");
        // All are there, and then no more.
        let mut all = [const { None }; SLOTS];
        all.fill_with(|| PoolBox::<[u8], _>::from_fn_in(class.block_size, |_| 0, system).ok());
        assert_eq!(all.iter().flatten().count(), class.reserved, "a block was lost");
    }
}
