//! A certificate for `localhost` that nobody signed, as two PEM files.

use std::io::Write as _;

use tempfile::NamedTempFile;

/// Two files, removed on drop.
pub struct Certificate {
    chain: NamedTempFile,
    key: NamedTempFile,
}

impl Certificate {
    /// Makes a key and signs it with itself.
    pub fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let file = |text: String| {
            let mut file = NamedTempFile::new().expect("a file");
            file.write_all(text.as_bytes()).expect("write");
            file
        };
        Self { chain: file(made.cert.pem()), key: file(made.signing_key.serialize_pem()) }
    }

    /// Chain and key.
    pub fn paths(&self) -> (String, String) {
        let path = |file: &NamedTempFile| file.path().display().to_string();
        (path(&self.chain), path(&self.key))
    }
}
