//! The form of a cron expression: five fields, or one of the usual short words.

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Checks minute, hour, day of the month, month and day of the week.
pub(super) fn check(text: &str) -> Result<(), String> {
    if matches!(text, "@hourly" | "@daily" | "@midnight" | "@weekly" | "@monthly" | "@yearly") {
        return Ok(());
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields[..] else {
        return Err(format!(
            "it has five fields (minute hour day month weekday), such as */5 * * * *; here are {}",
            fields.len()
        ));
    };
    field(minute, "minute", 0, 59, &[])?;
    field(hour, "hour", 0, 23, &[])?;
    field(day, "day", 1, 31, &[])?;
    field(month, "month", 1, 12, &MONTHS)?;
    field(weekday, "weekday", 0, 7, &DAYS)
}

fn field(text: &str, what: &str, low: u32, high: u32, names: &[&str]) -> Result<(), String> {
    let wrong = || Err(format!("the {what} goes from {low} to {high}"));
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (part, None),
        };
        if let Some(step) = step
            && !step.parse::<u32>().is_ok_and(|step| (1..=high).contains(&step))
        {
            return wrong();
        }
        if range == "*" {
            continue;
        }
        let value = |text: &str| {
            let index = names.iter().position(|name| name.eq_ignore_ascii_case(text));
            match index.and_then(|index| u32::try_from(index).ok()) {
                Some(index) => Some(index + low),
                None => text.parse().ok().filter(|value| (low..=high).contains(value)),
            }
        };
        let good = match range.split_once('-') {
            Some((from, to)) => matches!((value(from), value(to)), (Some(a), Some(b)) if a <= b),
            None => value(range).is_some(),
        };
        if !good {
            return wrong();
        }
    }
    Ok(())
}

/// How often it comes round in a day, as the mean over a year; `None` when it is no expression.
#[must_use]
pub fn runs_per_day(text: &str) -> Option<f64> {
    let text = match text {
        "@hourly" => "0 * * * *",
        "@daily" | "@midnight" => "0 0 * * *",
        "@weekly" => "0 0 * * 0",
        "@monthly" => "0 0 1 * *",
        "@yearly" => "0 0 1 1 *",
        other => other,
    };
    check(text).ok()?;
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields[..] else { return None };
    let times = members(minute, 0, 59, &[]).len() * members(hour, 0, 23, &[]).len();
    let (days, months) = (members(day, 1, 31, &[]), members(month, 1, 12, &MONTHS));
    let weekdays: Vec<u32> =
        members(weekday, 0, 7, &DAYS).into_iter().map(|weekday| weekday % 7).collect();
    // Where both are told, either is enough; that is cron's own rule.
    let either = !day.starts_with('*') && !weekday.starts_with('*');
    let first = jiff::civil::date(2027, 1, 1);
    let matching = first.series(jiff::Span::new().days(1)).take(365).filter(|date| {
        let number = |value: i8| u32::from(value.unsigned_abs());
        let by_day = days.contains(&number(date.day()));
        let by_weekday = weekdays.contains(&number(date.weekday().to_sunday_zero_offset()));
        let by_day = if either { by_day || by_weekday } else { by_day && by_weekday };
        by_day && months.contains(&number(date.month()))
    });
    let times = f64::from(u32::try_from(times * matching.count()).ok()?);
    Some(times / 365.0)
}

/// The values that a field means; it has been checked.
fn members(text: &str, low: u32, high: u32, names: &[&str]) -> Vec<u32> {
    let value = |text: &str| {
        let index = names.iter().position(|name| name.eq_ignore_ascii_case(text));
        index
            .and_then(|index| u32::try_from(index).ok())
            .map(|index| index + low)
            .or_else(|| text.parse().ok())
    };
    let mut all = Vec::new();
    for part in text.split(',') {
        let (range, step) = part.split_once('/').unwrap_or((part, ""));
        let (from, to) = match range.split_once('-') {
            Some((from, to)) => (value(from), value(to)),
            None if range == "*" => (Some(low), Some(high)),
            None if step.is_empty() => (value(range), value(range)),
            None => (value(range), Some(high)),
        };
        if let (Some(from), Some(to)) = (from, to) {
            all.extend((from..=to).step_by(step.parse().unwrap_or(1).max(1)));
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::{check, runs_per_day};

    #[test]
    fn runs_are_counted_by_the_day() {
        for (text, a_year) in [
            ("*/5 * * * *", 288 * 365),
            ("@hourly", 24 * 365),
            ("0 6 * * mon-fri", 261),
            ("0,30 8-18/2 1 jan *", 12),
            ("0 0 1 * 1", 12 + 52 - 3),
            ("15 3 * * 7", 52),
            ("0 */4,1 * * *", 7 * 365),
        ] {
            let runs = runs_per_day(text).unwrap() * 365.0;
            assert!((runs - f64::from(a_year)).abs() < 0.01, "{text}: {runs}");
        }
        assert_eq!(runs_per_day("nightly"), None);
    }

    #[test]
    fn cron_expressions_are_told_from_other_texts() {
        for text in ["*/5 * * * *", "0 6 * * mon-fri", "0,30 8-18/2 1 jan *", "@daily"] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for text in ["", "* * * *", "60 * * * *", "*/0 * * * *", "* * 0 * *", "5-1 * * * *", "@now"]
        {
            assert!(check(text).is_err(), "{text}");
        }
    }
}
