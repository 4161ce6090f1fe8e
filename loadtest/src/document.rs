//! Documents that a program writes anew, under which people write by hand.

use std::path::Path;
use std::{fs, io};

/// Writes `text` and the line `marker` to `path`, and keeps what the document has below that line.
///
/// # Errors
/// What the file system says.
pub fn save(path: &Path, text: &str, marker: &str) -> io::Result<()> {
    let old = match fs::read_to_string(path) {
        Ok(old) => old,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(path, with_kept_part(text, &old, marker))
}

fn with_kept_part(text: &str, old: &str, marker: &str) -> String {
    let kept = old.split_once(marker).map_or("\n", |(_, kept)| kept);
    format!("{text}\n{marker}{kept}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_by_hand_below_the_marker_is_kept() {
        const MARKER: &str = "<!-- kept below -->";
        let first = with_kept_part("# One\n", "", MARKER);
        let edited = format!("{first}\nBy hand.\n");
        let second = with_kept_part("# Two\n", &edited, MARKER);
        assert!(second.starts_with("# Two\n") && second.ends_with("\nBy hand.\n"), "{second}");
        assert_eq!(second.matches(MARKER).count(), 1);
    }
}
