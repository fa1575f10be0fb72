//! The frame around the steps of a routine.

/// Writes the frame around a routine's steps: the enum `Step` and the `impl` of [`Continuation`](crate::Continuation). What
/// is in the steps is yours, word for word.
///
/// ```text
/// steps! {
///     impl [GENERICS] ROUTINE => RETURN, |self, cx|
///     STEP => { ... }
///     ...
/// }
/// ```
///
/// The routine begins with the first step. `[GENERICS]` may be left out, and so may `=> RETURN` for a coroutine. In the
/// steps, `Step` is the enum of their names: a step ends with `Next::go(Step::Name)` or another of the functions of
/// [`Next`](crate::Next). Steps that carry values, and doc comments on them, are for those who write the `impl` themselves;
/// it is what you see in the example of [`Continuation`](crate::Continuation), and does exactly the same.
///
/// ```
/// use core::task::ready;
/// use fibra_core::{AllocRef, Frame, Next, Reader, Writer, coroutine, steps};
/// # use fibra_core::{MemReq, SizeClasses, table};
///
/// struct Square(u64);
///
/// steps! {
///     impl Square => u64, |self, _cx|
///     Square => { Next::finish(self.0 * self.0) }
/// }
///
/// struct Squares<'p, A: AllocRef> {
///     from: Reader<'p, u64>,
///     to: Writer<'p, u64>,
///     pool: A,
///     square: Option<Frame<Square, A>>,
/// }
///
/// steps! {
///     impl [A: AllocRef] Squares<'_, A>, |self, cx|
///     Read => {
///         let n = ready!(self.from.poll_read(cx));
///         let Ok(frame) = Frame::new_in(Square(n), self.pool.clone()) else { return Next::end_fibre() };
///         Next::call(self.square.insert(frame), Step::Squared)
///     }
///     Squared => {
///         self.to.begin_write(self.square.take().and_then(Frame::into_result).expect("it has returned"));
///         Next::go(Step::Write)
///     }
///     Write => {
///         ready!(self.to.poll_write(cx));
///         Next::go(Step::Read)
///     }
/// }
///
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// let pool = &pool;
/// let (_, outcome) = fibra_core::run(pool, |p| {
///     let (mut numbers, from) = p.channel().unwrap();
///     let (to, mut squares) = p.channel().unwrap();
///     p.spawn(coroutine(Squares { from, to, pool, square: None })).unwrap();
///     p.spawn(async move { numbers.write(7).await }).unwrap();
///     p.spawn(async move { assert_eq!(squares.read().await, 49) }).unwrap();
/// })?;
/// assert_eq!((outcome.finished, outcome.collapsed), (2, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[macro_export]
macro_rules! steps {
    (impl $([$($generics:tt)*])? $routine:path, |$this:ident, $cx:ident| $($steps:tt)*) => {
        $crate::steps! { impl $([$($generics)*])? $routine => (), |$this, $cx| $($steps)* }
    };
    (
        impl $([$($generics:tt)*])? $routine:path => $return:ty, |$this:ident, $cx:ident|
        $first:ident => $begin:block $($step:ident => $body:block)*
    ) => {
        const _: () = {
            /// Where the routine stands.
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub enum Step {
                #[allow(missing_docs)]
                $first,
                $(
                    #[allow(missing_docs)]
                    $step,
                )*
            }

            impl $(<$($generics)*>)? $crate::Continuation for $routine {
                type Step = Step;
                type Return = $return;
                const START: Step = Step::$first;

                #[inline(always)]
                fn resume(
                    &mut $this,
                    step: Step,
                    $cx: &mut ::core::task::Context<'_>,
                ) -> ::core::task::Poll<$crate::Next<'_, Self>> {
                    match step {
                        Step::$first => $begin
                        $(Step::$step => $body)*
                    }
                }
            }
        };
    };
}
