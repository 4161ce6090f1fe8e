//! Figures as people read them.

use crate::plan::Metric;

/// What stands where nothing was measured.
pub const ABSENT: &str = "–";

/// A metric's value with its unit.
pub fn metric(metric: Metric, value: f64) -> String {
    match metric {
        _ if metric.is_time() => seconds(value),
        Metric::Goodput | Metric::OfCapacity => percent(value),
        Metric::GoodputPerSecond => format!("{}/s", count(value)),
        _ => count(value),
    }
}

/// `850 µs`, `4.2 ms`, `412 ms`, `2.31 s`, `124 s`.
pub fn seconds(value: f64) -> String {
    match value {
        _ if value < 0.001 => format!("{:.0} µs", value * 1e6),
        _ if value < 0.01 => format!("{:.1} ms", value * 1e3),
        _ if value < 1.0 => format!("{:.0} ms", value * 1e3),
        _ if value < 100.0 => format!("{value:.2} s"),
        _ => format!("{value:.0} s"),
    }
}

/// `98.2 %`; rounded down, so that 100 % means all.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let decimals = match percent {
        _ if percent == 0.0 || (percent - 100.0).abs() < 1e-9 => return format!("{percent:.0} %"),
        _ if percent < 1.0 => 2,
        _ => 1,
    };
    let unit = 10f64.powi(decimals);
    let floor = (percent * unit + 1e-6).floor() / unit;
    format!("{floor:.decimals$} %", decimals = usize::try_from(decimals).unwrap_or(1))
}

/// `12,345`; with one decimal where it is no whole number and small.
pub fn count(value: f64) -> String {
    if value.fract().abs() > 1e-9 && value.abs() < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if value < 0.0 { format!("-{grouped}") } else { grouped }
}

/// The same, of a counter.
pub fn total(value: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "no counter here comes near 2^53")]
    count(value as f64)
}

/// Seconds of that many microseconds.
pub fn of_micros(micros: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "2^53 µs are 285 years")]
    let micros = micros as f64;
    micros / 1e6
}

/// At most so many characters; what is cut off is marked.
pub fn clipped(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_about_three_digits() {
        let read: Vec<_> = [0.000_85, 0.0042, 0.412, 2.305, 124.4].into_iter().map(seconds).collect();
        assert_eq!(read, ["850 µs", "4.2 ms", "412 ms", "2.31 s", "124 s"]);
    }

    #[test]
    fn only_all_is_a_hundred_percent() {
        let read: Vec<_> = [1.0, 0.999_99, 0.982, 0.0004, 0.0, 1.25].into_iter().map(percent).collect();
        assert_eq!(read, ["100 %", "99.9 %", "98.2 %", "0.04 %", "0 %", "125.0 %"]);
    }

    #[test]
    fn counts_are_grouped() {
        let read: Vec<_> = [0.0, 999.0, 1000.0, 1_234_567.0, 10.5, 1000.5].into_iter().map(count).collect();
        assert_eq!(read, ["0", "999", "1,000", "1,234,567", "10.5", "1,000"]);
    }

    #[test]
    fn long_text_is_cut_by_characters() {
        assert_eq!(clipped("größer", 6), "größer");
        assert_eq!(clipped("größer als", 6), "größe…");
    }
}
