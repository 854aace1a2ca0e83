//! A writer that is held at a step, until it is told to go on.

use std::sync::{Arc, Condvar, Mutex};

use countersign_store::{Options, Step};

/// Holds the writer, at first.
#[derive(Default)]
pub(crate) struct Held {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    reached: bool,
    open: bool,
}

impl Held {
    /// Returns what holds a writer with these options at a step, and the options with it.
    pub(crate) fn at(at: Step, options: Options) -> (Arc<Self>, Options) {
        let held = Arc::new(Self::default());
        let (here, before) = (Arc::clone(&held), options.hook.clone());
        let hook = move |step| {
            if let Some(before) = &before {
                before(step);
            }
            if step == at {
                // The runtime's other tasks go on meanwhile.
                tokio::task::block_in_place(|| {
                    let mut state = here.state.lock().unwrap();
                    state.reached = true;
                    here.changed.notify_all();
                    drop(here.changed.wait_while(state, |state| !state.open).unwrap());
                });
            }
        };
        (held, Options { hook: Some(Arc::new(hook)), ..options })
    }

    /// Waits until the writer is there.
    pub(crate) async fn reached(self: &Arc<Self>) {
        let held = Arc::clone(self);
        let wait = move || {
            drop(held.changed.wait_while(held.state.lock().unwrap(), |state| !state.reached).unwrap());
        };
        tokio::task::spawn_blocking(wait).await.unwrap();
    }

    /// Lets the writer go on, now and later.
    pub(crate) fn open(&self) {
        self.state.lock().unwrap().open = true;
        self.changed.notify_all();
    }

    /// Holds it again when it comes there next.
    pub(crate) fn shut(&self) {
        *self.state.lock().unwrap() = State::default();
    }
}
