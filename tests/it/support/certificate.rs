//! Certificates for `localhost` as PEM files: one that nobody signed, and those of an authority of our own.

use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
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
        Self { chain: file(&made.cert.pem()), key: file(&made.signing_key.serialize_pem()) }
    }

    /// The same, but it ends so long from now.
    pub fn ending_in(time: Duration) -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that goes right");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_1970 + time;
        let made = params.self_signed(&key).expect("a certificate");
        Self { chain: file(&made.pem()), key: file(&key.serialize_pem()) }
    }

    /// Chain and key.
    pub fn paths(&self) -> (String, String) {
        let path = |file: &NamedTempFile| file.path().display().to_string();
        (path(&self.chain), path(&self.key))
    }
}

/// Who signs certificates. Two of them differ in nothing but their keys.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    chain: NamedTempFile,
}

impl Authority {
    /// Makes a key.
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "an authority of the tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let own = params.self_signed(&key).expect("a certificate");
        Self { chain: file(&own.pem()), issuer: Issuer::new(params, key) }
    }

    /// Signs a certificate for `localhost`.
    pub fn certificate(&self) -> Certificate {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let signed = params.signed_by(&key, &self.issuer).expect("a certificate");
        Certificate { chain: file(&signed.pem()), key: file(&key.serialize_pem()) }
    }

    /// Its own certificate.
    pub fn path(&self) -> String {
        self.chain.path().display().to_string()
    }
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("write");
    file
}
