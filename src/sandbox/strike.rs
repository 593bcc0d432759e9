//! When a fault strikes: its share of the requests, its place, its time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::fault::{Effect, Fault};

/// A fault at work: it counts what comes by.
#[derive(Debug)]
pub(super) struct Striker {
    fault: Fault,
    seen: AtomicU64,
}

impl Striker {
    pub(super) fn new(fault: Fault) -> Striker {
        Striker { fault, seen: AtomicU64::new(0) }
    }

    /// The effect when this request, or connection without a path, is struck.
    ///
    /// `age` is the time since the server's start; only what its window and path let through
    /// counts for its share.
    pub(super) fn strike(&self, paths: &[&str], age: Duration) -> Option<&Effect> {
        let here = match &self.fault.path {
            Some(pattern) => paths.iter().any(|path| fits(pattern, path)),
            None => true,
        };
        if !here || !self.fault.window.is_open(age) {
            return None;
        }
        let n = self.seen.fetch_add(1, Ordering::Relaxed) + 1;
        self.fault.share.strikes(n).then_some(&self.fault.effect)
    }
}

/// Whether a path begins as the pattern says, with `*` for anything.
fn fits(pattern: &str, path: &str) -> bool {
    if pattern.contains('*') {
        return glob::Pattern::new(pattern).is_ok_and(|glob| glob.matches(path));
    }
    let pattern = pattern.trim_end_matches('/');
    path.strip_prefix(pattern).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// When a fault strikes, measured from the start of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    pub from: Duration,
    pub until: Option<Duration>,
    /// It comes back at this interval, counted from `from`, …
    pub every: Option<Duration>,
    /// … and stays this long.
    pub lasting: Option<Duration>,
}

impl Window {
    fn is_open(&self, age: Duration) -> bool {
        let Some(since) = age.checked_sub(self.from) else { return false };
        if self.until.is_some_and(|until| age >= until) {
            return false;
        }
        match (self.every, self.lasting) {
            (Some(every), Some(lasting)) => {
                since.as_nanos() % every.as_nanos().max(1) < lasting.as_nanos()
            }
            (None, Some(lasting)) => since < lasting,
            (_, None) => true,
        }
    }
}

/// A part of the requests, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u32);

const WHOLE: u32 = 1_000_000;

impl Share {
    pub const ALL: Share = Share(WHOLE);

    /// From a fraction above 0 and not above 1.
    ///
    /// # Errors
    /// When it is none.
    pub fn new(fraction: f64) -> Result<Share, String> {
        // NaN falls through as well.
        if !(fraction > 0.0 && fraction <= 1.0) {
            return Err("a share is a number above 0 and not above 1, such as 0.2".into());
        }
        let millionths = (fraction * f64::from(WHOLE)).round().clamp(1.0, f64::from(WHOLE));
        // Clamped above.
        Ok(Share(millionths as u32))
    }

    /// Whether the n-th request, counted from 1, is struck: 0.2 strikes every fifth, evenly.
    fn strikes(self, n: u64) -> bool {
        let reached = |n: u64| u128::from(n) * u128::from(self.0) / u128::from(WHOLE);
        reached(n) > reached(n - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_strikes_evenly_and_always_the_same() {
        let struck = |share: f64| -> Vec<u64> {
            let share = Share::new(share).unwrap();
            (1..=10).filter(|n| share.strikes(*n)).collect()
        };
        assert_eq!(struck(0.2), [5, 10]);
        assert_eq!(struck(0.1), [10]);
        assert_eq!(struck(0.5), [2, 4, 6, 8, 10]);
        assert_eq!(struck(1.0).len(), 10);
        assert_eq!(struck(0.3), [4, 7, 10]);
    }

    #[test]
    fn a_window_opens_closes_and_comes_back() {
        let s = Duration::from_secs;
        let once = Window { from: s(5), until: Some(s(20)), ..Window::default() };
        let coming =
            Window { from: s(10), every: Some(s(10)), lasting: Some(s(3)), until: Some(s(30)) };
        for (window, age, open) in [
            (Window::default(), 0, true),
            (once, 4, false),
            (once, 5, true),
            (once, 19, true),
            (once, 20, false),
            (coming, 9, false),
            (coming, 10, true),
            (coming, 12, true),
            (coming, 13, false),
            (coming, 21, true),
            (coming, 31, false),
        ] {
            assert_eq!(window.is_open(s(age)), open, "{window:?} at {age} s");
        }
    }

    #[test]
    fn a_path_is_a_beginning_or_a_glob() {
        for (pattern, path, fit) in [
            ("/metadata", "/metadata", true),
            ("/metadata", "/metadatas", false),
            ("/Patient", "/Patient/canary-1", true),
            ("/Patient/*/_history", "/Patient/a/_history", true),
            ("/Patient/*/_history", "/Patient/a", false),
            ("/", "/anything", true),
        ] {
            assert_eq!(fits(pattern, path), fit, "{pattern} {path}");
        }
    }

    #[test]
    fn what_a_fault_does_not_cover_does_not_count_for_its_share() {
        let fault = Fault { path: Some("/metadata".into()), ..Fault::parse("drop@0.5").unwrap() };
        let striker = Striker::new(fault);
        let strikes: Vec<bool> = ["/metadata", "/Patient", "/Patient", "/metadata"]
            .iter()
            .map(|path| striker.strike(&[path], Duration::ZERO).is_some())
            .collect();
        assert_eq!(strikes, [false, false, false, true]);
    }
}
