//! [`Wake`]: what is done, once, when something happens that somebody waits for without a thread.

use std::fmt;

pub(crate) struct Wake(Box<dyn FnOnce() + Send>);

impl Wake {
    pub(crate) fn new(wake: impl FnOnce() + Send + 'static) -> Self {
        Self(Box::new(wake))
    }

    /// To be called with no lock held that it could want.
    pub(crate) fn wake(self) {
        (self.0)();
    }
}

impl fmt::Debug for Wake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wake")
    }
}
