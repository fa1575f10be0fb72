//! What a fibre is said to have collapsed of.

mod common;

use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::task::Poll;

use common::Checking;
use fibra_core::Setup;

/// A dead wait that was answered with the end of the stream is over.
#[test]
fn an_end_that_was_seen_is_not_what_a_fibre_collapses_of() {
    let checking = Checking::new();
    let lost = RefCell::new(Vec::new());
    Setup::new(&checking)
        .report(&mut |report| lost.borrow_mut().push(report.wait().channel().is_some()))
        .run(|p| {
            let (w, mut r) = p.channel::<u8>().unwrap();
            drop(w);
            p.spawn(async move {
                poll_fn(|cx| {
                    assert!(r.poll_read(cx).is_pending());
                    assert_eq!(r.poll_read_or_end(cx), Poll::Ready(None));
                    Poll::Ready(())
                })
                .await;
                pending::<()>().await;
            })
            .unwrap();
        })
        .unwrap();
    assert_eq!(lost.into_inner(), [false]);
}
