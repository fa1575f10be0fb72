//! Pipelines: stages that are spawned and connected as they are written down.

use core::any::type_name;
use core::fmt;
use core::future::Future;

use fibra_allocators::{AllocRef, Layout};

use crate::end::Blocks;
use crate::endpoint::dup_layout;
use crate::fibre::{fibre_layout, name_of};
use crate::process::Process;
use crate::reach::{Reach, Runs, Sequential};
use crate::reader::Reader;
use crate::spawn::SpawnErrorKind;
use crate::writer::Writer;

/// A pipeline that is being built: the end of what there is so far. Made by [`Process::pipe`].
///
/// ```text
///   .--------.     .------.     .---- fan_out ----.     .-----.
///   | source |---->| then |---->| one of n fibres |---->| end |
///   '--------'     '------'     '-----------------'     '-----'
/// ```
///
/// Each method makes the channel to the next stage and spawns that stage; its fibres are ready to run, and run when the
/// caller awaits or returns. If something does not fit, the rest of the expression is not built, and what was spawned
/// before it collapses by itself, because nobody reads from it: its last stage, when it first writes.
///
/// Dropping a pipe drops the reader in it, with the same effect.
///
/// ```
/// use fibra_core::{chips, Reader, Writer};
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 32 }]), &mut memory)?;
/// async fn work(mut from: Reader<'_, u64>, mut to: Writer<'_, u64>) {
///     loop {
///         let n = from.read().await;
///         to.write(n + 1).await; // something that takes its time
///     }
/// }
/// let mut sum = 0;
/// let (built, outcome) = fibra_core::run(&pool, |p| {
///     p.pipe(|to| chips::source(1..=20, to))?
///         .then(|from, to| chips::transducer(|n| n * n, from, to))?
///         .fan_out(4, |from, to| work(from, to))?
///         .end(|from| chips::sink(|n| sum += n, from))
/// })?;
/// built?;
/// assert_eq!(sum, 2870 + 20);
/// assert_eq!((outcome.finished, outcome.collapsed), (1, 6));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a pipe whose end is dropped collapses: give it an `end`, or take its reader"]
pub struct Pipe<'p, 'env, A, T, R: Reach = Sequential> {
    process: &'p Process<'p, 'env, A, R>,
    from: Reader<'p, T, R>,
}

impl<'p, 'env, A: AllocRef, R: Reach> Process<'p, 'env, A, R> {
    /// Begins a pipeline: spawns its first stage, with the writer of a new channel.
    ///
    /// Takes a block for the channel and one for the fibre, as [`channel`](Self::channel) and [`spawn_with`](Self::spawn_with)
    /// do.
    ///
    /// # Errors
    /// [`PipeError`] if one of them cannot be had; then nothing is left of the stage: `stage` was not called.
    ///
    /// # Panics
    /// If `stage` does; its blocks go back first. The same holds for all stages.
    ///
    /// For an example see [`Pipe`].
    pub fn pipe<T, F>(&'p self, stage: impl FnOnce(Writer<'p, T, R>) -> F) -> Result<Pipe<'p, 'env, A, T, R>, PipeError>
    where
        F: Future<Output = ()> + 'p,
        R: Runs<F>,
    {
        let (to, from) = self.channel_for::<T, F>()?;
        self.spawn_stage(|| stage(to))?;
        Ok(Pipe { process: self, from })
    }

    /// Begins a pipeline with what comes from a reader.
    ///
    /// ```
    /// use fibra_core::chips::{sink, source, transducer, zip};
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// let mut scalar_product = 0;
    /// let sum = &mut scalar_product;
    /// let (built, _) = fibra_core::run(&pool, |p| {
    ///     let left = p.pipe(|to| source([1, 2, 3], to))?.into_reader();
    ///     let right = p.pipe(|to| source([40, 50, 60], to))?.then(|from, to| transducer(|n| n / 10, from, to))?;
    ///     p.pipe_from(left)
    ///         .then(|left, to| zip(|a, b| a * b, left, right.into_reader(), to))?
    ///         .end(|from| sink(|n: u32| *sum += n, from))
    /// })?;
    /// built?;
    /// assert_eq!(scalar_product, 4 + 10 + 18);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pipe_from<T>(&'p self, from: Reader<'p, T, R>) -> Pipe<'p, 'env, A, T, R> {
        Pipe { process: self, from }
    }

    fn channel_for<T, F>(&'p self) -> Result<(Writer<'p, T, R>, Reader<'p, T, R>), PipeError> {
        self.channel().map_err(|_| PipeError::new::<F>(PipeErrorKind::Channel(Blocks::<T, R, ()>::PAIR.layout)))
    }

    fn spawn_stage<F: Future<Output = ()> + 'p>(&'p self, make: impl FnOnce() -> F) -> Result<(), PipeError>
    where
        R: Runs<F>,
    {
        self.spawn_with(make)
            .map_err(|error| PipeError::new::<F>(PipeErrorKind::Fibre(error.kind, fibre_layout::<F>())))
    }
}

impl<'p, 'env, A: AllocRef, T, R: Reach> Pipe<'p, 'env, A, T, R> {
    /// Adds a stage: spawns it, with the reader of what there is so far, and the writer of a new channel.
    ///
    /// Takes a block for the channel and one for the fibre.
    ///
    /// # Errors
    /// [`PipeError`] if one of them cannot be had; then nothing is left of the stage, and what was built before it collapses
    /// by itself.
    ///
    /// For an example see [`Pipe`].
    pub fn then<U, F>(
        self,
        stage: impl FnOnce(Reader<'p, T, R>, Writer<'p, U, R>) -> F,
    ) -> Result<Pipe<'p, 'env, A, U, R>, PipeError>
    where
        F: Future<Output = ()> + 'p,
        R: Runs<F>,
    {
        let Pipe { process, from: input } = self;
        let (to, from) = process.channel_for::<U, F>()?;
        process.spawn_stage(|| stage(input, to))?;
        Ok(Pipe { process, from })
    }

