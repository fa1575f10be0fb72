//! What a box or a shared handle does because its value does.

use core::borrow::{Borrow, BorrowMut};
use core::cmp::Ordering;
use core::error::Error;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::iter::FusedIterator;
use core::pin::Pin;
use core::task::{Context, Poll};

use allocator_api2::alloc::Allocator;

use crate::PoolBox;
use crate::shared::{Shared, Sharing};

macro_rules! forward {
    ([$($params:tt)*] $owner:ty) => {
        impl<$($params)*> AsRef<T> for $owner {
            #[inline]
            fn as_ref(&self) -> &T {
                self
            }
        }

        impl<$($params)*> Borrow<T> for $owner {
            #[inline]
            fn borrow(&self) -> &T {
                self
            }
        }

        impl<$($params)*> fmt::Debug for $owner
        where
            T: fmt::Debug,
        {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                T::fmt(self, f)
            }
        }

        impl<$($params)*> fmt::Display for $owner
        where
            T: fmt::Display,
        {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                T::fmt(self, f)
            }
        }

        impl<$($params)*> fmt::Pointer for $owner {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Pointer::fmt(&(&raw const **self), f)
            }
        }

        impl<$($params)*> PartialEq for $owner
        where
            T: PartialEq,
        {
            #[inline]
            fn eq(&self, other: &Self) -> bool {
                T::eq(self, other)
            }
        }

        impl<$($params)*> Eq for $owner where T: Eq {}

        impl<$($params)*> PartialOrd for $owner
        where
            T: PartialOrd,
        {
            #[inline]
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                T::partial_cmp(self, other)
            }
        }

        impl<$($params)*> Ord for $owner
        where
            T: Ord,
        {
            #[inline]
            fn cmp(&self, other: &Self) -> Ordering {
                T::cmp(self, other)
            }
        }

        impl<$($params)*> Hash for $owner
        where
            T: Hash,
        {
            #[inline]
            fn hash<H: Hasher>(&self, state: &mut H) {
                T::hash(self, state)
            }
        }

        impl<$($params)*> Error for $owner
        where
            T: Error,
        {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                T::source(self)
            }
        }
    };
}

forward!([T: ?Sized, A: Allocator] PoolBox<T, A>);
forward!([T: ?Sized, A: Allocator, S: Sharing] Shared<T, A, S>);

impl<T: ?Sized, A: Allocator> AsMut<T> for PoolBox<T, A> {
    #[inline]
    fn as_mut(&mut self) -> &mut T {
        self
    }
}

impl<T: ?Sized, A: Allocator> BorrowMut<T> for PoolBox<T, A> {
    #[inline]
    fn borrow_mut(&mut self) -> &mut T {
        self
    }
}

impl<I: ?Sized + Iterator, A: Allocator> Iterator for PoolBox<I, A> {
    type Item = I::Item;

    #[inline]
    fn next(&mut self) -> Option<I::Item> {
        I::next(self)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        I::size_hint(self)
    }

    #[inline]
    fn nth(&mut self, n: usize) -> Option<I::Item> {
        I::nth(self, n)
    }
}

impl<I: ?Sized + DoubleEndedIterator, A: Allocator> DoubleEndedIterator for PoolBox<I, A> {
    #[inline]
    fn next_back(&mut self) -> Option<I::Item> {
        I::next_back(self)
    }

    #[inline]
    fn nth_back(&mut self, n: usize) -> Option<I::Item> {
        I::nth_back(self, n)
    }
}

impl<I: ?Sized + ExactSizeIterator, A: Allocator> ExactSizeIterator for PoolBox<I, A> {
    #[inline]
    fn len(&self) -> usize {
        I::len(self)
    }
}

impl<I: ?Sized + FusedIterator, A: Allocator> FusedIterator for PoolBox<I, A> {}

impl<F: ?Sized + Future + Unpin, A: Allocator> Future for PoolBox<F, A> {
    type Output = F::Output;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        F::poll(Pin::new(&mut **self), context)
    }
}
