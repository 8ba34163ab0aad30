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

    /// One of `choices`, written as a string; `default` if it is not given.
    ///
    /// # Errors
    /// [`EnvironmentError::InvalidOption`] if it is none of them.
    pub fn choice<T: Copy>(
        &self,
        option: &str,
        choices: &[(&str, T)],
        default: T,
    ) -> Result<T, EnvironmentError> {
        let Some(value) = self.table.get(option) else {
            return Ok(default);
        };
        let chosen = choices
            .iter()
            .find(|(name, _)| value.as_str() == Some(name));
        chosen.map(|&(_, choice)| choice).ok_or_else(|| {
            let quoted: Vec<String> = choices
                .iter()
                .map(|(name, _)| format!("{name:?}"))
                .collect();
            let quoted: Vec<&str> = quoted.iter().map(String::as_str).collect();
            self.invalid(option, value, format!("one of {}", listed(&quoted)))
        })
    }

    /// Yes or no; no if it is not given.
    ///
    /// # Errors
    /// [`EnvironmentError::InvalidOption`] if it is neither.
    pub fn flag(&self, option: &str) -> Result<bool, EnvironmentError> {
        let Some(value) = self.table.get(option) else {
            return Ok(false);
        };
        value
            .as_bool()
            .ok_or_else(|| self.invalid(option, value, "true or false".to_owned()))
    }

    /// Extents of the axes of an array of at most `elements_max` elements; `default` if it is not given.
    ///
    /// # Errors
    /// [`EnvironmentError::InvalidOption`] if it is not a list of integers from 1, or their product is too large.
    pub fn shape(
        &self,
        option: &str,
        default: &[usize],
        elements_max: usize,
    ) -> Result<Vec<usize>, EnvironmentError> {
        let Some(value) = self.table.get(option) else {
            return Ok(default.to_vec());
        };
        let extent = |value: &toml::Value| value.as_integer().and_then(|n| usize::try_from(n).ok());
        let extents: Option<Vec<usize>> = value
            .as_array()
            .and_then(|axes| axes.iter().map(extent).collect());
        let fits = |axes: &Vec<usize>| {
            let product = axes.iter().try_fold(1_usize, |all, &n| all.checked_mul(n));
            !axes.is_empty() && product.is_some_and(|n| (1..=elements_max).contains(&n))
        };
        extents.filter(fits).ok_or_else(|| {
            let limit =
                format!("a list of integers from 1 with a product of at most {elements_max}");
            self.invalid(option, value, limit)
        })
    }

    /// Whether it is given at all.
    #[must_use]
    pub fn has(&self, option: &str) -> bool {
        self.table.contains_key(option)
    }

    /// That an option's value is not `limit`, for limits that the kinds of options above cannot express.
    pub(crate) fn invalid(
        &self,
        option: &str,
        value: &toml::Value,
        limit: String,
    ) -> EnvironmentError {
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

        let given = table("a = \"two\"\nb = true\nc = [4, 84, 84]");
        let options = Options::new("Test", &given, &["a", "b", "c", "d"]).unwrap();
        let names = [("one", 1), ("two", 2)];
        assert_eq!(options.choice("a", &names, 1), Ok(2));
        assert_eq!(options.choice("d", &names, 1), Ok(1));
        assert_eq!(
            (options.flag("b"), options.flag("d")),
            (Ok(true), Ok(false))
        );
        assert_eq!(options.shape("c", &[4], 28_224), Ok(vec![4, 84, 84]));
        assert_eq!(options.shape("d", &[4], 28_224), Ok(vec![4]));
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
        assert!(options.flag("a").is_err());
        let choice = options.choice("b", &[("one", 1), ("three", 3)], 1);
        assert_eq!(
            choice.unwrap_err().to_string(),
            "option `b` of environment `Test` is \"two\", but must be one of \"one\" and \"three\""
        );
        for shape in ["[]", "[0, 3]", "[3, 4]", "[-1, -1]", "[1.5]", "7"] {
            let given = table(&format!("a = {shape}"));
            let options = Options::new("Test", &given, &["a"]).unwrap();
            assert!(options.shape("a", &[1], 11).is_err(), "{shape}");
        }
        assert_eq!(
            Options::new("Test", &given, &["a", "b"])
                .unwrap_err()
                .to_string(),
            "environment `Test` has no option `c`; it has a and b"
        );
    }
}