    /// Adds a stage of `n` fibres that share their input and their output: each value goes to the one that has waited
    /// longest, and the results come in the order in which they are ready. With an `n` of 0 there is nobody to read or to
    /// write: what was built before collapses, and what follows finds that its input has ended.
    ///
    /// Takes a block for the channel, one for each fibre, and two `dup`s for each fibre but one.
    ///
    /// # Errors
    /// [`PipeError`] if one of them cannot be had. The fibres that were spawned before collapse by themselves, with all that
    /// was built before them: at the latest, each when it first writes.
    ///
    /// For an example see [`Pipe`].
    pub fn fan_out<U, F>(
        self,
        n: usize,
        mut stage: impl FnMut(Reader<'p, T, R>, Writer<'p, U, R>) -> F,
    ) -> Result<Pipe<'p, 'env, A, U, R>, PipeError>
    where
        F: Future<Output = ()> + 'p,
        R: Runs<F>,
    {
        let Pipe { process, from: input } = self;
        let (to, from) = process.channel_for::<U, F>()?;
        for _ in 1..n {
            let input = input.dup().map_err(|_| PipeError::new::<F>(PipeErrorKind::Dup(dup_layout::<T>())))?;
            let to = to.dup().map_err(|_| PipeError::new::<F>(PipeErrorKind::Dup(dup_layout::<U>())))?;
            process.spawn_stage(|| stage(input, to))?;
        }
        if n > 0 {
            process.spawn_stage(|| stage(input, to))?;
        }
        Ok(Pipe { process, from })
    }

    /// Ends the pipeline: spawns its last stage, with the reader of what there is so far.
    ///
    /// Takes a block for the fibre.
    ///
    /// # Errors
    /// [`PipeError`] if it cannot be had; then what was built before collapses by itself.
    ///
    /// For an example see [`Pipe`].
    pub fn end<F>(self, stage: impl FnOnce(Reader<'p, T, R>) -> F) -> Result<(), PipeError>
    where
        F: Future<Output = ()> + 'p,
        R: Runs<F>,
    {
        self.process.spawn_stage(|| stage(self.from))
    }

    /// The reader of what there is so far.
    ///
    /// ```
    /// use fibra_core::chips::source;
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// fibra_core::run(&pool, |p| {
    ///     let mut numbers = p.pipe(|to| source(1.., to)).unwrap().into_reader();
    ///     p.spawn(async move { assert_eq!((numbers.read().await, numbers.read().await), (1, 2)) }).unwrap();
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_reader(self) -> Reader<'p, T, R> {
        self.from
    }
}

impl<A, T, R: Reach> fmt::Debug for Pipe<'_, '_, A, T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pipe").field(&self.from).finish()
    }
}

/// What a stage of a pipeline needed and could not have, with the layout of the block.
///
/// For an example see [`PipeError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PipeErrorKind {
    /// There was no block for the channel that it writes to.
    Channel(Layout),
    /// There was no block for another endpoint of the channel that it reads from, or writes to.
    Dup(Layout),
    /// Its fibre, or one of them, could not be spawned.
    Fibre(SpawnErrorKind, Layout),
}

/// A pipeline is not complete, because a stage could not be built. What was built before it collapses by itself.
///
/// ```
/// use fibra_core::chips::{sink, source};
/// use fibra_core::{MemReq, PipeErrorKind, SizeClasses, SpawnErrorKind, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 1024];
/// let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 2 }]), &mut memory)?; // a channel and a fibre
/// let (built, outcome) = fibra_core::run(&pool, |p| {
///     p.pipe(|to| source(1.., to))?.end(|from| sink(|n: u8| println!("{n}"), from))
/// })?;
/// let error = built.unwrap_err();
/// let PipeErrorKind::Fibre(SpawnErrorKind::OutOfMemory, layout) = error.kind else { unreachable!() };
/// assert!(layout.size() <= 256);
/// assert!(error.to_string().ends_with(&format!("reserve a block more of {} bytes, aligned to 8", layout.size())));
/// assert_eq!(outcome.collapsed, 1); // the source
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PipeError {
    /// What it needed.
    pub kind: PipeErrorKind,
    /// Which stage: what reports call its fibre.
    pub stage: &'static str,
}

impl PipeError {
    #[cold]
    fn new<F>(kind: PipeErrorKind) -> Self {
        PipeError { kind, stage: name_of(type_name::<F>()) }
    }
}

impl fmt::Display for PipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the pipeline ends before the stage `{}`: ", self.stage)?;
        let layout = match self.kind {
            PipeErrorKind::Channel(layout) => {
                f.write_str("the process's allocator has no block for its channel")?;
                layout
            }
            PipeErrorKind::Dup(layout) => {
                f.write_str("the process's allocator has no block for a fibre's end of a channel")?;
                layout
            }
            PipeErrorKind::Fibre(kind, layout) => {
                kind.fmt(f)?;
                if kind != SpawnErrorKind::OutOfMemory {
                    return Ok(());
                }
                layout
            }
        };
        write!(f, "; reserve a block more of {} bytes, aligned to {}", layout.size(), layout.align())
    }
}

impl core::error::Error for PipeError {}
