//! Percentages as they are written, without binary fractions.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// From 0 to 100 %, to eight decimal places: 99.95 is exactly that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u64);

/// One percent.
const ONE: u64 = 100_000_000;
const PLACES: usize = 8;
const ALL: u64 = 100 * ONE;

impl Percent {
    /// A whole number of percent; above 100 it is 100.
    #[must_use]
    pub const fn whole(percent: u64) -> Percent {
        if percent >= 100 { Percent(ALL) } else { Percent(percent * ONE) }
    }

    /// Such as `99.95%`.
    ///
    /// # Errors
    /// A sentence that says how to write it.
    pub fn parse(text: &str) -> Result<Percent, String> {
        let wrong = || {
            format!(
                "\"{}\" is no percentage; write it from 0% to 100%, such as 99.95%",
                text.escape_debug()
            )
        };
        let number = text.trim().strip_suffix('%').ok_or_else(wrong)?.trim();
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !is_number(whole) || !is_number(part) {
            return Err(wrong());
        }
        let part = part.trim_end_matches('0');
        if part.len() > PLACES {
            return Err(format!(
                "\"{}\" has more than {PLACES} decimal places",
                text.escape_debug()
            ));
        }
        let part: u64 = format!("{part:0<PLACES$}").parse().map_err(|_| wrong())?;
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        let all = whole.checked_mul(ONE).and_then(|whole| whole.checked_add(part));
        all.filter(|all| *all <= ALL).map(Percent).ok_or_else(wrong)
    }

    /// As a fraction from 0 to 1, for figures that are shown.
    #[must_use]
    pub fn share(self) -> f64 {
        self.0 as f64 / ALL as f64
    }

    /// What is missing to 100 %.
    #[must_use]
    pub fn rest(self) -> Percent {
        Percent(ALL - self.0)
    }

    /// This share of an amount, rounded down.
    #[must_use]
    pub fn of(self, amount: i64) -> i64 {
        let part = i128::from(amount) * i128::from(self.0) / i128::from(ALL);
        i64::try_from(part).unwrap_or(amount)
    }

    /// Whether it is more than `part ÷ whole`, in whole numbers.
    #[must_use]
    pub fn is_above(self, part: i64, whole: i64) -> bool {
        i128::from(part) * i128::from(ALL) < i128::from(self.0) * i128::from(whole)
    }
}

/// As it would be written: `99.95%`.
impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = format!("{:08}", self.0 % ONE);
        match part.trim_end_matches('0') {
            "" => f.pad(&format!("{}%", self.0 / ONE)),
            part => f.pad(&format!("{}.{part}%", self.0 / ONE)),
        }
    }
}

/// As a number of percent. Eleven digits at most, so that what is printed is the decimal itself.
impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0 as f64 / ONE as f64)
    }
}

/// Such a number, to the nearest of the decimals that there are.
impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Percent, D::Error> {
        let percent = f64::deserialize(deserializer)?;
        if !(0.0..=100.0).contains(&percent) {
            return Err(serde::de::Error::custom("a percentage is from 0 to 100"));
        }
        // It is within range.
        let parts = (percent * ONE as f64).round() as u64;
        Ok(Percent(parts))
    }
}

impl JsonSchema for Percent {
    fn schema_name() -> Cow<'static, str> {
        "Percent".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "number", "minimum": 0, "maximum": 100})
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percentages_are_the_decimals_that_are_written() {
        for (text, shown, json) in [
            ("99.9%", "99.9%", "99.9"),
            ("99.95 %", "99.95%", "99.95"),
            ("99.99999999%", "99.99999999%", "99.99999999"),
            ("100.000000000%", "100%", "100.0"),
            (" 0%", "0%", "0.0"),
            ("0.00000001%", "0.00000001%", "1e-8"),
        ] {
            let percent = Percent::parse(text).unwrap();
            assert_eq!(percent.to_string(), shown);
            assert_eq!(serde_json::to_string(&percent).unwrap(), json);
            assert_eq!(serde_json::from_str::<Percent>(json).unwrap(), percent);
        }
        for text in ["", "%", "99.9", "99,9%", "-1%", "100.1%", "NaN%", ".5%", "5.%", "1e1%"] {
            assert!(Percent::parse(text).unwrap_err().contains("no percentage"), "{text}");
        }
        assert!(serde_json::from_str::<Percent>("100.1").is_err());
        assert!(Percent::parse("99.123456789%").unwrap_err().contains("decimal places"));
        assert!(Percent::parse("99999999999999999999%").is_err());
    }

    #[test]
    fn the_edge_itself_is_kept() {
        let objective = Percent::parse("99.9%").unwrap();
        // 0.999 as a binary fraction is below the decimal, and 1.0 - 0.999 is above 0.001.
        assert!(!objective.is_above(999, 1000));
        assert!(objective.is_above(998_999_999, 999_999_999 + 1));
        assert_eq!(objective.rest().of(1000), 1);
        assert_eq!(objective.rest().of(999), 0);
    }

    proptest! {
        #[test]
        fn what_json_says_is_the_decimal_itself(parts in 0_u64..=ALL) {
            let json = serde_json::to_string(&Percent(parts)).unwrap();
            prop_assert_eq!(serde_json::from_str::<Percent>(&json).unwrap(), Percent(parts));
        }

        #[test]
        fn more_is_spent_than_the_budget_exactly_when_the_share_is_below(
            parts in 0_u64..=ALL, whole in 1_i64..i64::MAX, spent in 0.0..0.2_f64,
        ) {
            let objective = Percent(parts);
            let budget = objective.rest().of(whole);
            let near = [budget, budget.saturating_add(1), (whole as f64 * spent) as i64];
            for spent in near.into_iter().filter(|spent| *spent <= whole) {
                prop_assert_eq!(objective.is_above(whole - spent, whole), spent > budget);
            }
        }
    }
}
