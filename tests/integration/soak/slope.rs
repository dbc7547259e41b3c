//! Whether a series of measurements grows, told by ranks: a burst or a collected page moves it little.

use std::time::Duration;

/// The growth of a series in units a second, with the ends of its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Slope {
    pub(super) low: f64,
    pub(super) estimate: f64,
    pub(super) high: f64,
}

/// The quantile of the normal distribution for 95 % on both sides.
const Z: f64 = 1.96;

/// The median of all pairwise slopes (Theil and Sen), and the interval that Kendall's variance gives it
/// (P. K. Sen, Estimates of the regression coefficient based on Kendall's tau, 1968).
pub(super) fn slope(points: &[(Duration, f64)]) -> Slope {
    let mut slopes = Vec::new();
    for (index, (at, value)) in points.iter().enumerate() {
        let later = &points[index + 1..];
        slopes.extend(later.iter().map(|(then, other)| (other - value) / (*then - *at).as_secs_f64()));
    }
    slopes.sort_by(f64::total_cmp);
    let (count, pairs) = (points.len() as f64, slopes.len() as f64);
    let spread = Z * (count * (count - 1.0) * (2.0 * count + 5.0) / 18.0).sqrt();
    let rank = |rank: f64| slopes[(rank.max(0.0) as usize).min(slopes.len() - 1)];
    Slope {
        low: rank(((pairs - spread) / 2.0).floor()),
        estimate: rank((pairs / 2.0).floor()),
        high: rank(f64::midpoint(pairs, spread).ceil()),
    }
}

/// The median of each span of `width`, at the middle of the span.
pub(super) fn medians(points: &[(Duration, f64)], width: Duration) -> Vec<(Duration, f64)> {
    let span = |at: Duration| at.as_nanos() / width.as_nanos();
    points
        .chunk_by(|(one, _), (other, _)| span(*one) == span(*other))
        .map(|points| {
            let mut values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
            values.sort_by(f64::total_cmp);
            (points[points.len() / 2].0, values[values.len() / 2])
        })
        .collect()
}

/// A value a second, from a function of the second.
fn series(value: impl FnMut(u64) -> f64) -> Vec<(Duration, f64)> {
    (0..120).map(Duration::from_secs).zip((0..120).map(value)).collect()
}

#[test]
fn what_grows_is_told_from_what_only_trembles() {
    let tremble = |second: u64| ((second * 7_919) % 13) as f64;
    let level = slope(&series(|second| 100.0 + tremble(second)));
    assert!(level.low <= 0.0 && level.high >= 0.0, "{level:?}");
    let growing = slope(&series(|second| 100.0 + tremble(second) + second as f64 * 0.5));
    assert!(growing.low > 0.4 && growing.high < 0.6, "{growing:?}");
    assert!((growing.estimate - 0.5).abs() < 0.05, "{growing:?}");
}

#[test]
fn a_burst_is_no_slope() {
    let burst = slope(&series(|second| if (60..80).contains(&second) { 900.0 } else { 100.0 }));
    assert_eq!(burst.estimate, 0.0);
}

#[test]
fn a_span_is_worth_its_median() {
    let spans =
        medians(&series(|second| if second % 10 == 3 { 1_000.0 } else { 5.0 }), Duration::from_secs(10));
    assert_eq!(spans.len(), 12);
    assert!(spans.iter().all(|(_, value)| *value == 5.0));
}
