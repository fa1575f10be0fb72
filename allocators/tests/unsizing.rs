//! Boxes and shared handles of trait objects and slices.

mod support;

use std::any::Any;
use std::fmt::Debug;

use allocator_api2::alloc::Global;
use fibra_allocators::{Counted, PoolBox, PoolRc};
use static_assertions::{assert_eq_size, assert_impl_all, assert_not_impl_any};
use support::Parent;
use support::values::{Census, One, panics};

assert_impl_all!(PoolBox<dyn Debug + Send, Global>: Send);
assert_not_impl_any!(PoolBox<dyn Debug, Global>: Send, Sync);
assert_eq_size!(PoolBox<dyn Debug, Global>, &'static dyn Debug);

trait Numbered: Debug {
    fn number(&self) -> u32;
    fn rename(&mut self, number: u32);
}

impl Numbered for One<'_> {
    fn number(&self) -> u32 {
        self.number
    }
    fn rename(&mut self, number: u32) {
        self.number = number;
    }
}

#[test]
fn a_trait_object_is_the_value_itself() {
    let (parent, census) = (Parent::default(), Census::default());
    let boxed = PoolBox::new_in(census.one(7), &parent).expect("room");
    let address = (&raw const *boxed).addr();
    let mut object = PoolBox::unsize::<dyn Numbered>(boxed, |it| it);
    assert_eq!((&raw const *object).addr(), address);
    assert_eq!((object.number(), parent.given(), census.dropped()), (7, 1, 0));
    object.rename(8);
    assert_eq!(format!("{object:?}"), "One(8)");

    // And further up.
    let printed = PoolBox::unsize::<dyn Debug>(object, |it| it);
    assert_eq!(format!("{printed:?}"), "One(8)");
    drop(printed);
    assert_eq!((census.alive(), parent.live()), (0, vec![]));
}

#[test]
fn the_block_goes_back_with_the_layout_of_the_value_behind_the_object() {
    #[derive(Debug)]
    #[repr(align(512))]
    struct Aligned(#[allow(dead_code)] [u8; 700]);
    let parent = Parent::default();
    let objects = [
        PoolBox::unsize::<dyn Debug>(PoolBox::new_in(Aligned([1; 700]), &parent).expect("room"), |it| it),
        PoolBox::unsize::<dyn Debug>(PoolBox::new_in((), &parent).expect("room"), |it| it),
        PoolBox::unsize::<dyn Debug>(PoolBox::new_in(7_u8, &parent).expect("room"), |it| it),
    ];
    assert_eq!(parent.live().len(), 3);
    assert!((&raw const *objects[0]).addr().is_multiple_of(512));
    assert_eq!(format!("{:?} {:?}", objects[1], objects[2]), "() 7");
    drop(objects);
    assert_eq!(parent.live(), []);
}

#[test]
fn a_slice_out_of_an_array() {
    let (parent, census) = (Parent::default(), Census::default());
    let array = PoolBox::new_in([census.one(0), census.one(1)], &parent).expect("room");
    let slice = PoolBox::unsize::<[One<'_>]>(array, |it| it);
    assert!(slice.iter().map(|one| one.number).eq(0..2));
    drop(slice);
    assert_eq!((census.alive(), parent.live()), (0, vec![]));
}

#[test]
fn a_coercion_that_panics_drops_the_value() {
    let (parent, census) = (Parent::default(), Census::default());
    let boxed = PoolBox::new_in(census.one(7), &parent).expect("room");
    assert!(panics(|| PoolBox::unsize::<dyn Numbered>(boxed, |_| panic!("no object"))));
    assert_eq!((census.alive(), parent.live()), (0, vec![]));
}

#[test]
fn one_coercion_inside_another() {
    let (parent, census) = (Parent::default(), Census::default());
    let [one, two] = [1, 2].map(|number| PoolBox::new_in(census.one(number), &parent).expect("room"));
    let mut inner = None;
    let outer = PoolBox::unsize::<dyn Numbered>(one, |one| {
        inner = Some(PoolBox::unsize::<dyn Numbered>(two, |two| two));
        one
    });
    let inner = inner.expect("it was made");
    assert_eq!((outer.number(), inner.number()), (1, 2));
    drop((outer, inner));
    assert_eq!((census.alive(), census.dropped(), parent.live()), (0, 2, vec![]));
}

#[test]
fn a_shared_trait_object() {
    let (parent, census) = (Parent::default(), Census::default());
    let counted = PoolBox::new_in(Counted::new(census.one(7)), &parent).expect("room");
    let shared: PoolRc<dyn Numbered + '_, _> = PoolBox::unsize::<Counted<dyn Numbered>>(counted, |it| it).into();
    let mut another = shared.clone();
    assert_eq!((another.number(), PoolRc::strong_count(&shared)), (7, 2));
    assert!(PoolRc::ptr_eq(&shared, &another) && PoolRc::get_mut(&mut another).is_none());
    drop(shared);
    PoolRc::get_mut(&mut another).expect("the only one").rename(8);
    assert_eq!(format!("{another:?}"), "One(8)");
    drop(another);
    assert_eq!((census.alive(), parent.live()), (0, vec![]));
}

#[test]
fn trait_objects_of_any_type() {
    let boxed = PoolBox::unsize::<dyn Any>(PoolBox::new_in(7_u32, Global).expect("room"), |it| it);
    assert_eq!((boxed.downcast_ref::<u32>(), boxed.downcast_ref::<i32>()), (Some(&7), None));
}
