//! Numbers and bars for narrow places.

/// Eighths of a cell, from none to all.
const EIGHTHS: [&str; 9] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"];

/// A bar of `share` (0 to 1) of `width` cells; empty for what is no number.
pub(super) fn bar(share: f64, width: usize) -> String {
    let share = if share.is_finite() {
        share.clamp(0.0, 1.0)
    } else {
        0.0
    };
    let eighths = (share * width as f64 * 8.0).round() as usize;
    let mut text = "█".repeat(eighths / 8);
    text.push_str(EIGHTHS[eighths % 8]);
    text
}

/// A count in at most five characters, such as "168 k".
pub(super) fn count(number: f64) -> String {
    let scaled = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")];
    if !number.is_finite() {
        return "-".to_owned();
    }
    for (from, unit) in scaled {
        if number.abs() >= from {
            let number = number / if unit == "k" { 1e3 } else { from };
            let places = usize::from(number.abs() < 9.95);
            return format!("{number:.places$} {unit}");
        }
    }
    format!("{number:.0}")
}

/// A number with one decimal place while it is small.
pub(super) fn decimal(number: f64) -> String {
    if number.is_finite() && number.abs() < 9_999.5 {
        format!("{number:.1}")
    } else {
        count(number)
    }
}

/// A duration as hours, minutes and seconds.
pub(super) fn clock(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "-".to_owned();
    }
    let seconds = seconds as u64;
    format!(
        "{}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// `text` in parts of at most `width` characters, those after the first indented.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    const INDENT: &str = "  ";
    let mut parts = vec![String::new()];
    let mut room = width;
    for c in text.chars().filter(|c| !c.is_control()) {
        if room == 0 && width > INDENT.len() {
            parts.push(INDENT.to_owned());
            room = width - INDENT.len();
        }
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
        room = room.saturating_sub(1);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_and_what_is_no_number_is_a_dash() {
        for (number, text) in [
            (0.0, "0"),
            (9_999.0, "9999"),
            (10_000.0, "10 k"),
            (167_936.0, "168 k"),
            (1.25e6, "1.2 M"),
            (-2.0e6, "-2.0 M"),
            (3.0e13, "30 T"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(count(number), text);
        }
        assert_eq!(
            (decimal(0.25), decimal(2e6)),
            ("0.2".into(), "2.0 M".into())
        );
        assert_eq!(
            (clock(3_725.9), clock(f64::NAN)),
            ("1:02:05".into(), "-".into())
        );
    }

    #[test]
    fn long_lines_go_on_below() {
        assert_eq!(wrapped("abcdefg", 4), ["abcd", "  ef", "  g"]);
        assert_eq!(wrapped("abcd", 4), ["abcd"]);
        assert_eq!(
            (wrapped("", 4), wrapped("ab", 0)),
            (vec![String::new()], vec!["ab".to_owned()])
        );
    }

    #[test]
    fn bars_never_leave_their_place() {
        assert_eq!(bar(0.5, 3), "█▌");
        assert_eq!(bar(7.0, 3), "███");
        assert_eq!((bar(-1.0, 3), bar(f64::NAN, 3)), ("".into(), "".into()));
    }
}
