//! Each file of `tests/conformance` is played to PostgreSQL and through the proxy; the replies must be the same,
//! message by message. PostgreSQL is also played to twice: a file that does not repeat itself tests nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use libtest_mimic::Trial;

use crate::support::ground::Ground;
use crate::support::script::{Script, Target};

/// One trial for each file.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    let trial = |path: PathBuf| {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let ground = Arc::clone(ground);
        Trial::test(format!("conformance::{name}"), move || {
            play(&ground, &path).map_err(|reason| format!("{reason}\n{}", ground.proxy_logs()).into())
        })
    };
    files().into_iter().map(trial).collect()
}

fn files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let entries = std::fs::read_dir(directory).expect("tests/conformance");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "pgt"));
    files.sort();
    files
}

fn load(path: &Path) -> Result<Script, String> {
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    Script::parse(&text).map_err(|reason| format!("{}: {reason}", path.display()))
}

fn play(ground: &Ground, path: &Path) -> Result<(), String> {
    let script = load(path)?;
    same(ground, &script, &ground.direct(), &ground.direct())?;
    if script.direct_only.is_some() {
        return Ok(());
    }
    if !script.session {
        same(ground, &script, &ground.direct(), &ground.transaction())?;
    }
    same(ground, &script, &ground.direct(), &ground.session())
}

fn same(ground: &Ground, script: &Script, first: &Target, second: &Target) -> Result<(), String> {
    let mut root = ground.root(&ground.conversation().name);
    let expected = script.play(first, &mut root)?;
    let got = script.play(second, &mut root)?;
    match expected.difference(&got) {
        None => Ok(()),
        Some(text) => Err(format!("{} and {}: {text}", first.name, second.name)),
    }
}
