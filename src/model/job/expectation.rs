//! What the count of a resource type has to be.

use std::fmt;

/// An expectation as it is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Expectation {
    /// Not further than so many hundredths from the count of the last accepted run.
    WithinOfLast(f64),
    /// Both included.
    Between(u64, u64),
}

/// What an expectation says of a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    AsExpected,
    Unexpected,
    /// There is no accepted run to compare with.
    NoComparison,
}

impl Verdict {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::AsExpected => "as_expected",
            Verdict::Unexpected => "unexpected",
            Verdict::NoComparison => "no_comparison",
        }
    }
}

const HOW: &str = "write within 10% of last, >= 1000, <= 5000, 100..200, or a number";

impl Expectation {
    /// Reads `within 10% of last`, `>= 1000`, `< 10`, `100..200` or `1000`.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(text: &str) -> Result<Expectation, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        if words.first() == Some(&"within") {
            let [_, share, "of", "last"] = words[..] else { return Err(HOW.to_owned()) };
            let share = share.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
            return match share {
                Some(share) if share.is_finite() && share >= 0.0 => {
                    Ok(Expectation::WithinOfLast(share))
                }
                _ => Err("write the share as a percentage, such as within 10% of last".to_owned()),
            };
        }
        let text = words.concat();
        if let Some((low, high)) = text.split_once("..") {
            return match (number(low)?, number(high)?) {
                (low, high) if low <= high => Ok(Expectation::Between(low, high)),
                _ => Err("the first number of a range is the smaller one".to_owned()),
            };
        }
        for (sign, below, above) in
            [(">=", false, true), ("<=", true, false), ("==", false, false), ("=", false, false)]
        {
            if let Some(rest) = text.strip_prefix(sign) {
                let number = number(rest)?;
                let low = if below { 0 } else { number };
                let high = if above { u64::MAX } else { number };
                return Ok(Expectation::Between(low, high));
            }
        }
        if let Some(rest) = text.strip_prefix('>') {
            return Ok(Expectation::Between(number(rest)?.saturating_add(1), u64::MAX));
        }
        if let Some(rest) = text.strip_prefix('<') {
            return match number(rest)?.checked_sub(1) {
                Some(high) => Ok(Expectation::Between(0, high)),
                None => Err("no count is below 0".to_owned()),
            };
        }
        number(&text).map(|number| Expectation::Between(number, number))
    }

    /// Holds a count against it.
    #[must_use]
    pub fn judge(&self, count: u64, last: Option<u64>) -> Verdict {
        let holds = match (self, last) {
            (Expectation::Between(low, high), _) => (*low..=*high).contains(&count),
            (Expectation::WithinOfLast(_), None) => return Verdict::NoComparison,
            (Expectation::WithinOfLast(share), Some(last)) => {
                count.abs_diff(last) as f64 * 100.0 <= share * last as f64
            }
        };
        if holds { Verdict::AsExpected } else { Verdict::Unexpected }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expectation::WithinOfLast(share) => write!(f, "within {share}% of last"),
            Expectation::Between(low, u64::MAX) => write!(f, ">= {low}"),
            Expectation::Between(low, high) if low == high => write!(f, "{low}"),
            Expectation::Between(0, high) => write!(f, "<= {high}"),
            Expectation::Between(low, high) => write!(f, "{low}..{high}"),
        }
    }
}

fn number(text: &str) -> Result<u64, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().map_err(|_| HOW.to_owned()) } else { Err(HOW.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expectations_are_read_and_shown() {
        for (text, shown) in [
            ("within 10% of last", "within 10% of last"),
            ("within  2.5%  of last", "within 2.5% of last"),
            (">= 1000", ">= 1000"),
            (">=1000", ">= 1000"),
            ("> 9", ">= 10"),
            ("<= 7", "<= 7"),
            ("< 7", "<= 6"),
            ("100..200", "100..200"),
            ("100 .. 200", "100..200"),
            ("0", "0"),
            ("= 5", "5"),
        ] {
            assert_eq!(Expectation::parse(text).unwrap().to_string(), shown, "{text}");
        }
        for text in [
            "",
            "many",
            "within 10 of last",
            "within 10%",
            "within -1% of last",
            "within NaN% of last",
            "within 10% of first",
            ">=",
            ">= -1",
            "< 0",
            "200..100",
            "1..",
            "..5",
            "1e3",
            "+5",
            "99999999999999999999",
        ] {
            assert!(Expectation::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn counts_are_held_against_them() {
        use Verdict::{AsExpected, NoComparison, Unexpected};
        for (text, count, last, verdict) in [
            ("within 10% of last", 90, Some(100), AsExpected),
            ("within 10% of last", 110, Some(100), AsExpected),
            ("within 10% of last", 89, Some(100), Unexpected),
            ("within 10% of last", 111, Some(100), Unexpected),
            ("within 10% of last", 5, None, NoComparison),
            ("within 10% of last", 0, Some(0), AsExpected),
            ("within 10% of last", 1, Some(0), Unexpected),
            ("within 0% of last", 7, Some(7), AsExpected),
            (">= 1000", 1000, None, AsExpected),
            (">= 1000", 999, Some(1), Unexpected),
            ("100..200", 201, None, Unexpected),
            ("100..200", 200, None, AsExpected),
            ("< 1", 0, None, AsExpected),
        ] {
            let found = Expectation::parse(text).unwrap().judge(count, last);
            assert_eq!(found, verdict, "{text}: {count}, last {last:?}");
        }
    }
}
