//! Options of an environment, read from TOML: unknown names and values out of range are refused in one sentence.

use std::ops::RangeInclusive;

use super::{EnvironmentError, listed};

/// The options given to one environment; every name in it is known.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    environment: &'a str,
    table: &'a toml::Table,
}

impl<'a> Options<'a> {
    /// The options in `table` for `environment`, which has those named in `known`.
    ///
    /// # Errors
    /// [`EnvironmentError::UnknownOption`] for the first name that is not in `known`.
    pub fn new(
        environment: &'a str,
        table: &'a toml::Table,
        known: &[&str],
    ) -> Result<Self, EnvironmentError> {
        match table.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(Self { environment, table }),
            Some(option) => Err(EnvironmentError::UnknownOption {
                environment: environment.to_owned(),
                option: option.clone(),
                known: listed(known),
            }),
        }
    }

    /// A whole number within `range`; `default` if it is not given.
    ///
    /// # Errors
    /// [`EnvironmentError::InvalidOption`] if it is not an integer or lies outside.
    pub fn integer(
        &self,
        option: &str,
        default: u32,
        range: RangeInclusive<u32>,
    ) -> Result<u32, EnvironmentError> {
        let Some(value) = self.table.get(option) else {
            return Ok(default);
        };
        let number = value.as_integer().and_then(|n| u32::try_from(n).ok());
        number.filter(|n| range.contains(n)).ok_or_else(|| {
            let limit = format!("an integer from {} to {}", range.start(), range.end());
            self.invalid(option, value, limit)
        })
    }

    /// A number within `range`, written with or without a decimal point; `default` if it is not given.
    ///
    /// # Errors
    /// [`EnvironmentError::InvalidOption`] if it is not a number or lies outside.
    pub fn float(
        &self,
        option: &str,
        default: f32,
        range: RangeInclusive<f32>,
    ) -> Result<f32, EnvironmentError> {
        let Some(value) = self.table.get(option) else {
            return Ok(default);
        };
        // The nearest f32 is what an option of 32 bits means.
        let number = match value {
            toml::Value::Float(number) => Some(*number as f32),
            toml::Value::Integer(number) => Some(*number as f32),
            _ => None,
        };
        number.filter(|n| range.contains(n)).ok_or_else(|| {
            let limit = format!("a number from {} to {}", range.start(), range.end());
            self.invalid(option, value, limit)
        })
    }

    fn invalid(&self, option: &str, value: &toml::Value, limit: String) -> EnvironmentError {
        EnvironmentError::InvalidOption {
            environment: self.environment.to_owned(),
            option: option.to_owned(),
            value: value.to_string(),
            limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> toml::Table {
        text.parse().unwrap()
    }

    #[test]
    fn values_within_limits_are_taken() {
        let given = table("a = 3\nb = 2\nc = -0.5");
        let options = Options::new("Test", &given, &["a", "b", "c", "d"]).unwrap();
        assert_eq!(options.integer("a", 1, 0..=3), Ok(3));
        assert_eq!(options.float("b", 1.0, 0.0..=3.0), Ok(2.0));
        assert_eq!(options.float("c", 1.0, -1.0..=3.0), Ok(-0.5));
        assert_eq!(options.integer("d", 7, 0..=9), Ok(7));
    }

    #[test]
    fn faults_are_told_in_one_sentence() {
        let given = table("a = -3\nb = \"two\"\nc = nan");
        let options = Options::new("Test", &given, &["a", "b", "c"]).unwrap();
        assert_eq!(
            options.integer("a", 1, 0..=3).unwrap_err().to_string(),
            "option `a` of environment `Test` is -3, but must be an integer from 0 to 3"
        );
        assert_eq!(
            options.float("b", 1.0, 0.0..=3.0).unwrap_err().to_string(),
            "option `b` of environment `Test` is \"two\", but must be a number from 0 to 3"
        );
        assert!(options.float("c", 1.0, 0.0..=3.0).is_err());
        assert!(options.integer("b", 1, 0..=3).is_err());
        assert_eq!(
            Options::new("Test", &given, &["a", "b"])
                .unwrap_err()
                .to_string(),
            "environment `Test` has no option `c`; it has a and b"
        );
    }
}
