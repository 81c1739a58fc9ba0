//! Processes that do not outlive the test that started them, also where it fails.

use std::io;
use std::ops::{Deref, DerefMut};
use std::process::{Child, Output};

/// It is taken out by who consumes the value.
const THERE: &str = "the child is there as long as the value";

/// A child that is killed with the value, unless it was waited for.
pub struct Guarded(Option<Child>);

impl Guarded {
    /// Of this child.
    pub fn new(child: Child) -> Guarded {
        Guarded(Some(child))
    }

    /// Its end, and what it wrote to its pipes.
    pub fn wait_with_output(mut self) -> io::Result<Output> {
        self.0.take().expect(THERE).wait_with_output()
    }
}

impl Deref for Guarded {
    type Target = Child;

    fn deref(&self) -> &Child {
        self.0.as_ref().expect(THERE)
    }
}

impl DerefMut for Guarded {
    fn deref_mut(&mut self) -> &mut Child {
        self.0.as_mut().expect(THERE)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0
            && let Ok(None) = child.try_wait()
        {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Guarded;
    use std::path::Path;
    use std::process::Command;

    #[test]
    fn is_gone_with_the_value() {
        let child = Command::new("sleep").arg("100").spawn().map(Guarded::new);
        let name = format!("/proc/{}", child.as_ref().unwrap().id());
        assert!(Path::new(&name).exists());
        drop(child);
        assert!(!Path::new(&name).exists());
    }
}
