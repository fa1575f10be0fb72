//! The memory of a program.

use fibra_allocators::{AllocError, Extent, MemReq, SizeClasses, fixup};
use fibra_core::{Coroutine, Layout, dup_layout, fibre_layout, frame_layout, two_way_layout};
use fibra_std::Malloc;

use super::routine::{Fibre, Routine};
use super::stack::Message;

/// Size classes for all that a program takes memory for: frames, fibres and their stacks, channels and their endpoints.
pub type Pool = SizeClasses<5, Extent<Malloc>>;

/// How much a program may have at the same time. The numbers are kept at the least: where two sizes are alike, one can
/// have what the other leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Words that were called and have not returned.
    pub frames: usize,
    /// Fibres.
    pub fibres: usize,
    /// Channels, each with three endpoints: the one that it is made with, and two that others have.
    pub channels: usize,
}

impl Default for Room {
    fn default() -> Self {
        Room { frames: 10_000, fibres: 1_000, channels: 1_000 }
    }
}

impl Room {
    /// Reserves the memory.
    ///
    /// # Errors
    /// [`AllocError`] if the host has not so much of it.
    ///
    /// ```
    /// use fibra_examples::stack_language::Room;
    ///
    /// let pool = Room { frames: 10, fibres: 2, channels: 0 }.pool()?;
    /// assert_eq!(pool.classes().map(|class| class.live).sum::<usize>(), 0);
    /// assert!(Room { frames: usize::MAX, ..Room::default() }.pool().is_err());
    /// # Ok::<(), fibra_core::AllocError>(())
    /// ```
    pub fn pool(&self) -> Result<Pool, AllocError> {
        type Word = Routine<'static, 'static, &'static Pool>;
        const ROWS: [Layout; 5] = [
            frame_layout::<Word, &'static &'static Pool>(),
            fibre_layout::<Coroutine<Word>>(),
            Layout::new::<Fibre<'static, 'static, &'static Pool>>(),
            two_way_layout::<Message<'static>>(),
            dup_layout::<Message<'static>>(),
        ];
        let endpoints = self.channels.checked_mul(2).ok_or(AllocError)?;
        let counts = [self.frames, self.fibres, self.fibres, self.channels, endpoints];
        let mut reqs = [MemReq::new(0, 0); 5];
        for ((req, layout), count) in reqs.iter_mut().zip(ROWS).zip(counts) {
            *req = MemReq::new(layout.size(), count.max(1));
        }
        // An endpoint has a slot for either direction.
        reqs[4].block_size *= 2;
        let table = fixup(reqs).map_err(|_| AllocError)?;
        SizeClasses::in_parent(&table, Malloc)
    }
}
