//! Who writes: the operating system's user, the host, the process.

use nix::unistd::{User, geteuid, getuid};

/// The one in whose name this process writes.
#[derive(Clone, Debug)]
pub(super) struct Who {
    pub(super) user: String,
    pub(super) host: String,
    pub(super) process: u32,
}

impl Who {
    /// Asks the operating system, not the environment: `$USER` says whatever it was set to.
    pub(super) fn here() -> Who {
        let id = getuid();
        let name = match User::from_uid(id) {
            Ok(Some(user)) => user.name,
            _ => format!("uid {id}"),
        };
        let effective = geteuid();
        let user = if effective == id { name } else { format!("{name} (as uid {effective})") };
        let host = nix::unistd::gethostname().ok();
        let host = host.map_or_else(|| "-".to_owned(), |host| host.to_string_lossy().into_owned());
        Who { user, host, process: std::process::id() }
    }
}
