//! A legend's marks: small pieces of what they stand for.

use super::Mark;
use super::latency::CLASSES;
use crate::report::svg::Drawing;

/// Pixels from top to bottom of every mark.
pub const HEIGHT: f64 = 12.0;

impl Mark {
    /// How wide it is.
    pub fn width(&self) -> f64 {
        match self {
            Self::Line(_) => 20.0,
            Self::Area(_) => 14.0,
            Self::Ramp => 70.0,
        }
    }

    /// Its elements, with the upper left corner there.
    pub fn draw(&self, (x, y): (f64, f64)) -> Drawing {
        let mut drawing = Drawing::default();
        let middle = y + HEIGHT / 2.0;
        match self {
            Self::Line(class) => drawing.line(class, (x, middle), (x + self.width(), middle)),
            Self::Area(class) => drawing.rectangle(class, (x, y), (self.width(), HEIGHT)),
            Self::Ramp => {
                let mut left = x;
                for class in CLASSES {
                    drawing.rectangle(class, (left, y), (10.0, HEIGHT));
                    left += 10.0;
                }
            }
        }
        drawing
    }
}
