//! Each file of `tests/conformance` is played to PostgreSQL and through the proxy; the replies must be the same,
//! message by message. PostgreSQL is also played to twice: a file that does not repeat itself tests nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use libtest_mimic::Trial;

use crate::support::ground::Ground;
use crate::support::script::{Script, Target};

/// Two trials for each file: direct, and through the proxy.
pub fn trials(ground: &Arc<Ground>) -> Vec<Trial> {
    let mut trials = Vec::new();
    for path in files() {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let (direct_ground, direct_path) = (Arc::clone(ground), path.clone());
        trials.push(Trial::test(format!("conformance::direct::{name}"), move || {
            direct(&direct_ground, &direct_path).map_err(Into::into)
        }));
        let proxy_ground = Arc::clone(ground);
        trials.push(crate::through_proxy(format!("conformance::proxy::{name}"), move || {
            proxied(&proxy_ground, &path).unwrap_or_else(|reason| panic!("{reason}\n{}", proxy_ground.proxy_logs()));
        }));
    }
    trials
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

fn direct(ground: &Ground, path: &Path) -> Result<(), String> {
    let script = load(path)?;
    same(ground, &script, &ground.direct(), &ground.direct())
}

fn proxied(ground: &Ground, path: &Path) -> Result<(), String> {
    let script = load(path)?;
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
