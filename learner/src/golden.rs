//! Test helper: reads the golden vectors (`tests/golden/`, see the README there).
//!
//! `SPRINGBOK_GOLDEN_DIR` names another directory with the same schema.
#![allow(
    clippy::print_stdout,
    reason = "each golden test says how many cases it compared"
)]

use std::path::PathBuf;

use serde_json::Value;

/// The directory of the golden files.
pub(crate) fn directory() -> PathBuf {
    match std::env::var_os("SPRINGBOK_GOLDEN_DIR") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden"),
    }
}

/// All cases of `FILE.json`. Panics when the file is missing, has another schema, or has no case.
pub(crate) fn cases(file: &str) -> Vec<Value> {
    let path = directory().join(format!("{file}.json"));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("golden file {}: {error}", path.display()));
    let root: Value = serde_json::from_str(&text).expect("golden file is JSON");
    assert_eq!(
        root["schema"],
        format!("{file}/1"),
        "schema of {}",
        path.display()
    );
    let cases = root["cases"].as_array().expect("cases is a list").clone();
    assert!(!cases.is_empty(), "{} holds no case", path.display());
    cases
}

/// Runs `check` on each case of `FILE.json` for which `wanted` holds; prints how many ran, fails on none.
pub(crate) fn each_case(
    file: &str,
    wanted: impl Fn(&Value) -> bool,
    mut check: impl FnMut(&str, &Value),
) {
    let mut compared = 0_usize;
    for case in cases(file).iter().filter(|case| wanted(case)) {
        check(&name(case), case);
        compared += 1;
    }
    println!("golden {file}: compared {compared} cases");
    assert!(compared > 0, "golden {file}: no case compared");
}

/// The case's name.
pub(crate) fn name(case: &Value) -> String {
    case["name"].as_str().expect("case has a name").to_owned()
}

/// Nested lists of numbers, flattened row by row; a single number gives one entry.
pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    let mut flat = Vec::new();
    flatten(value, &mut |leaf| {
        flat.push(
            leaf.as_f64()
                .unwrap_or_else(|| panic!("{leaf} is not a number")),
        );
    });
    flat
}

/// Nested lists of numbers as f32, flattened (golden inputs are exact in f32).
pub(crate) fn numbers_f32(value: &Value) -> Vec<f32> {
    numbers(value).into_iter().map(|x| x as f32).collect()
}

/// Nested lists of flags, flattened.
pub(crate) fn flags(value: &Value) -> Vec<bool> {
    let mut flat = Vec::new();
    flatten(value, &mut |leaf| {
        flat.push(
            leaf.as_bool()
                .unwrap_or_else(|| panic!("{leaf} is not a flag")),
        );
    });
    flat
}

/// Nested lists of non-negative integers (actions, lags, indices), flattened.
pub(crate) fn integers(value: &Value) -> Vec<u64> {
    let mut flat = Vec::new();
    flatten(value, &mut |leaf| {
        flat.push(
            leaf.as_u64()
                .unwrap_or_else(|| panic!("{leaf} is not an index")),
        );
    });
    flat
}

/// One number; `null` is `None` (in `config`: no cap).
pub(crate) fn optional(value: &Value) -> Option<f64> {
    match value {
        Value::Null => None,
        other => Some(number(other)),
    }
}

/// One number.
pub(crate) fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is not a number"))
}

/// One non-negative integer.
pub(crate) fn integer(value: &Value) -> usize {
    let wide = value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is not an integer"));
    usize::try_from(wide).expect("fits usize")
}

/// Lengths of the nested lists, outermost first, e.g. `[T, B, A]`.
pub(crate) fn shape(value: &Value) -> Vec<usize> {
    let mut lengths = Vec::new();
    let mut inner = value;
    while let Some(list) = inner.as_array() {
        lengths.push(list.len());
        match list.first() {
            Some(first) => inner = first,
            None => break,
        }
    }
    lengths
}

/// Fails unless `|got - expected| <= tol * max(1, max|expected|)` at every index; NaN always fails.
pub(crate) fn assert_close(name: &str, got: &[f64], expected: &[f64], tol: f64) {
    assert_eq!(got.len(), expected.len(), "{name}: length");
    let scale = expected.iter().fold(1.0_f64, |m, x| m.max(x.abs()));
    for (index, (g, e)) in got.iter().zip(expected).enumerate() {
        let error = (g - e).abs();
        assert!(
            error <= tol * scale,
            "{name}[{index}]: got {g}, expected {e}, error {error:e}, allowed {:e}",
            tol * scale
        );
    }
}

/// [`assert_close`] on f32 results.
pub(crate) fn assert_close_f32(name: &str, got: &[f32], expected: &[f64], tol: f64) {
    let wide: Vec<f64> = got.iter().map(|x| f64::from(*x)).collect();
    assert_close(name, &wide, expected, tol);
}

fn flatten(value: &Value, push: &mut impl FnMut(&Value)) {
    match value.as_array() {
        Some(list) => list.iter().for_each(|inner| flatten(inner, push)),
        None => push(value),
    }
}
