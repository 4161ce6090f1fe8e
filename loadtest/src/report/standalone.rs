//! The same plots as files of their own, for documents: each a picture with its own background and both palettes.

use super::Run;
use super::plots::{self, Key, Panel, Plot, legend};
use super::svg::{Drawing, escape, short};
use std::fmt::Write;

const STYLE: &str = include_str!("plots/plot.css");
const PADDING: f64 = 20.0;
const GAP: f64 = 24.0;

/// Documents are narrow: more, and nobody can read the letters.
const MOST_COLUMNS: usize = 2;

/// Pixels above a panel for its target's name.
const CAPTION: f64 = 20.0;

/// How wide a letter of a legend is, about.
const LETTER: f64 = 6.1;

/// A file for a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The file's name: `goodput.svg`.
    pub name: String,
    /// What it shows, for the document's text.
    pub heading: String,
    /// How to read it, in one sentence.
    pub reading: String,
    /// The file.
    pub svg: String,
}

/// A picture per plot, targets side by side.
#[must_use]
pub fn pictures(run: &Run) -> Vec<Picture> {
    let columns = run.targets.len().clamp(1, MOST_COLUMNS);
    let pictures = plots::all(run, columns).into_iter();
    pictures
        .map(|plot| Picture {
            name: format!("{}.svg", plot.name),
            svg: picture(&plot, columns, &run.plan.title),
            heading: plot.heading.to_owned(),
            reading: plot.reading,
        })
        .collect()
}

fn picture(plot: &Plot, columns: usize, title: &str) -> String {
    let (panel_width, panel_height) = plot.panels.first().map_or((520.0, 0.0), |panel| panel.size);
    #[expect(clippy::cast_precision_loss, reason = "a few")]
    let (across, down) = (columns as f64, plot.panels.len().div_ceil(columns) as f64);
    let width = 2.0 * PADDING + across * panel_width + (across - 1.0) * GAP;
    let (keys, top) = keys(&plot.legend, width);
    let height = top + down * (panel_height + CAPTION + GAP);
    let panels: String = plot
        .panels
        .iter()
        .enumerate()
        .map(|(number, panel)| {
            #[expect(clippy::cast_precision_loss, reason = "a few")]
            let (column, row) = ((number % columns) as f64, (number / columns) as f64);
            let x = PADDING + column * (panel_width + GAP);
            placed(panel, (x, top + row * (panel_height + CAPTION + GAP)))
        })
        .collect();
    let (heading, title) = (escape(plot.heading), escape(title));
    let [width, height, inner_width, inner_height] = [width, height, width - 1.0, height - 1.0].map(short);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" aria-labelledby=\"t d\" width=\"{width}\" \
         height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n<title id=\"t\">{heading}: {title}</title>\n\
         <desc id=\"d\">{description}</desc>\n<style>\n{STYLE}\
         .paper {{ fill: var(--paper); stroke: var(--rule); }}\nsvg .heading {{ font-size: 16px; font-weight: 650; \
         fill: var(--ink); }}\nsvg .name {{ font-size: 13px; font-weight: 650; fill: var(--ink); }}\n\
         svg .key {{ font-size: 12px; fill: var(--ink); }}\n</style>\n\
         <rect class=\"paper\" x=\"0.5\" y=\"0.5\" width=\"{inner_width}\" height=\"{inner_height}\" rx=\"8\"/>\n\
         <text class=\"heading\" x=\"{PADDING}\" y=\"34\">{heading}</text>\n{keys}{panels}\n</svg>\n",
        description = describe(&plot.panels),
    )
}

/// The legend, wrapped, and where what is below it begins.
fn keys(legend: &[Key], width: f64) -> (String, f64) {
    let mut drawing = Drawing::default();
    let (mut x, mut y) = (PADDING, 50.0);
    for Key { mark, label } in legend {
        let text = label.chars().map(|_| LETTER).sum::<f64>();
        let wide = mark.width() + 7.0 + text;
        if x > PADDING && x + wide > width - PADDING {
            (x, y) = (PADDING, y + 20.0);
        }
        drawing.put(mark.draw((x, y)));
        drawing.text("key", (x + mark.width() + 7.0, y + legend::HEIGHT - 2.0), label);
        x += wide + 20.0;
    }
    (drawing.into_elements(), y + 30.0)
}

fn placed(panel: &Panel, (x, y): (f64, f64)) -> String {
    let (width, height) = panel.size;
    let mut text = String::new();
    let (name, x, name_y, y) = (escape(&panel.target), short(x), short(y + 12.0), short(y + CAPTION));
    let _ = write!(
        text,
        "\n<text class=\"name\" x=\"{x}\" y=\"{name_y}\">{name}</text>\n\
         <svg x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">{}</svg>",
        panel.elements
    );
    text
}

fn describe(panels: &[Panel]) -> String {
    let texts: Vec<String> =
        panels.iter().map(|panel| escape(&format!("{}: {}", panel.target, panel.description))).collect();
    texts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::synthetic;
    use super::*;

    #[test]
    fn pictures_stand_alone() {
        let pictures = pictures(&synthetic::run(&["direct", "fifo", "guard"], 1));
        let names: Vec<_> = pictures.iter().map(|picture| picture.name.as_str()).collect();
        let expected =
            ["goodput.svg", "latency.svg", "backends.svg", "failures.svg", "connections.svg", "attempts.svg"];
        assert_eq!(names, expected);
        for Picture { svg, .. } in &pictures {
            assert!(svg.starts_with("<svg xmlns") && svg.contains("class=\"paper\""));
            assert!(svg.contains("prefers-color-scheme: dark") && svg.contains("<desc id=\"d\">direct: "));
            assert!(svg.len() < 300_000, "{}", svg.len());
        }
    }

    #[test]
    fn a_long_legend_is_wrapped() {
        let key = || Key { mark: plots::Mark::Line("served"), label: "x".repeat(60) };
        let (_, one_line) = keys(&[key()], 900.0);
        let (_, three_lines) = keys(&[key(), key(), key()], 900.0);
        assert!(three_lines > one_line);
    }
}
