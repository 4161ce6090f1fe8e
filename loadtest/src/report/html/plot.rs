//! The page's plots: a section each, with a panel per target.

use crate::report::plots::{Key, Panel, Plot, legend};
use crate::report::svg::escape;

/// All of them, with their panels in so many columns; a single target's are side by side.
pub fn sections(plots: &[Plot], columns: usize) -> String {
    let sections: String = plots.iter().map(|plot| section(plot, columns)).collect();
    if columns == 1 { format!("<div class=\"single\">\n{sections}</div>\n") } else { sections }
}

fn section(plot: &Plot, columns: usize) -> String {
    let Plot { name, heading, reading, legend, panels } = plot;
    let keys: String = legend.iter().map(key).collect();
    let figures: String =
        panels.iter().enumerate().map(|(number, panel)| figure(name, heading, number, panel)).collect();
    format!(
        "<section class=\"plot\" id=\"{name}\">\n<h2>{heading}</h2>\n<p class=\"how\">{}</p>\n\
         <ul class=\"legend\">{keys}</ul>\n<div class=\"panels\" style=\"--columns:{columns}\">\n{figures}</div>\n</section>\n",
        escape(reading),
    )
}

fn key(Key { mark, label }: &Key) -> String {
    let (width, height) = (mark.width(), legend::HEIGHT);
    format!(
        "<li><svg aria-hidden=\"true\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">{}</svg>{}</li>",
        mark.draw((0.0, 0.0)).into_elements(),
        escape(label),
    )
}

fn figure(name: &str, heading: &str, number: usize, panel: &Panel) -> String {
    let Panel { target, caption, description, size: (width, height), elements } = panel;
    let (target, caption, description) = (escape(target), escape(caption), escape(description));
    format!(
        "<figure>\n<figcaption>{target}<span>{caption}</span></figcaption>\n\
         <svg role=\"img\" aria-labelledby=\"{name}{number}t {name}{number}d\" viewBox=\"0 0 {width} {height}\">\
         <title id=\"{name}{number}t\">{heading}: {target}</title>\
         <desc id=\"{name}{number}d\">{description}</desc>{elements}</svg>\n</figure>\n"
    )
}
