//! What a run tells its caller: counts, reports, errors.

use core::fmt;

use crate::node::Direction;

/// What became of a process's fibres.
///
/// ```
/// # use fibra_core::{SizeClasses, table, MemReq};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// let (_, outcome) = fibra_core::run(&pool, |p| {
///     p.spawn(async {}).unwrap();
///     p.spawn(core::future::pending()).unwrap();
/// })?;
/// assert_eq!(outcome.to_string(), "1 finished, 1 collapsed");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// Fibres whose future completed.
    pub finished: usize,
    /// Fibres that were reclaimed because nothing could ever wake them.
    pub collapsed: usize,
    /// Fibres that were still parked when the process ended: in a cycle, on a channel whose other end they held
    /// themselves, or on one whose other end was forgotten.
    pub deadlocked: usize,
    /// Fibres that were ready or parked when the process was stopped, by [`stop`](crate::Process::stop), or by a panic.
    pub stopped: usize,
    /// Fibres that panicked.
    pub panicked: usize,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} finished, {} collapsed", self.finished, self.collapsed)?;
        for (count, what) in [(self.deadlocked, "deadlocked"), (self.stopped, "stopped"), (self.panicked, "panicked")] {
            if count != 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

/// What a fibre waits for, or waited for when it was lost.
///
/// ```
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// let mut seen = Vec::new();
/// let out = &mut seen;
/// fibra_core::run(&pool, |p| {
///     let (w, mut r) = p.channel_named::<u8>("letters").unwrap();
///     p.fibre().name("reader").spawn(async move { drop(r.read().await) }).unwrap();
///     p.spawn(async move {
///         p.dump(|wait| out.push(*wait));
///         drop(w);
///     })
///     .unwrap();
/// })?;
/// assert_eq!((seen[0].fibre(), seen[0].channel()), ("reader", Some("letters")));
/// assert_eq!(seen[0].to_string(), "fibre `reader` waits to read from channel `letters`");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    fibre: &'static str,
    channel: Option<(&'static str, Direction)>,
}

impl Wait {
    pub(crate) fn new(fibre: &'static str, channel: Option<(&'static str, Direction)>) -> Self {
        Wait { fibre, channel }
    }

    /// The fibre's name; by default the type of its future.
    ///
    /// For an example see [`Wait`].
    pub fn fibre(&self) -> &'static str {
        self.fibre
    }

    /// The channel's name; by default the type of its values. `None` if the fibre waits for no channel.
    ///
    /// For an example see [`Wait`].
    pub fn channel(&self) -> Option<&'static str> {
        self.channel.map(|(name, _)| name)
    }

    /// Whether the fibre waits to read or to write; `None` if it waits for no channel.
    ///
    /// For an example see [`Direction`].
    pub fn direction(&self) -> Option<Direction> {
        self.channel.map(|(_, direction)| direction)
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fibre `{}` waits ", self.fibre)?;
        match self.channel {
            Some((channel, Direction::Read)) => write!(f, "to read from channel `{channel}`"),
            Some((channel, Direction::Write)) => write!(f, "to write to channel `{channel}`"),
            None => f.write_str("for no channel"),
        }
    }
}

/// How a fibre was lost.
///
/// ```
/// use fibra_core::{Fate, Setup};
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// let mut fates = Vec::new();
/// Setup::new(&pool).report(&mut |report| fates.push(report.fate())).run(|p| {
///     let (w, mut both) = p.channel::<u8>().unwrap();
///     p.spawn(async move { drop((both.read().await, w)) }).unwrap(); // holds the end that it waits for
///     p.spawn(core::future::pending()).unwrap();
/// })?;
/// assert_eq!(fates, [Fate::Collapsed, Fate::Deadlocked]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fate {
    /// Nothing could ever wake it, and it was reclaimed.
    Collapsed,
    /// It was parked when its process ended.
    Deadlocked,
    /// It panicked, and the process isolates panics.
    Panicked,
}

