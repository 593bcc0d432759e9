//! How long to wait before asking again.

use std::time::Duration;

/// What the user and the vendor's preset say of waiting.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// No wait is shorter.
    pub floor: Duration,
    /// No wait is longer, whatever the server says.
    pub ceiling: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { floor: Duration::from_millis(500), ceiling: Duration::from_secs(60 * 60) }
    }
}

/// The first wait of a server that names none.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait of a server that names none.
const LONGEST: Duration = Duration::from_secs(60);

impl Pace {
    /// The wait that a server asks for, within bounds; without one it grows with every time that it
    /// was waited, with jitter (STU2 Bulk Data export, "Bulk Data Status Request").
    #[must_use]
    pub fn wait(&self, asked_for: Option<Duration>, waited: u32) -> Duration {
        let wait = asked_for.unwrap_or_else(|| {
            let grown = FIRST.mul_f64(1.5_f64.powi(i32::try_from(waited.min(30)).unwrap_or(30)));
            grown.min(LONGEST).mul_f64(0.85 + 0.3 * fastrand::f64())
        });
        wait.max(self.floor).min(self.ceiling.max(self.floor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_asks_for_is_obeyed_within_bounds() {
        let pace = Pace { floor: Duration::from_secs(2), ceiling: Duration::from_secs(600) };
        for (asked, given) in [(0, 2), (1, 2), (30, 30), (600, 600), (86_400, 600)] {
            assert_eq!(pace.wait(Some(Duration::from_secs(asked)), 9), Duration::from_secs(given));
        }
    }

    #[test]
    fn a_server_that_says_nothing_is_asked_less_and_less_often() {
        let pace = Pace { floor: Duration::ZERO, ceiling: Duration::from_secs(600) };
        let first = pace.wait(None, 0);
        assert!(first >= Duration::from_millis(850) && first <= Duration::from_millis(1150));
        assert!(pace.wait(None, 4) > Duration::from_secs(4));
        let late = pace.wait(None, u32::MAX);
        assert!(late >= Duration::from_secs(50) && late <= Duration::from_secs(70));
    }
}
