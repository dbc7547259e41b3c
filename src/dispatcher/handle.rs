//! The edge's way to the dispatcher of its worker.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use actix::Addr;

use super::actor::Dispatcher;
use super::messages::Dispatch;

/// Holds a worker's dispatcher and starts another when it has died: the requests in its mailbox are lost, and
/// answered with 500, the next ones are not.
#[derive(Clone)]
pub struct DispatcherHandle(Rc<Inner>);

struct Inner {
    start: Box<dyn Fn() -> Addr<Dispatcher>>,
    address: RefCell<Addr<Dispatcher>>,
    restarts: Cell<u32>,
}

impl DispatcherHandle {
    /// Starts the dispatcher on the calling worker's thread.
    pub fn start(start: impl Fn() -> Addr<Dispatcher> + 'static) -> Self {
        let address = RefCell::new(start());
        Self(Rc::new(Inner { start: Box::new(start), address, restarts: Cell::new(0) }))
    }

    /// Hands a request over. The bound is the admission permit that it holds.
    pub fn send(&self, dispatch: Dispatch) {
        if !self.0.address.borrow().connected() {
            self.0.restarts.set(self.0.restarts.get().saturating_add(1));
            log::error!(restarts = self.0.restarts.get(); "the dispatcher died and was started again");
            let address = (self.0.start)();
            self.0.address.replace(address);
        }
        self.0.address.borrow().do_send(dispatch);
    }
}
