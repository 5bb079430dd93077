//! The in-process queue.

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use fencepost::lock::gate::{Deadline, Gate};

use crate::support::{limit, wait_until};

#[test]
fn threads_pass_in_the_order_in_which_they_came() {
    let gate = Gate::default();
    let passed = Mutex::new(Vec::new());
    let place = gate.enter(&Deadline::after(limit())).expect("nobody is here");
    thread::scope(|scope| {
        for n in 0..50 {
            let (gate, passed) = (&gate, &passed);
            scope.spawn(move || {
                let _place = gate.enter(&Deadline::after(limit())).expect("its turn comes");
                passed.lock().expect("no panic").push(n);
            });
            wait_until(limit(), "the thread stands in line", || gate.waiting() == n + 1);
        }
        assert!(passed.lock().expect("no panic").is_empty());
        drop(place);
    });
    assert_eq!(passed.into_inner().expect("no panic"), (0..50).collect::<Vec<_>>());
}

#[test]
fn who_leaves_holds_nobody_up() {
    let gate = Gate::default();
    let place = gate.enter(&Deadline::after(limit())).expect("nobody is here");
    thread::scope(|scope| {
        let leaver =
            scope.spawn(|| gate.enter(&Deadline::after(Duration::from_millis(50))).is_none());
        // Behind the other, unless that one is gone already.
        wait_until(limit(), "the first stands in line", || {
            gate.waiting() == 1 || leaver.is_finished()
        });
        let last = scope.spawn(|| gate.enter(&Deadline::after(limit())).is_some());
        assert!(leaver.join().expect("no panic"), "its time ran out");
        wait_until(limit(), "the one behind moves up", || gate.waiting() == 1);
        drop(place);
        assert!(last.join().expect("no panic"));
    });
    assert_eq!(gate.waiting(), 0);
}

#[test]
fn a_deadline_of_zero_passes_only_an_empty_gate() {
    let gate = Gate::default();
    let place = gate.enter(&Deadline::after(Duration::ZERO)).expect("nobody is here");
    assert!(gate.enter(&Deadline::after(Duration::ZERO)).is_none());
    drop(place);
    assert!(gate.enter(&Deadline::after(Duration::ZERO)).is_some());
}
