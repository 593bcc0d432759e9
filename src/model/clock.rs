//! Wall-clock time as a value.

use jiff::Timestamp;

/// The wall clock that a run goes by. Only [`Clock::system`] reads the machine's.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The machine's own clock.
    System,
    /// A clock that stands still; tests and rehearsals use it.
    Fixed(Timestamp),
}

impl Clock {
    #[must_use]
    pub fn system() -> Clock {
        Clock::System
    }

    /// The present instant, UTC.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match self {
            Clock::System => Timestamp::now(),
            Clock::Fixed(at) => *at,
        }
    }
}
