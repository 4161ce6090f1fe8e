//! What is written: raw data and reports into one directory, pictures into that of the page.

use super::Failure;
use super::page::{Chapter, Circumstances, Illustration};
use loadtest::report::{self, Run};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
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

    /// Keeps a run's raw data and its report.
    ///
    /// # Errors
    /// What the file system says.
    pub fn keep(&self, run: &Run) -> Result<(), Failure> {
        let mut file = BufWriter::new(File::create(self.raw.join(format!("{}.json", run.plan.name)))?);
        report::json::write(run, &mut file)?;
        file.flush()?;
        fs::write(self.raw.join(format!("{}.html", run.plan.name)), report::to_html(run))?;
        Ok(())
    }

    /// The run that was kept of a plan; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn kept(&self, plan: &str) -> Result<Option<Run>, Failure> {
        let path = self.raw.join(format!("{plan}.json"));
        if !path.exists() {
            return Ok(None);
        }
        let run = report::json::read(File::open(&path)?);
        Ok(Some(run.map_err(|error| format!("{}: {error}", path.display()))?))
    }

    /// Keeps how the figures came about.
    ///
    /// # Errors
    /// What the file system says.
    pub fn keep_circumstances(&self, circumstances: &Circumstances) -> Result<(), Failure> {
        Ok(fs::write(self.circumstances_path(), serde_json::to_vec(circumstances)?)?)
    }

    /// What [`keep_circumstances`](Self::keep_circumstances) kept.
    ///
    /// # Errors
    /// Nothing was kept, or it cannot be read.
    pub fn circumstances(&self) -> Result<Circumstances, Failure> {
        let path = self.circumstances_path();
        let text = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(serde_json::from_slice(&text)?)
    }

    fn circumstances_path(&self) -> PathBuf {
        self.raw.join("circumstances.json")
    }

    /// Writes a run's pictures, and returns its part of the page.
    ///
    /// # Errors
    /// What the file system says.
    pub fn publish(&self, run: &Run) -> Result<Chapter, Failure> {
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
        Ok(Chapter::of(run, pictures))
    }
}
