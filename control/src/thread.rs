//! Threads of control's own, each with a runtime of its own, for what must not wait for the loop nor hold it up.

use std::future::Future;
use std::io;

/// Starts a thread that runs what `task` gives to its end.
///
/// Its runtime is made here, so that what it needs of the system is there, or is missing, when this returns.
///
/// # Errors
///
/// When there is no runtime or no thread.
pub(crate) fn spawn<F>(name: &str, task: impl FnOnce() -> F + Send + 'static) -> io::Result<()>
where
    F: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(move || runtime.block_on(task())).map(drop)
}
