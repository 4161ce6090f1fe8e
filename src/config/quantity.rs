//! Durations and sizes as people write them: `"1.5s"`, `"1h30min"`, `"64KiB"`. Pure; no float is involved.

use std::time::Duration;

/// Longest duration: a year. Whoever adds it to a clock's `now` cannot overflow.
const MAX_DURATION: Duration = Duration::from_secs(366 * 86_400);

/// Units of time with their nanoseconds. PostgreSQL's units and two spellings that people use instead.
const TIME_UNITS: [(&str, u128); 8] = [
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Units of size with their bytes. kB, MB and GB are powers of 1024, as in `postgresql.conf`.
const SIZE_UNITS: [(&str, u128); 7] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("kB", 1 << 10),
    ("MiB", 1 << 20),
    ("MB", 1 << 20),
    ("GiB", 1 << 30),
    ("GB", 1 << 30),
];

/// Reads a duration, as `"250ms"`, `"1.5s"` or `"1h30min"`; `"0"` needs no unit.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let nanos = total(text, &TIME_UNITS)
        .ok_or_else(|| format!("{text:?} is not a duration like \"250ms\", \"1.5s\", \"10min\" or \"1h\""))?;
    let duration = u64::try_from(nanos).map(Duration::from_nanos).unwrap_or(Duration::MAX);
    if duration > MAX_DURATION {
        return Err(format!("{text:?} is longer than a year"));
    }
    Ok(duration)
}

/// Reads a size in bytes, as `"64KiB"` or `"1.5MiB"`.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub(super) fn size(text: &str) -> Result<usize, String> {
    let bytes = total(text, &SIZE_UNITS)
        .ok_or_else(|| format!("{text:?} is not a size like \"4096B\", \"64KiB\" or \"1MiB\""))?;
    usize::try_from(bytes).map_err(|_| format!("{text:?} is too large"))
}

/// Prints a size so that [`size`] reads it.
pub(super) fn print_size(bytes: usize) -> String {
    match bytes {
        _ if bytes > 0 && bytes.is_multiple_of(1 << 30) => format!("{}GiB", bytes >> 30),
        _ if bytes > 0 && bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
        _ if bytes > 0 && bytes.is_multiple_of(1 << 10) => format!("{}KiB", bytes >> 10),
        _ => format!("{bytes}B"),
    }
}

/// Sum of one or more `number unit`, in the smallest unit. None: malformed, or too large for 128 bits.
fn total(text: &str, units: &[(&str, u128)]) -> Option<u128> {
    let mut rest = text.trim();
    if rest == "0" {
        return Some(0);
    }
    let mut sum: u128 = 0;
    while {
        let (amount, after) = one_term(rest, units)?;
        sum = sum.checked_add(amount)?;
        rest = after.trim_start();
        !rest.is_empty()
    } {}
    Some(sum)
}

/// One `number unit` from the front, and the text behind it.
fn one_term<'a>(text: &'a str, units: &[(&str, u128)]) -> Option<(u128, &'a str)> {
    let (number, rest) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()));
    let rest = rest.trim_start();
    let (unit, rest) = rest.split_at(rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len()));
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    Some((scaled(number, *factor)?, rest))
}

/// `number * factor`, cut down to a whole. None: not a decimal number, too many digits, or too large.
fn scaled(number: &str, factor: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.len() > 9 {
        return None;
    }
    let whole: u128 = whole.parse().ok()?;
    let part: u128 = fraction.parse().ok()?;
    let tenths = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    whole.checked_mul(factor)?.checked_add(part.checked_mul(factor)? / tenths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let read = [
            ("250ms", 250_000_000),
            ("1.5s", 1_500_000_000),
            ("10min", 600_000_000_000),
            ("10m", 600_000_000_000),
            ("1h", 3_600_000_000_000),
            ("1h30min", 5_400_000_000_000),
            ("1h 30min", 5_400_000_000_000),
            ("1 s", 1_000_000_000),
            ("2d", 172_800_000_000_000),
            ("7us", 7_000),
            ("7µs", 7_000),
            ("0", 0),
            ("0s", 0),
            ("0.000000001s", 1),
        ];
        for (text, nanos) in read {
            assert_eq!(duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn not_durations() {
        let wrong = [
            "",
            " ",
            "s",
            "15",
            "1.5",
            "-1s",
            "1e3s",
            "1..5s",
            ".s",
            ".5s",
            "1.s",
            "1 fortnight",
            "1.0000000001s",
        ];
        for text in wrong {
            assert!(duration(text).is_err(), "{text:?}");
        }
        assert_eq!(duration("367d"), Err("\"367d\" is longer than a year".to_owned()));
        assert!(duration(&format!("{}d", "9".repeat(60))).is_err());
        assert!(duration("99999999999999999999d").is_err());
    }

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("64KiB", 65_536), ("64kB", 65_536), ("1.5MiB", 1_572_864), ("10B", 10), ("1GB", 1 << 30)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["64", "64K", "KiB", "-1B", "99999999999999999999GiB"] {
            assert!(size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn printed_sizes_are_read_back() {
        for bytes in [0, 1, 1023, 1 << 10, 3 << 10, 1 << 20, (1 << 20) + 1, 5 << 30] {
            assert_eq!(size(&print_size(bytes)), Ok(bytes));
        }
    }
}