/// A fibre that was lost: which, how, and what it waited for.
///
/// ```
/// use fibra_core::{Direction, Fate, Setup};
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// let mut reports = Vec::new();
/// Setup::new(&pool).report(&mut |report| reports.push(*report)).run(|p| {
///     let (w, mut r) = p.channel_named::<u8>("own").unwrap();
///     p.fibre().name("both").spawn(async move { drop((r.read().await, w)) }).unwrap();
/// })?;
/// let [report] = reports[..] else { unreachable!() };
/// assert_eq!(report.fate(), Fate::Deadlocked);
/// assert_eq!((report.wait().fibre(), report.wait().direction()), ("both", Some(Direction::Read)));
/// assert_eq!(report.held_by(), Some("both"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    pub(crate) fate: Fate,
    pub(crate) wait: Wait,
    pub(crate) held_by: Option<&'static str>,
}

impl Report {
    /// How the fibre was lost.
    ///
    /// For an example see [`Fate`].
    pub fn fate(&self) -> Fate {
        self.fate
    }

    /// The fibre, and what it waited for. For a collapsed fibre this is the wait that died last.
    ///
    /// For an example see [`Report`].
    pub fn wait(&self) -> Wait {
        self.wait
    }

    /// Of a deadlocked fibre: the fibre that held the other end of its channel (perhaps itself), or `None` if no fibre
    /// did: then the end was kept, or forgotten, outside.
    ///
    /// For an example see [`Report`].
    pub fn held_by(&self) -> Option<&'static str> {
        self.held_by
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wait { fibre, channel } = self.wait;
        let fate = match self.fate {
            Fate::Collapsed => "collapsed",
            Fate::Deadlocked => "deadlocked",
            Fate::Panicked => "panicked",
        };
        write!(f, "fibre `{fibre}` {fate}")?;
        let Some((channel, direction)) = channel else { return Ok(()) };
        match direction {
            Direction::Read => write!(f, " while reading from channel `{channel}`")?,
            Direction::Write => write!(f, " while writing to channel `{channel}`")?,
        }
        match (self.fate, self.held_by) {
            (Fate::Collapsed | Fate::Panicked, _) => write!(f, ": no other end was left"),
            (Fate::Deadlocked, Some(holder)) => write!(f, ": the other end was held by fibre `{holder}`"),
            (Fate::Deadlocked, None) => write!(f, ": the other end was held outside"),
        }
    }
}

/// Why a run failed.
///
/// ```
/// use fibra_core::{Cause, Fate};
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// let failure = fibra_core::run(&pool, |p| {
///     p.fibre().name("pump").essential().spawn(core::future::pending()).unwrap();
/// })
/// .unwrap_err();
/// let Cause::Lost(report) = failure.cause else { unreachable!() };
/// assert_eq!((report.wait().fibre(), report.fate()), ("pump", Fate::Collapsed));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// An essential fibre collapsed, deadlocked, or panicked in isolation: the first one that did.
    Lost(Report),
    /// A fibre, or the closure given to `run`, panicked, and the platform caught it.
    Panicked,
    /// The wake hub serves another process. Nothing was run.
    HubTaken,
}

/// A run that failed. What it made is not lost: the closure's value and the counts are here.
///
/// ```
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// let failure = fibra_core::run(&pool, |p| {
///     p.fibre().name("pump").essential().spawn(core::future::pending()).unwrap();
///     "made before the fibres ran"
/// })
/// .unwrap_err();
/// assert_eq!(failure.value, Some("made before the fibres ran"));
/// assert_eq!(failure.outcome.collapsed, 1);
/// assert_eq!(failure.to_string(), "an essential fibre was lost: fibre `pump` collapsed");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure<R> {
    /// Why.
    pub cause: Cause,
    /// What the closure given to `run` returned; `None` if it did not run to its end.
    pub value: Option<R>,
    /// What became of the fibres.
    pub outcome: Outcome,
}

impl<R> fmt::Display for Failure<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Lost(report) => write!(f, "an essential fibre was lost: {report}"),
            Cause::Panicked => write!(f, "a fibre panicked ({})", self.outcome),
            Cause::HubTaken => write!(f, "the wake hub already serves a process; give this one a hub of its own"),
        }
    }
}

impl<R: fmt::Debug> core::error::Error for Failure<R> {}
