//! The account that servers run as: PostgreSQL and PgBouncer refuse to run as root, so root lends them another one.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::{fs, io};

/// Accounts that root may lend, best first.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// An unprivileged account of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name in `/etc/passwd`.
    pub name: String,
    /// Its user id, never 0.
    pub uid: u32,
    /// Its primary group id.
    pub gid: u32,
}

impl Account {
    /// The account to run a server as: `None` if we are an ordinary user and run it as ourselves.
    ///
    /// # Errors
    /// We are root and the machine has none of the accounts that could be lent.
    pub fn for_servers() -> io::Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let passwd = fs::read_to_string("/etc/passwd")?;
        let found = CANDIDATES.iter().find_map(|name| parse_account(&passwd, name));
        found.map(Some).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                "PostgreSQL refuses to run as root, and this machine has no account \"postgres\" or \"nobody\"",
            )
        })
    }

    /// Makes `command` run as this account, with none of root's groups.
    pub fn assign(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Gives one file or directory to this account.
    ///
    /// # Errors
    /// What `chown` says.
    pub fn own(&self, path: &Path) -> io::Result<()> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
    }
}

/// Reads one account from the text of `/etc/passwd` (see `passwd(5)`).
fn parse_account(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok().filter(|uid| *uid != 0)?;
        let gid = fields.next()?.parse().ok()?;
        Some(Account { name: name.to_owned(), uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65533:nobody:/:/bin/false\nodd\n";

    #[test]
    fn an_account_is_read_by_its_exact_name() {
        let expected = Account { name: "nobody".to_owned(), uid: 65534, gid: 65533 };
        assert_eq!(parse_account(PASSWD, "nobody"), Some(expected));
        assert_eq!(parse_account(PASSWD, "nob"), None);
        assert_eq!(parse_account(PASSWD, "odd"), None);
    }

    #[test]
    fn root_is_never_lent() {
        assert_eq!(parse_account(PASSWD, "root"), None);
    }
}
