//! What is written: raw data and reports into one directory, pictures into that of the page.

use super::Failure;
use super::page::{Chapter, Circumstances, Illustration};
use loadtest::report::{self, Run};
use serde::Deserialize;
use std::fs::{self, File};
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Of the report's pictures, those that the page has; all are in the report.
const SHOWN: [&str; 2] = ["goodput.svg", "latency.svg"];

/// The directories that a comparison writes to.
#[derive(Debug)]
pub struct Shelf {
    raw: PathBuf,
    pictures: PathBuf,
}

impl Shelf {
    /// Makes them. Pictures go into a directory beside the page that is called as the page is, without `.md`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn new(raw: &Path, page: &Path) -> Result<Self, Failure> {
        let shelf = Self { raw: raw.to_owned(), pictures: page.with_extension("") };
        for directory in [&shelf.raw, &shelf.pictures] {
            fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        }
        Ok(shelf)
    }

    /// Removes what was kept of a plan that is going to be measured: whatever ends that early, older figures must not
    /// pass for its own.
    ///
    /// # Errors
    /// What the file system says.
    pub fn discard(&self, plan: &str) -> Result<(), Failure> {
        for path in [self.data_of(plan), self.report_of(plan), self.circumstances_of(plan)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(format!("{}: {error}", path.display()).into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Keeps how a plan's figures came about, and, if there are any, its raw data and its report.
    ///
    /// # Errors
    /// What the file system says.
    pub fn keep(&self, run: &Run, circumstances: &Circumstances) -> Result<(), Failure> {
        let plan = &run.plan.name;
        // First: there are never data beside the circumstances of others.
        fs::write(self.circumstances_of(plan), serde_json::to_vec(circumstances)?)?;
        if run.legs.is_empty() {
            return Ok(());
        }
        let mut file = BufWriter::new(File::create(self.data_of(plan))?);
        report::json::write(run, &mut file)?;
        file.flush()?;
        fs::write(self.report_of(plan), report::to_html(run))?;
        Ok(())
    }

    /// The run that was kept of a plan; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn kept(&self, plan: &str) -> Result<Option<Run>, Failure> {
        let path = self.data_of(plan);
        if !path.exists() {
            return Ok(None);
        }
        let run = report::json::read(File::open(&path)?);
        Ok(Some(run.map_err(|error| format!("{}: {error}", path.display()))?))
    }

    /// How a plan's figures came about; `None` if nothing was kept of it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn circumstances(&self, plan: &str) -> Result<Option<Circumstances>, Failure> {
        match read(&self.circumstances_of(plan))? {
            Some(own) => Ok(Some(own)),
            None => Ok(read::<OfAll>(&self.circumstances_of_all())?.and_then(|all| all.of(plan))),
        }
    }

    fn data_of(&self, plan: &str) -> PathBuf {
        self.raw.join(format!("{plan}.json"))
    }

    fn report_of(&self, plan: &str) -> PathBuf {
        self.raw.join(format!("{plan}.html"))
    }

    fn circumstances_of(&self, plan: &str) -> PathBuf {
        self.raw.join(format!("{plan}.circumstances.json"))
    }

    fn circumstances_of_all(&self) -> PathBuf {
        self.raw.join("circumstances.json")
    }

    /// Writes a run's pictures, and returns its part of the page.
    ///
    /// # Errors
    /// What the file system says.
    pub fn publish(&self, run: &Run, circumstances: Circumstances) -> Result<Chapter, Failure> {
        let directory = self.pictures.file_name().map(|name| name.to_string_lossy().into_owned());
        let mut pictures = Vec::new();
        for picture in report::pictures(run) {
            if !SHOWN.contains(&picture.name.as_str()) {
                continue;
            }
            let name = format!("{}-{}", run.plan.name, picture.name);
            fs::write(self.pictures.join(&name), picture.svg)?;
            let file = format!("{}/{name}", directory.as_deref().unwrap_or("."));
            pictures.push(Illustration { file, heading: picture.heading, reading: picture.reading });
        }
        Ok(Chapter::of(run, circumstances, pictures))
    }
}

