//! When each request of an open model is due.

use std::time::Duration;

/// A rate that grows in a straight line during the ramp and stays from then on.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    rate: f64,
    ramp: f64,
}

impl Schedule {
    #[must_use]
    pub fn new(rate: f64, ramp: Duration) -> Schedule {
        Schedule { rate: rate.clamp(0.001, 10_000_000.0), ramp: ramp.as_secs_f64() }
    }

    /// When request number `number` is due, from the start; the first one is number 0.
    #[must_use]
    pub fn due(&self, number: u64) -> Duration {
        let number = number as f64;
        let in_ramp = self.rate * self.ramp / 2.0;
        let seconds = if number < in_ramp {
            (2.0 * number * self.ramp / self.rate).sqrt()
        } else {
            self.ramp + (number - in_ramp) / self.rate
        };
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// How many requests are due before this time.
    #[must_use]
    pub fn due_within(&self, time: Duration) -> u64 {
        let time = time.as_secs_f64();
        let count = if time < self.ramp {
            self.rate * time * time / (2.0 * self.ramp)
        } else {
            self.rate * (time - self.ramp / 2.0)
        };
        // Not negative and far below 2^64: the rate and the time are bounded.
        count.ceil() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_at_the_rate_and_slower_during_the_ramp() {
        let second = Duration::from_secs(1);
        for (rate, ramp, number, seconds) in [
            (100.0, 0, 0, 0.0),
            (100.0, 0, 1, 0.01),
            (100.0, 0, 250, 2.5),
            (100.0, 2, 0, 0.0),
            (100.0, 2, 25, 1.0),
            (100.0, 2, 100, 2.0),
            (100.0, 2, 150, 2.5),
        ] {
            let due = Schedule::new(rate, second * ramp).due(number).as_secs_f64();
            assert!((due - seconds).abs() < 1e-9, "{rate} {ramp} {number}: {due}");
        }
        assert_eq!(Schedule::new(100.0, Duration::ZERO).due_within(second * 3), 300);
        assert_eq!(Schedule::new(100.0, second * 2).due_within(second * 3), 200);
        assert_eq!(Schedule::new(100.0, second * 2).due_within(second), 25);
    }
}
