//! Static arenas that are declared with their tables.

use std::thread;

use allocator_api2::boxed::Box;
use fibra_allocators::{Allocator, Layout, MemReq, SizeClasses, TableArena, arena, table};
use static_assertions::assert_impl_all;

assert_impl_all!(TableArena<2, 64>: Send, Sync);

struct Message([u8; 100]);

const HOW_MANY: usize = 3;

mod elsewhere {
    fibra_allocators::arena! {
        /// Visible, documented, and with an attribute.
        #[allow(dead_code)]
        pub(super) static FIRST: [64 => 10];
        pub(super) static SECOND: [32 => 1, 32 => 2, 1 + 2 => 3,];
    }
}

#[test]
fn it_has_exactly_the_size_that_its_table_needs() {
    arena! { static MEMORY: [4096 => 1, 48 => HOW_MANY, size_of::<Message>() => 2 * HOW_MANY]; }
    let same = table([MemReq::new(48, 3), MemReq::new(100, 6), MemReq::new(4096, 1)]);
    assert_eq!(MEMORY.table(), &same);
    assert_eq!(MEMORY.size(), same.arena_size());
    let memory = MEMORY.take().expect("taken only here");
    assert_eq!(memory.len(), same.arena_size());
    assert!(SizeClasses::new(&same, memory).is_ok());
}

#[test]
fn its_size_classes_hold_what_was_declared() {
    arena! { static MEMORY: [size_of::<Message>() => HOW_MANY, 16 => 1]; }
    let system = MEMORY.size_classes().expect("taken only here");
    let messages: Vec<_> = (0..HOW_MANY).map(|_| Box::new_in(Message([7; 100]), &system)).collect();
    assert!(Box::try_new_in(Message([8; 100]), &system).is_err(), "one more than declared");
    assert!(messages.iter().all(|message| message.0 == [7; 100]));
}

#[test]
fn rows_of_equal_size_are_merged() {
    let rows = elsewhere::SECOND.table().rows();
    let small = 3_usize.next_multiple_of(fibra_allocators::GRANULE);
    assert_eq!(rows, [MemReq::new(small, 3), MemReq::new(32, 3)]);
    assert_eq!(elsewhere::FIRST.table().rows(), [MemReq::new(64, 10)]);
}

#[test]
fn it_is_taken_once_whichever_way() {
    arena! {
        static A: [64 => 10];
        static B: [64 => 10];
    }
    assert!(A.take().is_some());
    assert!(A.take().is_none() && A.size_classes().is_none());
    let system = B.size_classes().expect("taken only here");
    assert!((&system).allocate(Layout::new::<u64>()).is_ok());
    assert!(B.size_classes().is_none() && B.take().is_none());
}

#[test]
fn one_thread_of_many_gets_it() {
    arena! { static MEMORY: [64 => 10]; }
    let takers: Vec<_> = (0..8).map(|_| thread::spawn(|| MEMORY.size_classes().is_some())).collect();
    assert_eq!(takers.into_iter().map(|taker| usize::from(taker.join().unwrap())).sum::<usize>(), 1);
}

#[test]
#[should_panic(expected = "the arena is not of the size that its table needs")]
fn a_size_that_is_not_the_tables() {
    let _ = TableArena::<1, 1>::new(table([MemReq::new(64, 10)]));
}

/// The errors that the compiler shows quote the row.
#[test]
fn compile_fail_quotes_the_row() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/arena_rows.rs");
}
