//! Have two trees the same leaves, in the same order, whatever their shapes? Two walks stream the leaves, a third fibre
//! compares them, and as soon as it knows, it leaves: both walks, in the middle of their calls, collapse.
//!
//! ```text
//!   walk of the left tree ---.
//!                            +--> compare
//!   walk of the right tree --'
//! ```
//!
//! A walk is a recursive subroutine: a frame from the pool for each level, and no deeper a stack than for one. (An
//! `async fn` cannot call itself without a box for each level, and dropping those boxes recurses.)

use core::fmt;
use core::task::{Context, Poll, ready};

use fibra_allocators::{AllocError, AllocRef, Borrowed, FixupError, MemReq, SizeClasses, Table, fixup};
use fibra_core::{
    Continuation, Curried, Frame, Next, Process, Reader, Writer, channel_layout, coroutine, frame_layout,
};

use crate::tree::Tree;

/// What a walk writes: a leaf, or as its last word why it cannot go on.
type Item = Result<u32, OutOfFrames>;

/// A walk over a tree, or over one of its subtrees.
struct Walk<'p, A: AllocRef> {
    /// What is yet to be walked. An argument.
    tree: &'p Tree<'p>,
    /// How many calls deep. An argument.
    depth: usize,
    /// An argument, which comes back: always with the one routine that runs. So it goes when that one is destroyed.
    to: Option<Writer<'p, Item>>,
    /// Walks the subtrees: first the left one, then the right one.
    child: Option<Curried<Self, &'p A>>,
    pool: &'p A,
}

#[derive(Clone, Copy)]
enum Step {
    Enter,
    WroteLeaf,
    WalkedLeft,
    WalkedRight,
    WroteTrouble,
}

impl<A: AllocRef> Continuation for Walk<'_, A> {
    type Step = Step;
    type Return = ();
    const START: Step = Step::Enter;

    fn resume(&mut self, step: Step, cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        match step {
            Step::Enter => match *self.tree {
                Tree::Leaf(leaf) => {
                    self.begin_write(Ok(leaf));
                    Next::go(Step::WroteLeaf)
                }
                Tree::Fork(left, right) => {
                    self.tree = right;
                    let (depth, pool) = (self.depth + 1, self.pool);
                    let child = Walk { tree: left, depth, to: self.to.take(), child: None, pool };
                    match Frame::new_in(child, pool) {
                        Ok(child) => Next::call(self.child.insert(child.curried()), Step::WalkedLeft),
                        Err(no_frame) => {
                            self.to = no_frame.routine.to;
                            self.begin_write(Err(OutOfFrames { depth }));
                            Next::go(Step::WroteTrouble)
                        }
                    }
                }
            },
            Step::WroteLeaf => {
                ready!(self.poll_write(cx));
                Next::finish(())
            }
            Step::WalkedLeft => match &mut self.child {
                Some(child) => {
                    // The same frame once more. It has the writer still.
                    child.tree = self.tree;
                    Next::call(child, Step::WalkedRight)
                }
                None => Next::end_fibre(), // never: this step only comes after a call
            },
            Step::WalkedRight => {
                // Releases the frame, too. One that kept its child would be dropped with it, and so on: in depth.
                self.to = self.child.take().and_then(|mut child| child.to.take());
                Next::finish(())
            }
            Step::WroteTrouble => {
                ready!(self.poll_write(cx));
                Next::end_fibre()
            }
        }
    }
}

impl<A: AllocRef> Walk<'_, A> {
    fn begin_write(&mut self, item: Item) {
        if let Some(to) = &mut self.to {
            to.begin_write(item);
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.to.as_mut().map_or(Poll::Ready(()), |to| to.poll_write(cx))
    }
}

/// Reads one leaf from each side, and ends as soon as they are not alike. Its part is easy, so it is an `async fn`: the two
/// kinds go well together.
async fn compare(mut left: Reader<'_, Item>, mut right: Reader<'_, Item>) -> Result<Verdict, OutOfFrames> {
    let mut alike = 0;
    loop {
        let left = left.read_or_end().await.transpose()?;
        let right = right.read_or_end().await.transpose()?;
        match (left, right) {
            (None, None) => return Ok(Verdict::Same { leaves: alike }),
            (left, right) if left != right => return Ok(Verdict::Different { alike, left, right }),
            _ => alike += 1,
        }
    }
}

/// What a comparison has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The same leaves in the same order.
    Same {
        /// How many.
        leaves: usize,
    },
    /// Other leaves, from some place on.
    Different {
        /// How many were the same before.
        alike: usize,
        /// The next leaf on the left, if there is one.
        left: Option<u32>,
        /// The next leaf on the right, if there is one.
        right: Option<u32>,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (alike, left, right) = match self {
            Verdict::Same { leaves } => return write!(f, "the same {leaves} leaves"),
            Verdict::Different { alike, left, right } => (alike, left, right),
        };
        write!(f, "{alike} leaves alike, then ")?;
        for (leaf, side) in [(left, "left and "), (right, "right")] {
            match leaf {
                Some(leaf) => write!(f, "{leaf} on the {side}")?,
                None => write!(f, "none on the {side}")?,
            }
        }
        Ok(())
    }
}

/// A walk was too deep for the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfFrames {
    /// The level for which there was no frame; the root, which is part of the fibre, is 0.
    pub depth: usize,
}

impl fmt::Display for OutOfFrames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OutOfFrames { depth } = self;
        write!(
            f,
            "no frame of {FRAME_SIZE} bytes was left for level {depth} of a tree: two walks share them, one a level"
        )
    }
}

impl core::error::Error for OutOfFrames {}

/// Spawns the three fibres: two, or one, if a tree is empty, because that needs no walk. What they find is in `found` when
/// the process has ended.
///
/// # Errors
/// [`AllocError`] if the process's allocator has no room for them.
pub fn spawn<'p, A: AllocRef>(
    p: &'p Process<'p, '_, A>,
    left: Option<&'p Tree<'p>>,
    right: Option<&'p Tree<'p>>,
    found: &'p mut Option<Result<Verdict, OutOfFrames>>,
) -> Result<(), AllocError> {
    let left = spawn_walk(p, left)?;
    let right = spawn_walk(p, right)?;
    p.spawn(async move { *found = Some(compare(left, right).await) }).map_err(|_| AllocError)
}

fn spawn_walk<'p, A: AllocRef>(
    p: &'p Process<'p, '_, A>,
    tree: Option<&'p Tree<'p>>,
) -> Result<Reader<'p, Item>, AllocError> {
    let (to, from) = p.channel()?;
    if let Some(tree) = tree {
        let walk = Walk { tree, depth: 0, to: Some(to), child: None, pool: p.allocator() };
        p.spawn(coroutine(walk)).map_err(|_| AllocError)?;
    }
    Ok(from)
}

/// The size of a frame, which a walk takes for each level below the root. The same whatever the allocator is, because a frame
/// only refers to it.
pub const FRAME_SIZE: usize = {
    type Any = &'static SizeClasses<1, Borrowed<'static>>;
    frame_layout::<Walk<'static, Any>, &'static Any>().size()
};

/// Blocks for two channels, three fibres, and so many frames, which the two walks share.
///
/// # Errors
/// If they are more than can be addressed, or if there are to be no frames at all.
pub const fn sizes(frames: usize) -> Result<Table<2>, FixupError> {
    // So the smaller class is for frames alone.
    const { assert!(FRAME_SIZE < channel_layout::<Item>().size()) };
    fixup([MemReq::new(FRAME_SIZE, frames), MemReq::new(56 * size_of::<usize>(), 5)])
}
