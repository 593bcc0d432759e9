//! The hours in which a service is promised, such as `Mon-Fri 08:00-18:00, Sat 09:00-12:00`.

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;

use super::{DAY_MS, HOUR_MS, Steady, steadies};
use crate::stats::span::{Span, Spans};

/// Hours of the days of a week, by the clock of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceHours {
    /// As it was written.
    text: String,
    rules: Vec<Rule>,
}

/// Hours on some days; those over midnight belong to the day on which they begin.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    /// From Monday.
    days: [bool; 7],
    /// Minutes after midnight.
    from: i64,
    /// Above `from`; beyond 24 hours when it is on the next day.
    to: i64,
}

const NAMES: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
const DAY_MINUTES: i64 = 24 * 60;

impl ServiceHours {
    /// At all times.
    #[must_use]
    pub fn always() -> ServiceHours {
        let rules = vec![Rule { days: [true; 7], from: 0, to: DAY_MINUTES }];
        ServiceHours { text: "24x7".to_owned(), rules }
    }

    /// `24x7`, or days and hours parted by commas: `Mon-Fri 08:00-18:00, Sat,Sun 10:00-14:00`. Hours
    /// that end at or before their beginning go over midnight, and belong to the day they begin on.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the text, and how to write it.
    pub fn parse(text: &str) -> Result<ServiceHours, String> {
        let text = text.trim();
        if matches!(text.to_ascii_lowercase().as_str(), "24x7" | "24/7") {
            return Ok(ServiceHours::always());
        }
        let mut rules = Vec::new();
        let mut days = [false; 7];
        for part in text.split(',') {
            let part = part.trim();
            // Days alone go with the hours that follow.
            let (names, hours) = match part.split_once(char::is_whitespace) {
                Some((names, hours)) => (names, Some(hours.trim())),
                None => (part, None),
            };
            for (day, named) in days.iter_mut().zip(days_of(names)?) {
                *day |= named;
            }
            if let Some(hours) = hours {
                let (from, to) = hours_of(hours)?;
                rules.push(Rule { days, from, to });
                days = [false; 7];
            }
        }
        if days.contains(&true) {
            return Err(format!(
                "\"{}\" names days without hours; write hours behind them, such as Mon-Fri 08:00-18:00",
                text.escape_debug()
            ));
        }
        Ok(ServiceHours { text: text.to_owned(), rules })
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The time of a window in which the clock of a zone shows service hours, without the days that
    /// are holidays. A holiday takes out its own 24 hours by the calendar, whatever day the hours in
    /// it began on.
    #[must_use]
    pub fn spans(&self, window: Span, zone: &TimeZone, holidays: &[Date]) -> Spans {
        let mut service = Vec::new();
        let mut free = Vec::new();
        for steady in steadies(window, zone) {
            let (first, last) = (day_of(steady, steady.span.from), day_of(steady, steady.span.to));
            // Hours that began on the day before reach into the first one.
            for day in first - 1..=last {
                let weekday = weekday(day);
                for rule in self.rules.iter().filter(|rule| rule.days[weekday]) {
                    service.push(on_clock(steady, day, rule.from, rule.to));
                }
            }
            for date in holidays {
                let day = days_since_epoch(*date);
                if (first..=last).contains(&day) {
                    free.push(on_clock(steady, day, 0, DAY_MINUTES));
                }
            }
        }
        Spans::from(service).subtract(&Spans::from(free))
    }
}

/// What the clock shows from one minute of a day to another, while it runs steadily.
fn on_clock(steady: Steady, day: i64, from: i64, to: i64) -> Span {
    let midnight = day * DAY_MS - steady.ahead_ms;
    let minute = |minute: i64| midnight + minute * (HOUR_MS / 60);
    Span::new(minute(from), minute(to)).intersect(&steady.span)
}

/// The number of the day since 1970-01-01 that the calendar shows at an instant.
fn day_of(steady: Steady, at: i64) -> i64 {
    (at + steady.ahead_ms).div_euclid(DAY_MS)
}

fn days_since_epoch(date: Date) -> i64 {
    let midnight = TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0));
    midnight.map_or(i64::MIN, |at| at.as_millisecond().div_euclid(DAY_MS))
}

/// From 0 for Monday; the epoch was a Thursday.
fn weekday(day: i64) -> usize {
    let epoch = i64::from(Weekday::Thursday.to_monday_zero_offset());
    usize::try_from((day + epoch).rem_euclid(7)).unwrap_or_default()
}

fn days_of(text: &str) -> Result<[bool; 7], String> {
    let mut days = [false; 7];
    if matches!(text.to_ascii_lowercase().as_str(), "daily" | "every-day") {
        return Ok([true; 7]);
    }
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (weekday_of(first)?, weekday_of(last)?),
        None => (weekday_of(text)?, weekday_of(text)?),
    };
    let mut day = first;
    loop {
        days[day] = true;
        if day == last {
            return Ok(days);
        }
        day = (day + 1) % 7;
    }
}

fn weekday_of(text: &str) -> Result<usize, String> {
    let name = text.trim().to_ascii_lowercase();
    let found = NAMES.iter().position(|full| *full == name || full[..3] == name);
    found.ok_or_else(|| {
        format!(
            "\"{}\" is no day of the week; write 24x7, or days and hours such as Mon-Fri 08:00-18:00",
            text.escape_debug()
        )
    })
}

fn hours_of(text: &str) -> Result<(i64, i64), String> {
    let wrong = || {
        format!(
            "\"{}\" are no hours; write from and to by the 24-hour clock, such as 08:00-18:00",
            text.escape_debug()
        )
    };
    let (from, to) = text.split_once('-').ok_or_else(wrong)?;
    let from = minute_of(from).filter(|from| *from < DAY_MINUTES).ok_or_else(wrong)?;
    let to = minute_of(to).ok_or_else(wrong)?;
    if from == to {
        return Err(format!(
            "\"{}\" ends where it begins; a whole day is 00:00-24:00",
            text.escape_debug()
        ));
    }
    Ok((from, if to < from { to + DAY_MINUTES } else { to }))
}

fn minute_of(text: &str) -> Option<i64> {
    let (hour, minute) = text.trim().split_once(':')?;
    let number = |text: &str| {
        let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse::<i64>().ok()).flatten()
    };
    let (hour, minute) = (number(hour)?, number(minute).filter(|minute| *minute < 60)?);
    let all = hour * 60 + minute;
    (all <= DAY_MINUTES).then_some(all)
}
