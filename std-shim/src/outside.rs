//! Asynchronous channels on the host: what of them is to be had without a word about platforms and memory.

use fibra_core::{AllocError, AllocRef};

use crate::{Malloc, Threads};

/// The end of an asynchronous channel that is written to from outside of any process: see
/// [`fibra_core::OutsideWriter`], and [`WriteBlocking`](crate::WriteBlocking) for threads.
///
/// For an example see [`asynchronous`].
pub type OutsideWriter<T> = fibra_core::OutsideWriter<T, Threads>;

/// The end of an asynchronous channel that is read from outside of any process: see [`fibra_core::OutsideReader`], and
/// [`ReadBlocking`](crate::ReadBlocking) for threads.
///
/// For an example see [`asynchronous`].
pub type OutsideReader<T> = fibra_core::OutsideReader<T, Threads>;

type Ends<T> = (OutsideWriter<T>, OutsideReader<T>);

/// Makes an asynchronous channel in the host's memory ([`Malloc`]), and gives its two ends: for threads, for tasks of any
/// executor, and, taken [inside](fibra_core::OutsideReader::inside), for the fibres of any processes.
///
/// A fibre that uses one must have a wake cell ([`FibreOptions::waker`](crate::FibreOptions::waker)). Its process waits for
/// it exactly as long as a counterpart can still come: an end that is kept somewhere, and be it by the waiting fibre itself,
/// counts as one that can, and so does one that was forgotten. Only in a [`System`](crate::System) is it found out that all
/// wait for each other in vain. Elsewhere a [`StopHandle`](crate::StopHandle) ends the process.
///
/// # Errors
/// [`AllocError`] if the host refuses the memory.
///
/// ```
/// use fibra_std::{ReadBlocking, WriteBlocking, asynchronous};
/// use std::thread;
///
/// let (mut questions, asked) = asynchronous::<u64>()?;
/// let (answer, mut answers) = asynchronous::<u64>()?;
///
/// let thread = thread::spawn(move || {
///     for n in 1..=3 {
///         questions.write_blocking(n).unwrap();
///         assert_eq!(answers.read_blocking(), Ok(n * n));
///     }
/// });
/// let (_, outcome) = fibra_std::run(|p| {
///     let (mut asked, mut answer) = (asked.inside(p), answer.inside(p));
///     let square = async move {
///         loop {
///             let n = asked.read().await; // collapses when the thread has dropped its ends
///             answer.write(n * n).await;
///         }
///     };
///     p.fibre().waker().spawn(square).unwrap();
/// })
/// .unwrap();
/// assert_eq!(outcome.collapsed, 1);
/// # thread.join().unwrap();
/// # Ok::<(), fibra_std::AllocError>(())
/// ```
pub fn asynchronous<T: Send>() -> Result<Ends<T>, AllocError> {
    asynchronous_in(Malloc)
}

/// Makes an asynchronous channel in the memory of `allocator`, which it keeps a handle to.
///
/// # Errors
/// [`AllocError`] if the allocator has no block of [`asynchronous_layout`](fibra_core::asynchronous_layout).
///
/// ```
/// use fibra_std::{SharedMemory, asynchronous_in};
///
/// let memory = SharedMemory::new()?;
/// let ends = asynchronous_in::<u64, _>(memory.clone())?;
/// assert_eq!(memory.classes().map(|class| class.live).sum::<usize>(), 1);
/// drop(ends);
/// assert_eq!(memory.classes().map(|class| class.live).sum::<usize>(), 0);
/// # Ok::<(), fibra_std::AllocError>(())
/// ```
pub fn asynchronous_in<T: Send, A: AllocRef + Send + Sync + 'static>(allocator: A) -> Result<Ends<T>, AllocError> {
    fibra_core::asynchronous::<T, Threads, A>(allocator)
}
