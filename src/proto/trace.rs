//! Traces as far as they need no clock and no socket: where a request says which trace it belongs to (W3C Trace Context,
//! the `traceparent` header), and which requests are recorded.

use super::statements::traceparent_comment;

/// Length of a `traceparent` of version 00: `00-<32 digits>-<16 digits>-<2 digits>`.
const LENGTH: usize = 55;
/// The bit of the flags that says that the caller records the trace.
const SAMPLED: u8 = 1;

/// What a request says of the trace that it belongs to: the caller's span, which becomes the parent of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The caller's span.
    pub span_id: [u8; 8],
    /// The caller records the trace, and wants others to.
    pub sampled: bool,
}

impl TraceParent {
    /// Reads the value of a `traceparent`. None: it is to be treated as if it were not there ("Trace Context", section
    /// "traceparent Header Field Values"). Of versions to come what is known is taken.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (known, more) = text.split_at_checked(LENGTH)?;
        let mut fields = known.split(|byte| *byte == b'-');
        let [version] = hex(fields.next()?)?;
        let trace_id = hex(fields.next()?)?;
        let span_id = hex(fields.next()?)?;
        let [flags] = hex(fields.next()?)?;
        let fits = match version {
            0 => more.is_empty(),
            0xff => false,
            _ => more.is_empty() || more.starts_with(b"-"),
        };
        let is_one = fits && fields.next().is_none() && trace_id != [0; 16] && span_id != [0; 8];
        is_one.then_some(Self { trace_id, span_id, sampled: flags & SAMPLED != 0 })
    }

    /// The one in a trace comment around a statement, where sqlcommenter puts it. Looks at the first and last bytes of the
    /// text, and further only if there is a comment.
    #[inline]
    pub fn of_statement(text: &[u8]) -> Option<Self> {
        Self::parse(traceparent_comment(text)?)
    }

    /// The one in an `application_name`: as it is, for PostgreSQL cuts the name off after 63 bytes. With it comes what
    /// stands around it, which is the name proper.
    pub fn of_name(name: &str) -> Option<(Self, String)> {
        let at = name.as_bytes().windows(LENGTH).position(|part| {
            // Most positions are ruled out by two bytes.
            part.starts_with(b"00-") && Self::parse(part).is_some()
        })?;
        let (before, rest) = name.split_at_checked(at)?;
        let (parent, behind) = rest.split_at_checked(LENGTH)?;
        let edge = |c: char| !c.is_alphanumeric();
        let rest = [before.trim_end_matches(edge), behind.trim_matches(edge)];
        let rest: Vec<&str> = rest.into_iter().filter(|part| !part.is_empty()).collect();
        Some((Self::parse(parent.as_bytes())?, rest.join(" ")))
    }
}

/// Lower-case hexadecimal digits, exactly as many as there is room for.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let &[high, low] = pair else { return None };
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(bytes)
}

/// How many of the traces that begin here are recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    /// A random number below this.
    below: u64,
    all: bool,
}

impl Ratio {
    /// This share of all, from 0 to 1.
    pub fn new(share: f64) -> Self {
        // The conversion saturates at both ends.
        Self { below: (share * u64::MAX as f64) as u64, all: share >= 1.0 }
    }

    /// Whether the one with this random number is among them.
    #[inline]
    pub fn takes(self, random: u64) -> bool {
        random < self.below || self.all
    }
}

/// Whether a transaction is recorded. Its caller decides, where there is one that traces; else `drawn`, the lot that fell at
/// its beginning, and always if it was `refused` or has waited `too_long`.
pub fn is_recorded(parent: Option<TraceParent>, drawn: bool, refused: bool, too_long: bool) -> bool {
    match parent {
        Some(parent) => parent.sampled,
        None => drawn || refused || too_long,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_examples_of_the_recommendation() {
        let parent = TraceParent::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(parent.trace_id[..2], [0x4b, 0xf9]);
        assert_eq!(parent.span_id, [0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
        assert!(parent.sampled);
        assert!(!TraceParent::parse(GOOD.replace("-01", "-00").as_bytes()).unwrap().sampled);
        assert!(TraceParent::parse(GOOD.replace("-01", "-ff").as_bytes()).unwrap().sampled, "other flags");
        assert!(!TraceParent::parse(GOOD.replace("-01", "-02").as_bytes()).unwrap().sampled);
    }

    #[test]
    fn what_is_not_one_is_not_there() {
        for text in [
            String::new(),
            GOOD[1..].to_owned(),
            GOOD.to_uppercase(),
            GOOD.replace("-0", "_0"),
            GOOD.replacen("00", "ff", 1),
            GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            GOOD.replace("4736-00f0", "47-3600f0"),
            format!("{GOOD}-"),
            format!("{GOOD}x"),
            format!("01{}x", &GOOD[2..]),
        ] {
            assert_eq!(TraceParent::parse(text.as_bytes()), None, "{text}");
        }
        let later = format!("cc{}-what-comes", &GOOD[2..]);
        assert_eq!(TraceParent::parse(later.as_bytes()), TraceParent::parse(GOOD.as_bytes()));
    }

    #[test]
    fn in_a_name_it_is_found_and_taken_out() {
        let parent = TraceParent::parse(GOOD.as_bytes()).unwrap();
        for (name, rest) in [
            (GOOD.to_owned(), ""),
            (format!("pay {GOOD}"), "pay"),
            (format!("pay;{GOOD}"), "pay"),
            (format!("{GOOD}/pay"), "pay"),
            (format!("pay-v2 {GOOD} eu"), "pay-v2 eu"),
            (format!("é{GOOD}é"), "é é"),
        ] {
            assert_eq!(TraceParent::of_name(&name), Some((parent, rest.to_owned())), "{name}");
        }
        for name in ["", "pay", "pay-00-1", &GOOD[..54]] {
            assert_eq!(TraceParent::of_name(name), None, "{name}");
        }
    }

    #[test]
    fn ratios() {
        for (share, random, taken) in [
            (0.0, 0, false),
            (0.01, 0, true),
            (0.01, u64::MAX / 100 - 10_000, true),
            (0.01, u64::MAX / 100 + 10_000, false),
            (1.0, u64::MAX, true),
        ] {
            assert_eq!(Ratio::new(share).takes(random), taken, "{share} {random}");
        }
    }

    #[test]
    fn the_caller_decides_and_else_the_lot_and_what_is_worth_it() {
        let parent = TraceParent::parse(GOOD.as_bytes()).unwrap();
        let unsampled = TraceParent { sampled: false, ..parent };
        assert!(is_recorded(Some(parent), false, false, false));
        assert!(!is_recorded(Some(unsampled), true, true, true), "nobody would find its parent");
        assert!(!is_recorded(None, false, false, false));
        assert!(is_recorded(None, true, false, false));
        assert!(is_recorded(None, false, true, false) && is_recorded(None, false, false, true));
    }

    proptest! {
        #[test]
        fn nothing_that_a_client_sends_is_too_much(bytes in any::<Vec<u8>>(), name in any::<String>()) {
            TraceParent::parse(&bytes);
            TraceParent::of_statement(&bytes);
            TraceParent::of_name(&name);
            let comment = [&b"select 1 /*a='"[..], &bytes, b"',traceparent='", GOOD.as_bytes(), b"'*/;"].concat();
            TraceParent::of_statement(&comment);
        }
    }
}
