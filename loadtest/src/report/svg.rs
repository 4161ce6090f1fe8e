//! Drawing: text made safe, short numbers, axes with round ticks, paths of steps.

use std::fmt::Write;

/// Text from plans, DSNs or servers, safe between tags and in quoted attributes of HTML and of SVG. What XML has no
/// place for at all is replaced.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' | '\t' => safe.push(letter),
            _ if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => safe.push('\u{fffd}'),
            _ => safe.push(letter),
        }
    }
    safe
}

/// A coordinate: one decimal at most, since the page has tens of thousands of them.
pub fn short(value: f64) -> String {
    let tenths = (value * 10.0).round() / 10.0;
    if tenths == 0.0 { "0".to_owned() } else { format!("{tenths}") }
}

/// From values to pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Axis {
    from: f64,
    to: f64,
    pixel_from: f64,
    pixel_to: f64,
}

impl Axis {
    /// `from` is at `pixel_from`, `to` at `pixel_to`. An empty range gets a length.
    pub fn new((from, to): (f64, f64), (pixel_from, pixel_to): (f64, f64)) -> Self {
        let to = if to > from { to } else { from + 1.0 };
        Self { from, to, pixel_from, pixel_to }
    }

    /// Where a value is; at the edge if it is beyond.
    pub fn at(&self, value: f64) -> f64 {
        let part = ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0);
        self.pixel_from + part * (self.pixel_to - self.pixel_from)
    }

    /// A value that the axis has.
    pub fn has(&self, value: f64) -> bool {
        (self.from..=self.to).contains(&value)
    }
}

/// Round steps from 0 to at most `top`: about `about` of them.
pub fn round_ticks(top: f64, about: u32) -> Vec<f64> {
    let top = if top.is_finite() && top > 0.0 { top } else { 1.0 };
    let rough = top / f64::from(about.max(1));
    let decade = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .map(|times| times * decade)
        .into_iter()
        .find(|step| *step >= rough * 0.999);
    let step = step.unwrap_or(10.0 * decade);
    let mut ticks = vec![0.0];
    let mut next = step;
    while next <= top * 1.000_001 && ticks.len() < 32 {
        ticks.push(next);
        #[expect(clippy::cast_precision_loss, reason = "at most 32")]
        let count = ticks.len() as f64;
        next = step * count;
    }
    ticks
}

/// Drawn one after the other, later ones above earlier ones.
#[derive(Debug, Clone, Default)]
pub struct Drawing(String);

impl Drawing {
    /// A straight line.
    pub fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        let [x1, y1, x2, y2] = [x1, y1, x2, y2].map(short);
        let _ = write!(self.0, "<path class=\"{class}\" d=\"M{x1} {y1}L{x2} {y2}\"/>");
    }

    /// A rectangle.
    pub fn rectangle(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64)) {
        let [x, y, width, height] = [x, y, width, height].map(short);
        let _ = write!(
            self.0,
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>"
        );
    }

    /// A path whose commands are there already.
    pub fn path(&mut self, class: &str, commands: &str) {
        if !commands.is_empty() {
            let _ = write!(self.0, "<path class=\"{class}\" d=\"{commands}\"/>");
        }
    }

    /// Text; escaped here.
    pub fn text(&mut self, class: &str, (x, y): (f64, f64), text: &str) {
        let (x, y, text) = (short(x), short(y), escape(text));
        let _ = write!(self.0, "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{text}</text>");
    }

    /// Another drawing above this one.
    pub fn put(&mut self, other: Self) {
        self.0 += &other.0;
    }

    /// SVG elements.
    pub fn into_elements(self) -> String {
        self.0
    }
}

/// A line of steps: bin `i` is from `edge(i)` to `edge(i + 1)`, at its height in pixels. It is broken where there is
/// none.
pub fn steps(heights: &[Option<f64>], edge: impl Fn(usize) -> f64) -> String {
    let mut path = String::new();
    let mut at: Option<f64> = None;
    for (bin, height) in heights.iter().enumerate() {
        match (at, *height) {
            (Some(before), Some(height)) if short(before) != short(height) => {
                let _ = write!(path, "H{}V{}", short(edge(bin)), short(height));
            }
            (None, Some(height)) => {
                let _ = write!(path, "M{} {}", short(edge(bin)), short(height));
            }
            (Some(_), None) => {
                let _ = write!(path, "H{}", short(edge(bin)));
            }
            _ => {}
        }
        at = *height;
    }
    if at.is_some() {
        let _ = write!(path, "H{}", short(edge(heights.len())));
    }
    path
}

/// The area between two lines of steps, both in pixels and without gaps.
pub fn area(lower: &[f64], upper: &[f64], edge: impl Fn(usize) -> f64) -> String {
    if lower == upper {
        return String::new();
    }
    let there: Vec<Option<f64>> = upper.iter().copied().map(Some).collect();
    let mut path = steps(&there, &edge);
    let mut at = None;
    for (bin, height) in lower.iter().enumerate().rev() {
        let height = short(*height);
        if at.as_ref() != Some(&height) {
            let _ = write!(path, "H{}V{height}", short(edge(bin + 1)));
        }
        at = Some(height);
    }
    let _ = write!(path, "H{}Z", short(edge(0)));
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_place() {
        assert_eq!(
            escape("<a href='x'>\"&\u{1b}\u{0}"),
            "&lt;a href=&#39;x&#39;&gt;&quot;&amp;\u{fffd}\u{fffd}"
        );
    }

    #[test]
    fn coordinates_are_short() {
        assert_eq!([1.0, 1.26, -0.04, 100.04, 12.5].map(short), ["1", "1.3", "0", "100", "12.5"]);
    }

    #[test]
    fn ticks_are_round_and_do_not_pass_the_top() {
        assert_eq!(round_ticks(950.0, 4), [0.0, 250.0, 500.0, 750.0]);
        assert_eq!(round_ticks(400.0, 4), [0.0, 100.0, 200.0, 300.0, 400.0]);
        assert_eq!(round_ticks(0.0, 4), round_ticks(1.0, 4));
        for top in [0.003, 1.0, 7.0, 19.9, 1234.5, 9e9, f64::NAN, f64::INFINITY] {
            let ticks = round_ticks(top, 4);
            assert!((2..=8).contains(&ticks.len()), "{top}: {ticks:?}");
            assert!(!top.is_finite() || *ticks.last().unwrap() <= top * 1.001, "{top}: {ticks:?}");
        }
    }

    #[test]
    fn values_beyond_an_axis_are_at_its_edge() {
        let axis = Axis::new((0.0, 10.0), (100.0, 0.0));
        assert_eq!([0.0, 5.0, 10.0, 99.0, -1.0].map(|value| axis.at(value)), [100.0, 50.0, 0.0, 0.0, 100.0]);
        assert!(Axis::new((3.0, 3.0), (0.0, 1.0)).at(3.0).is_finite());
    }

    #[test]
    fn steps_break_where_nothing_is_known_and_join_what_is_equal() {
        let edge = |bin: usize| bin as f64 * 10.0;
        assert_eq!(steps(&[Some(1.0), Some(1.0), Some(2.0), None, Some(3.0)], edge), "M0 1H20V2H30M40 3H50");
        assert_eq!(steps(&[None, None], edge), "");
    }

    #[test]
    fn areas_go_there_and_back() {
        let edge = |bin: usize| bin as f64 * 10.0;
        assert_eq!(area(&[9.0, 9.0], &[1.0, 2.0], edge), "M0 1H10V2H20H20V9H0Z");
        assert_eq!(area(&[9.0], &[9.0], edge), "");
    }
}
