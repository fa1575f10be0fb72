//! Trees with numbers at their leaves, of several shapes, built without recursion in memory that the caller hands out.

use fibra_allocators::{AllocError, AllocRef, PoolBox};

/// A tree with numbers at its leaves. Because it refers to its subtrees, it can be a constant, too.
#[derive(Debug)]
pub enum Tree<'t> {
    /// A number.
    Leaf(u32),
    /// Two subtrees: the numbers on the left come first.
    Fork(&'t Tree<'t>, &'t Tree<'t>),
}

/// A tree, or none, if it was to have no leaves; or there was no memory.
pub type Built<'t> = Result<Option<&'t Tree<'t>>, AllocError>;

impl<'t> Tree<'t> {
    /// The bytes that a tree with so many leaves takes of a bump allocator.
    #[must_use]
    pub const fn bytes(leaves: usize) -> usize {
        // A fork for each leaf but the first.
        (2 * leaves).saturating_sub(1) * size_of::<Self>()
    }

    /// As shallow as can be: one more level for each doubling.
    ///
    /// # Errors
    /// [`AllocError`] if `memory` has less than [`bytes`](Self::bytes).
    pub fn balanced<A: AllocRef + 't>(leaves: impl IntoIterator<Item = u32>, memory: A) -> Built<'t> {
        let mut forest = Forest::new(memory);
        for leaf in leaves {
            let leaf = forest.put(Tree::Leaf(leaf))?;
            forest.add(leaf)?;
        }
        forest.into_tree()
    }

    /// Short lists, one to seven leaves long, on the branches of a balanced tree.
    ///
    /// # Errors
    /// As [`balanced`](Self::balanced).
    pub fn ragged<A: AllocRef + 't>(leaves: impl IntoIterator<Item = u32>, memory: A) -> Built<'t> {
        let mut forest = Forest::new(memory.clone());
        let mut leaves = leaves.into_iter();
        for length in (1..=7).cycle() {
            match Self::leaning_left(leaves.by_ref().take(length), memory.clone())? {
                Some(list) => forest.add(list)?,
                None => break,
            }
        }
        forest.into_tree()
    }

    /// A list, whose first leaf is its deepest: a level for each leaf.
    ///
    /// # Errors
    /// As [`balanced`](Self::balanced).
    pub fn leaning_left<A: AllocRef + 't>(leaves: impl IntoIterator<Item = u32>, memory: A) -> Built<'t> {
        let mut tree = None;
        for leaf in leaves {
            let leaf = put(Tree::Leaf(leaf), &memory)?;
            tree = Some(join(tree, leaf, &memory)?);
        }
        Ok(tree)
    }

    /// A list, whose last leaf is its deepest: a level for each leaf.
    ///
    /// # Errors
    /// As [`balanced`](Self::balanced).
    pub fn leaning_right<A: AllocRef + 't>(
        leaves: impl IntoIterator<Item = u32, IntoIter: DoubleEndedIterator>,
        memory: A,
    ) -> Built<'t> {
        let mut tree = None;
        for leaf in leaves.into_iter().rev() {
            let leaf = put(Tree::Leaf(leaf), &memory)?;
            tree = Some(match tree {
                Some(right) => put(Tree::Fork(leaf, right), &memory)?,
                None => leaf,
            });
        }
        Ok(tree)
    }
}

fn put<'t, A: AllocRef + 't>(tree: Tree<'t>, memory: &A) -> Result<&'t Tree<'t>, AllocError> {
    Ok(PoolBox::leak(PoolBox::new_in(tree, memory.clone()).map_err(|_| AllocError)?))
}

fn join<'t, A: AllocRef + 't>(
    left: Option<&'t Tree<'t>>,
    right: &'t Tree<'t>,
    memory: &A,
) -> Result<&'t Tree<'t>, AllocError> {
    match left {
        Some(left) => put(Tree::Fork(left, right), memory),
        None => Ok(right),
    }
}

/// Trees that wait for one of their own size, to be joined with it: the digits of a binary number that is counted up.
struct Forest<'t, A> {
    /// The one at `i` has been joined from 2 to the power of `i`.
    trees: [Option<&'t Tree<'t>>; usize::BITS as usize],
    memory: A,
}

impl<'t, A: AllocRef + 't> Forest<'t, A> {
    fn new(memory: A) -> Self {
        Forest { trees: [None; _], memory }
    }

    fn put(&self, tree: Tree<'t>) -> Result<&'t Tree<'t>, AllocError> {
        put(tree, &self.memory)
    }

    fn add(&mut self, mut tree: &'t Tree<'t>) -> Result<(), AllocError> {
        for place in &mut self.trees {
            match place.take() {
                Some(left) => tree = put(Tree::Fork(left, tree), &self.memory)?,
                None => {
                    *place = Some(tree);
                    break;
                }
            }
        }
        Ok(())
    }

    fn into_tree(self) -> Built<'t> {
        let mut right = None;
        for left in self.trees.into_iter().flatten() {
            right = Some(match right {
                Some(right) => put(Tree::Fork(left, right), &self.memory)?,
                None => left,
            });
        }
        Ok(right)
    }
}
