//! The configuration: a file, the environment and flags become the parameter types of the parts.
//!
//! A file is read in two steps. `file` walks the TOML tree and turns every value into its type; `build` puts the
//! values together, fills in the defaults and checks what only shows when they are seen together. Both report every
//! fault that they find and go on, so that one run of `pgcorral check` names all of them. Nothing here opens a
//! socket, and the parts never ask for a configuration: they get their parameters in their constructors.

mod build;
pub mod defaults;
mod environment;
mod error;
mod file;
mod flags;
mod logins;
mod model;
mod nearest;
mod pools;
mod quantity;
mod rate_limits;
mod reader;
mod secrets;
mod sessions;
mod traces;
mod url;

pub use environment::{Environment, ProcessEnvironment};
pub use error::{ConfigError, ConfigErrors};
pub use model::{Config, DatabaseParams, Preflight, UpstreamConfig};

use std::net::SocketAddr;
use std::path::Path;

use crate::cli::{HealthcheckFlags, ServeFlags};
use error::{Faults, Origin};
use file::File;
use reader::{Entry, Read};

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// All faults of the file, in its order; of its TOML syntax, if that is broken.
    pub fn from_file(path: &Path, environment: &dyn Environment) -> Result<Self, ConfigErrors> {
        let faults = Faults::default();
        let file = read_file(path, environment, &faults);
        finish(file, environment, faults)
    }

    /// Reads the file that the flags name, if they name one, and lays the flags over it.
    ///
    /// `--listen` and `--admin` replace the file's addresses. `--pool-size` replaces the `pool_size` of every database,
    /// but not that of a single user. `--upstream` replaces the URL of the file's only database; without a file it *is*
    /// the database, and clients log in with its user and password.
    ///
    /// # Errors
    /// All faults of the file and of the flags.
    pub fn from_flags(flags: &ServeFlags, environment: &dyn Environment) -> Result<Self, ConfigErrors> {
        let faults = Faults::default();
        let file = match &flags.config {
            Some(path) => read_file(path, environment, &faults),
            None => Some(File::absent()),
        };
        let file = file.map(|file| file.overridden_by(flags, &faults));
        finish(file, environment, faults)
    }
}

/// The admin address of a running proxy: of the flags, or else of the file, or else the default. Other faults of the file do
/// not matter, for one that was written into it since must not make the proxy look ill.
///
/// # Errors
/// The file cannot be read, its syntax is broken, or its `admin` is no address.
pub fn admin_address(
    flags: &HealthcheckFlags,
    environment: &dyn Environment,
) -> Result<SocketAddr, ConfigErrors> {
    let (path, faults) = match flags {
        HealthcheckFlags { admin: Some(address), .. } => return Ok(*address),
        HealthcheckFlags { config: Some(path), .. } => (path, Faults::default()),
        HealthcheckFlags { config: None, .. } => return Ok(defaults::ADMIN),
    };
    match read_file(path, environment, &faults).map(|file| file.admin) {
        Some(Read::Good(Entry { value: Some(address), .. })) => Ok(address),
        Some(Read::Good(Entry { value: None, at })) => Err(ConfigErrors::one(at, "health is served nowhere")),
        Some(Read::Absent) => Ok(defaults::ADMIN),
        Some(Read::Bad) | None => Err(faults.into_errors().unwrap_or_else(nothing_was_read)),
    }
}

/// The file's values. None: it cannot be read, or its syntax is broken, and the faults say so.
fn read_file(path: &Path, environment: &dyn Environment, faults: &Faults) -> Option<File> {
    match environment.read(path) {
        Ok(text) => file::read(path, &text, environment, faults),
        Err(error) => {
            faults.add(&Origin::File(path.display().to_string().into()), format!("cannot be read: {error}"));
            None
        }
    }
}

fn finish(file: Option<File>, environment: &dyn Environment, faults: Faults) -> Result<Config, ConfigErrors> {
    let config = file.map(|file| build::build(&file, environment, &faults));
    match (config, faults.into_errors()) {
        (Some(config), None) => Ok(config),
        (_, Some(errors)) => Err(errors),
        (None, None) => Err(nothing_was_read()),
    }
}

fn nothing_was_read() -> ConfigErrors {
    ConfigErrors::one(Origin::Flag("--config"), "nothing was read")
}

#[cfg(test)]
mod reference_tests;
#[cfg(test)]
mod tests;
