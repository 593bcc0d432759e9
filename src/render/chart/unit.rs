//! Figures on an axis, short enough to stand beside it.

/// What the figures of a chart are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unit {
    Milliseconds,
    /// From 0 to 100.
    Percent,
    Bytes,
    /// A number of things that the chart's title names.
    Count,
    /// Any other, written behind the number.
    Other(String),
}

impl Unit {
    /// A figure as it stands on the axis or beside a sparkline: `250 ms`, `1.5 s`, `12 GiB`, `3 k`.
    #[must_use]
    pub fn say(&self, value: f64) -> String {
        match self {
            Unit::Milliseconds => milliseconds(value),
            Unit::Percent => format!("{} %", number(value)),
            Unit::Bytes => steps(value, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"]),
            Unit::Count => steps(value, 1000.0, &["", "k", "M", "G", "T"]),
            Unit::Other(unit) => format!("{} {unit}", number(value)),
        }
    }

    /// What one of these is made of when steps are chosen: bytes come in powers of two.
    pub(super) fn base(&self, value: f64) -> f64 {
        match self {
            Unit::Bytes => {
                let mut base = 1.0;
                while value.abs() >= base * 1024.0 {
                    base *= 1024.0;
                }
                base
            }
            Unit::Milliseconds if value.abs() >= 172_800_000.0 => 86_400_000.0,
            Unit::Milliseconds if value.abs() >= 7_200_000.0 => 3_600_000.0,
            Unit::Milliseconds if value.abs() >= 120_000.0 => 60_000.0,
            _ => 1.0,
        }
    }
}

fn milliseconds(value: f64) -> String {
    let size = value.abs();
    if size < 1000.0 {
        format!("{} ms", number(value))
    } else if size < 120_000.0 {
        format!("{} s", number(value / 1000.0))
    } else if size < 7_200_000.0 {
        format!("{} min", number(value / 60_000.0))
    } else if size < 172_800_000.0 {
        format!("{} h", number(value / 3_600_000.0))
    } else {
        format!("{} d", number(value / 86_400_000.0))
    }
}

fn steps(value: f64, base: f64, names: &[&str]) -> String {
    let mut value = value;
    let mut at = 0;
    while value.abs() >= base && at + 1 < names.len() {
        value /= base;
        at += 1;
    }
    let name = names.get(at).copied().unwrap_or_default();
    format!("{} {name}", number(value)).trim_end().to_owned()
}

/// Three figures that count, and no zeros behind them.
fn number(value: f64) -> String {
    let size = value.abs();
    // The machine's smallest numbers are noise on an axis.
    if size < 1e-9 {
        return "0".to_owned();
    }
    let places = if size >= 100.0 {
        0
    } else if size >= 10.0 {
        1
    } else if size >= 1.0 {
        2
    } else {
        // 99.95 % and its like have to stay apart; below 1 the first figure that counts decides.
        (2.0 - size.log10().floor()).clamp(2.0, 9.0) as usize
    };
    // Between 99 and 100 two places make the difference between three and four nines.
    let places = if (90.0..100.0).contains(&size) { 3 } else { places };
    let text = format!("{value:.places$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_at_every_size() {
        for (unit, value, text) in [
            (Unit::Milliseconds, 0.0, "0 ms"),
            (Unit::Milliseconds, 0.25, "0.25 ms"),
            (Unit::Milliseconds, 250.0, "250 ms"),
            (Unit::Milliseconds, 1500.0, "1.5 s"),
            (Unit::Milliseconds, 5_400_000.0, "90 min"),
            (Unit::Percent, 99.95, "99.95 %"),
            (Unit::Percent, 100.0, "100 %"),
            (Unit::Bytes, 1536.0, "1.5 KiB"),
            (Unit::Bytes, -1536.0, "-1.5 KiB"),
            (Unit::Count, 0.0, "0"),
            (Unit::Count, 1_204_000.0, "1.2 M"),
            (Unit::Count, 1e15, "1000 T"),
            (Unit::Other("requests/s".to_owned()), 2.0, "2 requests/s"),
            (Unit::Count, 1e-300, "0"),
        ] {
            assert_eq!(unit.say(value), text);
        }
    }
}
