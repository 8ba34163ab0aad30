//! A slope that single outliers do not move.

/// The median of the slopes between all pairs of points `(x, y)` (Theil 1950, Sen 1968); 0 without a pair.
pub(super) fn theil_sen(points: &[(f64, f64)]) -> f64 {
    let mut slopes = Vec::with_capacity(points.len() * points.len() / 2);
    for (index, (x, y)) in points.iter().enumerate() {
        let later = points[index + 1..].iter().filter(|later| later.0 > *x);
        slopes.extend(later.map(|(later_x, later_y)| (later_y - y) / (later_x - x)));
    }
    median(slopes)
}

/// The middle of `values`; 0 without any.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outlier_does_not_move_the_slope_of_a_line() {
        let mut points: Vec<_> = (0..20)
            .map(|x| (f64::from(x), 3.0 - 2.0 * f64::from(x)))
            .collect();
        assert_eq!(theil_sen(&points), -2.0);
        points[7].1 = 1e6;
        assert_eq!(theil_sen(&points), -2.0);
        assert_eq!(theil_sen(&points[..1]), 0.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