/// What was kept before every plan had circumstances of its own: one file of a whole run, written at its end.
#[derive(Debug, Deserialize)]
struct OfAll {
    #[serde(flatten)]
    circumstances: Circumstances,
    plans: Vec<String>,
}

impl OfAll {
    /// What of it is one plan's; `None` if it was not of that run.
    fn of(self, plan: &str) -> Option<Circumstances> {
        let (leg_of_it, ended_in_it) = (format!("{plan}, "), format!(" in plan {plan}"));
        let mut circumstances = self.circumstances;
        circumstances.missing.retain(|what| what.starts_with(&leg_of_it) || what.ends_with(&ended_in_it));
        self.plans.iter().any(|known| known == plan).then_some(circumstances)
    }
}

/// A JSON file; `None` if it is not there.
fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, Failure> {
    let named = |error: &dyn std::fmt::Display| Failure::from(format!("{}: {error}", path.display()));
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| named(&error)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(named(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::family::examples::plan;
    use super::super::page::examples::circumstances;
    use super::*;
    use loadtest::scratch::Scratch;

    /// As it was written when it was one file for all.
    const OF_ALL: &str = r#"{"started": "2026-11-23", "postgres": "postgres (PostgreSQL) 15.1", "max_connections": 100,
        "machine": "Some CPU", "load": "0.20", "rounds": 5, "plans": ["p", "e1"],
        "missing": ["e1, round 2 of 5, direct: it was busy", "it was ended by Ctrl-C in plan p"]}"#;

    fn shelf() -> (Scratch, Shelf) {
        let place = Scratch::create(None).unwrap();
        let shelf = Shelf::new(&place.path().join("raw"), &place.path().join("page.md")).unwrap();
        (place, shelf)
    }

    fn run() -> Run {
        let plan = plan("", &["f"]);
        let (machine, version) = ("Some CPU".to_owned(), "0".to_owned());
        Run {
            plan,
            targets: Vec::new(),
            legs: Vec::new(),
            observed: true,
            machine,
            started_unix_ms: 0,
            version,
        }
    }

    #[test]
    fn a_plans_own_circumstances_come_before_those_of_an_older_run() {
        let (_place, shelf) = shelf();
        assert_eq!(shelf.circumstances("p").unwrap(), None);
        fs::write(shelf.circumstances_of_all(), OF_ALL).unwrap();
        let older = shelf.circumstances("p").unwrap().unwrap();
        assert_eq!(
            (older.started.as_str(), older.load.as_str(), older.pool_size),
            ("2026-11-23", "0.20", 20)
        );
        assert_eq!(older.missing, ["it was ended by Ctrl-C in plan p"]);
        assert_eq!(shelf.circumstances("e1").unwrap().unwrap().missing.len(), 1);
        assert_eq!(shelf.circumstances("e7").unwrap(), None, "it was not of that run");

        shelf.keep(&run(), &circumstances()).unwrap();
        assert_eq!(shelf.circumstances("p").unwrap(), Some(circumstances()));
        assert!(shelf.kept("p").unwrap().is_none(), "without a leg there are no data");
    }

    #[test]
    fn what_is_discarded_is_gone_and_nothing_else() {
        let (_place, shelf) = shelf();
        shelf.discard("p").unwrap();
        shelf.keep(&run(), &circumstances()).unwrap();
        for path in
            [shelf.data_of("p"), shelf.report_of("p"), shelf.data_of("p-2"), shelf.circumstances_of_all()]
        {
            fs::write(path, "older").unwrap();
        }
        assert!(shelf.kept("p").is_err(), "older data are looked at");
        shelf.discard("p").unwrap();
        assert!(shelf.kept("p").unwrap().is_none() && !shelf.report_of("p").exists());
        assert!(!shelf.circumstances_of("p").exists());
        assert!(shelf.data_of("p-2").exists() && shelf.circumstances_of_all().exists());
    }
}
