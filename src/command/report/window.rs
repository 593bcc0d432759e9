//! The window of a report as it is asked for.

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::model::{Error, Result};
use crate::stats::span::Span;
use crate::stats::window::{Asked, window, zone};

/// What is looked at where nobody says it.
const USUAL: &str = "30d";

#[derive(Debug, Args)]
pub struct WindowArgs {
    /// The time up to now, such as 24h, 30d or 12w [default: 30d]
    // What begins with a dash is a wrong length, and no option.
    #[arg(long, value_name = "LENGTH", allow_hyphen_values = true, conflicts_with_all = ["month", "from", "to"])]
    pub last: Option<String>,

    /// A month of the calendar, in the time zone; for report sla in that of each agreement
    #[arg(long, value_name = "YYYY-MM", conflicts_with_all = ["from", "to"])]
    pub month: Option<String>,

    /// From this instant on: RFC 3339, or a date, with a time or without, in the time zone
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,

    /// Up to this instant, which is not in it any more [default: now]
    #[arg(long, value_name = "TIME", requires = "from")]
    pub to: Option<String>,

    /// In whose days and months, a name such as America/New_York [default: UTC; for report sla the
    /// agreement's]
    #[arg(long, value_name = "ZONE")]
    pub time_zone: Option<String>,
}

/// A window, and by whose clock it is told.
#[derive(Clone, Debug)]
pub struct Chosen {
    pub window: Span,
    pub zone: TimeZone,
    /// Whether somebody said it.
    pub is_said: bool,
    /// Whether somebody said the zone.
    pub is_zone_said: bool,
    /// The month that was said, since months begin at another time in another zone.
    pub month: Option<String>,
    /// Whether more was asked for than has passed.
    pub is_cut: bool,
}

impl Chosen {
    /// The window by another calendar, up to now: a month is that of a zone.
    ///
    /// # Errors
    /// Exit 64 for what is no month.
    pub fn by(&self, zone: &TimeZone, now: Timestamp) -> Result<Span> {
        let Some(month) = &self.month else { return Ok(self.window) };
        let whole = window(Asked::Month(month), now, zone)?;
        Ok(Span::new(whole.from, whole.to.min(now.as_millisecond())))
    }
}

impl WindowArgs {
    /// # Errors
    /// Exit 64 for what is no window.
    pub fn choose(&self, now: Timestamp) -> Result<Chosen> {
        let zone = zone(self.time_zone.as_deref().unwrap_or("UTC"))?;
        let asked = match (&self.last, &self.month, &self.from) {
            (Some(last), ..) => Asked::Last(last),
            (None, Some(month), _) => Asked::Month(month),
            (None, None, Some(from)) => Asked::Between { from, to: self.to.as_deref() },
            (None, None, None) => Asked::Last(USUAL),
        };
        let is_said = self.is_said();
        Ok(Chosen {
            window: window(asked, now, &zone)?,
            zone,
            is_said,
            is_zone_said: self.time_zone.is_some(),
            month: self.month.clone(),
            is_cut: false,
        })
    }

    /// The same up to now: of the future nobody has figures.
    ///
    /// # Errors
    /// Exit 64 for what is no window, and for one that has not begun.
    pub fn choose_past(&self, now: Timestamp) -> Result<Chosen> {
        let mut chosen = self.choose(now)?;
        let now = now.as_millisecond();
        if chosen.window.from >= now {
            return Err(Error::usage("the window begins in the future, of which nothing is known"));
        }
        chosen.is_cut = chosen.window.to > now;
        chosen.window.to = chosen.window.to.min(now);
        Ok(chosen)
    }

    /// Whether somebody named a window.
    #[must_use]
    pub fn is_said(&self) -> bool {
        self.last.is_some() || self.month.is_some() || self.from.is_some()
    }
}
