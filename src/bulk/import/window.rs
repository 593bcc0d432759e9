//! How many requests are under way: down at once when a server has too much, up slowly.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// A window over requests, without a clock of its own.
#[derive(Clone, Debug)]
pub struct Window {
    size: f64,
    most: f64,
    hold_until: Option<Instant>,
    last_cut: Option<Instant>,
}

impl Window {
    #[must_use]
    pub fn new(most: usize) -> Window {
        #[expect(clippy::cast_precision_loss, reason = "there are a few dozen")]
        let most = most.max(1) as f64;
        Window { size: most.min(2.0), most, hold_until: None, last_cut: None }
    }

    /// How many may be under way.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to a few dozen")]
    pub fn size(&self) -> usize {
        (self.size as usize).max(1)
    }

    /// Nothing is sent before this instant.
    #[must_use]
    pub fn hold_until(&self) -> Option<Instant> {
        self.hold_until
    }

    /// A request went well: one more after as many of them as are under way.
    pub fn went_well(&mut self) {
        self.size = (self.size + 1.0 / self.size).min(self.most);
    }

    /// The server has too much. Requests that began before the last cut say nothing new.
    pub fn too_much(&mut self, begun: Instant, now: Instant, wait: Duration) {
        let until = now + wait;
        self.hold_until = Some(self.hold_until.map_or(until, |other| other.max(until)));
        if self.last_cut.is_none_or(|cut| begun >= cut) {
            self.size = (self.size / 2.0).max(1.0);
            self.last_cut = Some(now);
        }
    }
}

/// The window as tasks share it.
pub struct Gate {
    state: Mutex<(Window, usize)>,
    changed: Notify,
}

/// A place in the window, free again when dropped.
pub struct Place<'a> {
    gate: &'a Gate,
    pub begun: Instant,
}

impl Gate {
    #[must_use]
    pub fn new(most: usize) -> Gate {
        Gate { state: Mutex::new((Window::new(most), 0)), changed: Notify::new() }
    }

    /// Waits for a place.
    pub async fn enter(&self) -> Place<'_> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let hold = {
                let mut state = self.state();
                let hold = state.0.hold_until().filter(|until| *until > Instant::now());
                if hold.is_none() && state.1 < state.0.size() {
                    state.1 += 1;
                    return Place { gate: self, begun: Instant::now() };
                }
                hold
            };
            match hold {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => changed.await,
            }
        }
    }

    pub fn went_well(&self) {
        self.state().0.went_well();
        self.changed.notify_waiters();
    }

    pub fn too_much(&self, begun: Instant, wait: Duration) {
        self.state().0.too_much(begun, Instant::now(), wait);
    }

    fn state(&self) -> MutexGuard<'_, (Window, usize)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.gate.state().1 -= 1;
        self.gate.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_slowly_and_closes_at_once() {
        let mut window = Window::new(8);
        let start = Instant::now();
        assert_eq!(window.size(), 2);
        let mut rounds = 0;
        while window.size() < 8 {
            window.went_well();
            rounds += 1;
        }
        assert!((20..60).contains(&rounds), "{rounds}");
        for _ in 0..100 {
            window.went_well();
        }
        assert_eq!(window.size(), 8);
        let second = start + Duration::from_secs(1);
        window.too_much(start, second, Duration::from_secs(3));
        assert_eq!(window.size(), 4);
        assert_eq!(window.hold_until(), Some(second + Duration::from_secs(3)));
    }

    #[test]
    fn one_burst_of_refusals_is_one_cut() {
        let mut window = Window::new(8);
        for _ in 0..100 {
            window.went_well();
        }
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for _ in 0..8 {
            window.too_much(start, at(1), Duration::ZERO);
        }
        assert_eq!(window.size(), 4);
        for second in 2..9 {
            window.too_much(at(second), at(second), Duration::ZERO);
        }
        assert_eq!(window.size(), 1);
    }
}
