//! Ranges and ticks that people expect.
//!
//! Does: round a range to 1, 2 or 5 times a power of ten, and place ticks in it.
//! Does not: draw.
//! Invariants: coordinates of a logarithmic axis are decimal logarithms, so that the canvas is
//! always linear.
//! Apart because every figure needs it.

/// One axis of a chart.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it measures, with the unit.
    pub label: String,
    /// First coordinate.
    pub low: f64,
    /// Last coordinate.
    pub high: f64,
    /// Coordinates with a text.
    pub ticks: Vec<(f64, String)>,
    /// Coordinates of thinner lines between them.
    pub minor: Vec<f64>,
}

/// A logarithmic axis around positive values; nothing without one.
#[must_use]
pub fn logarithmic(
    label: &str,
    values: impl IntoIterator<Item = f64>,
    show: impl Fn(f64) -> String,
) -> Option<Axis> {
    let (low, high) = extent(values.into_iter().filter(|value| *value > 0.0))?;
    let (low, high) = (step_below(low), step_above(high));
    let (low, high) = if low < high { (low, high) } else { (low / 2.0, high * 2.0) };
    let decades = (high / low).log10();
    let first = low.log10().floor() as i32;
    let last = high.log10().ceil() as i32;
    let inside = |value: f64| value >= low * 0.999 && value <= high * 1.001;
    let (mut ticks, mut minor) = (Vec::new(), Vec::new());
    for power in first..=last {
        for digit in 1..=9_i32 {
            let value = f64::from(digit) * 10_f64.powi(power);
            let is_tick = digit == 1 || decades < 3.0 && matches!(digit, 2 | 5);
            match (inside(value), is_tick) {
                (true, true) => ticks.push((value.log10(), show(value))),
                (true, false) => minor.push(value.log10()),
                (false, _) => {}
            }
        }
    }
    Some(Axis { label: label.to_owned(), low: low.log10(), high: high.log10(), ticks, minor })
}

/// A linear axis from zero to the largest value; nothing without a positive one.
#[must_use]
pub fn linear(
    label: &str,
    values: impl IntoIterator<Item = f64>,
    show: impl Fn(f64) -> String,
) -> Option<Axis> {
    let (_, high) = extent(values)?;
    if high <= 0.0 {
        return None;
    }
    let rough = high / 6.0;
    let power = 10_f64.powi(rough.log10().floor() as i32);
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|digit| digit * power)
        .find(|step| *step >= rough * 0.999)
        .unwrap_or(power * 10.0);
    let steps = (high / step).ceil() as usize;
    let ticks = (0..=steps).map(|n| n as f64 * step).map(|value| (value, show(value))).collect();
    Some(Axis {
        label: label.to_owned(),
        low: 0.0,
        high: steps as f64 * step,
        ticks,
        minor: Vec::new(),
    })
}

fn extent(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    values.into_iter().filter(|value| value.is_finite()).fold(None, |seen, value| match seen {
        None => Some((value, value)),
        Some((low, high)) => Some((f64::min(low, value), f64::max(high, value))),
    })
}

fn step_below(value: f64) -> f64 {
    let power = 10_f64.powi(value.log10().floor() as i32);
    [5.0, 2.0, 1.0].map(|digit| digit * power).into_iter().find(|s| *s <= value).unwrap_or(power)
}

fn step_above(value: f64) -> f64 {
    let power = 10_f64.powi(value.log10().floor() as i32);
    [1.0, 2.0, 5.0, 10.0]
        .map(|digit| digit * power)
        .into_iter()
        .find(|step| *step >= value * 0.999)
        .unwrap_or(power * 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logarithmic_axis_ends_on_round_numbers() {
        let axis = logarithmic("x", [34.0, 4_100.0], |v| format!("{v}")).expect("values");
        assert!((axis.low - 20_f64.log10()).abs() < 1e-9);
        assert!((axis.high - 5_000_f64.log10()).abs() < 1e-9);
        let texts: Vec<&str> = axis.ticks.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["20", "50", "100", "200", "500", "1000", "2000", "5000"]);
    }

    #[test]
    fn one_value_still_has_room_around_it_and_none_has_no_axis() {
        let axis = logarithmic("x", [10.0], |v| format!("{v}")).expect("a value");
        assert!(axis.low < 1.0 && axis.high > 1.0);
        assert!(logarithmic("x", [0.0, -1.0, f64::NAN], |v| format!("{v}")).is_none());
        assert!(linear("x", [0.0], |v| format!("{v}")).is_none());
    }

    #[test]
    fn a_linear_axis_begins_at_nothing() {
        let axis = linear("MB/s", [237.0, 579.0], |v| format!("{v}")).expect("values");
        assert!(axis.low == 0.0 && (axis.high - 600.0).abs() < 1e-9);
        assert_eq!(axis.ticks.len(), 7);
    }
}
