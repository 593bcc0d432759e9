//! Keeps what is in memory from being written to disk when the program dies.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Switches core dumps off and keeps other processes of the same user from reading this one's
/// memory.
///
/// What the machine does not allow is left as it is: `doctor` shows it.
pub fn harden() {
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_dumpable(false);
}

/// Whether a crash of this process could leave its memory on disk.
#[must_use]
pub fn dumps_core() -> bool {
    #[cfg(target_os = "linux")]
    if nix::sys::prctl::get_dumpable() == Ok(false) {
        return false;
    }
    getrlimit(Resource::RLIMIT_CORE).is_ok_and(|(soft, _)| soft > 0)
}
