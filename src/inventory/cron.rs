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

#[cfg(test)]
mod tests {
    use super::check;

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
