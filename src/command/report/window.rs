//! The window of a report as it is asked for.

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::model::Result;
use crate::stats::span::Span;
use crate::stats::window::{Asked, window, zone};

/// What is looked at where nobody says it.
const USUAL: &str = "30d";

#[derive(Debug, Args)]
pub struct WindowArgs {
    /// The time up to now, such as 24h, 30d or 12w [default: 30d]
    #[arg(long, value_name = "LENGTH", conflicts_with_all = ["month", "from", "to"])]
    pub last: Option<String>,

    /// A month of the calendar, in the time zone
    #[arg(long, value_name = "YYYY-MM", conflicts_with_all = ["from", "to"])]
    pub month: Option<String>,

    /// From this instant on: RFC 3339, or a date, with a time or without, in the time zone
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,

    /// Up to this instant, which is not in it any more [default: now]
    #[arg(long, value_name = "TIME", requires = "from")]
    pub to: Option<String>,

    /// In whose days and months, a name such as America/New_York
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    pub time_zone: String,
}

/// A window, and by whose clock it is told.
#[derive(Clone, Debug)]
pub struct Chosen {
    pub window: Span,
    pub zone: TimeZone,
    /// Whether somebody said it.
    pub is_said: bool,
}

impl WindowArgs {
    /// # Errors
    /// Exit 64 for what is no window.
    pub fn choose(&self, now: Timestamp) -> Result<Chosen> {
        let zone = zone(&self.time_zone)?;
        let asked = match (&self.last, &self.month, &self.from) {
            (Some(last), ..) => Asked::Last(last),
            (None, Some(month), _) => Asked::Month(month),
            (None, None, Some(from)) => Asked::Between { from, to: self.to.as_deref() },
            (None, None, None) => Asked::Last(USUAL),
        };
        let is_said = self.is_said();
        Ok(Chosen { window: window(asked, now, &zone)?, zone, is_said })
    }

    /// Whether somebody named a window.
    #[must_use]
    pub fn is_said(&self) -> bool {
        self.last.is_some() || self.month.is_some() || self.from.is_some()
    }
}
