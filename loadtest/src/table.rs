//! Tables as text: aligned for a terminal, and Markdown for a document.

/// Rows of cells under headings; the first column is text, the others are figures and go to the right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new<H: Into<String>>(headings: impl IntoIterator<Item = H>) -> Self {
        Self { headings: headings.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty.
    pub fn row<C: Into<String>>(&mut self, cells: impl IntoIterator<Item = C>) {
        let mut row: Vec<String> = cells.into_iter().map(Into::into).collect();
        row.resize(self.headings.len(), String::new());
        self.rows.push(row);
    }

    /// For a terminal.
    #[must_use]
    pub fn to_text(&self) -> String {
        let widths = self.widths();
        let rule = "-".repeat(widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1));
        let mut lines = vec![aligned(&self.headings, &widths, "  "), rule];
        lines.extend(self.rows.iter().map(|row| aligned(row, &widths, "  ")));
        lines.join("\n") + "\n"
    }

    /// For a document.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let widths = self.widths();
        let rule: Vec<String> = widths
            .iter()
            .enumerate()
            .map(
                |(column, width)| {
                    if column == 0 { "-".repeat(width + 2) } else { "-".repeat(width + 1) + ":" }
                },
            )
            .collect();
        let line = |row: &[String]| format!("| {} |", aligned(row, &widths, " | "));
        let mut lines = vec![line(&self.headings), format!("|{}|", rule.join("|"))];
        lines.extend(self.rows.iter().map(|row| line(row)));
        lines.join("\n") + "\n"
    }

    fn widths(&self) -> Vec<usize> {
        let cell_width =
            |row: &Vec<String>, column: usize| row.get(column).map_or(0, |cell| cell.chars().count());
        (0..self.headings.len())
            .map(|column| {
                self.rows.iter().chain([&self.headings]).map(|row| cell_width(row, column)).max().unwrap_or(0)
            })
            .collect()
    }
}

fn aligned(row: &[String], widths: &[usize], gap: &str) -> String {
    let cells: Vec<String> = row
        .iter()
        .zip(widths)
        .enumerate()
        .map(
            |(column, (cell, &width))| {
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            },
        )
        .collect();
    cells.join(gap)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Table {
        let mut table = Table::new(["", "direct", "µs"]);
        table.row(["served", "57", "1"]);
        table.row(["p50"]);
        table
    }

    #[test]
    fn text_is_aligned_by_characters_not_bytes() {
        let expected = "        direct  µs\n------------------\nserved      57   1\np50               \n";
        assert_eq!(example().to_text(), expected);
    }

    #[test]
    fn markdown_has_a_rule_that_aligns_figures() {
        let text = example().to_markdown();
        assert_eq!(text.lines().nth(1), Some("|--------|-------:|---:|"));
        assert_eq!(text.lines().nth(2), Some("| served |     57 |  1 |"));
    }
}
