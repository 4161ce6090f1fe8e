//! The container images. `files` compares what is written of them; `images` runs them, once `scripts/test-container.sh` has
//! built them.

mod dockerfile;
mod files;
mod images;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::support::ground::Ground;

/// All trials of this directory.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    let mut trials = crate::trials("container::files", ground, files::TESTS);
    // They need what only the script has.
    let images = crate::trials("container::images", ground, images::TESTS);
    trials.extend(images.into_iter().map(|trial| trial.with_ignored_flag(true)));
    trials
}

/// A file or directory of the repository.
fn in_repository(path: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The text of a file of the repository.
#[track_caller]
fn text(path: impl AsRef<Path>) -> String {
    let path = in_repository(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A YAML file of the repository.
#[track_caller]
fn yaml(path: &str) -> Value {
    serde_yaml_ng::from_str(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The words of a list.
fn words(list: &Value) -> Vec<String> {
    let word = |word: &Value| word.as_str().expect("a word").to_owned();
    list.as_array().map(|words| words.iter().map(word).collect()).unwrap_or_default()
}

/// A section's keys and values.
fn entries(section: &Value) -> impl Iterator<Item = (&String, &Value)> {
    section.as_object().into_iter().flatten()
}
