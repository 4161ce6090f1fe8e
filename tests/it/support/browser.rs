//! A real browser, driven by Chromium's own driver: WebDriver (W3C) is JSON over HTTP, and a test needs six of its commands. The
//! crates for it bring an HTTP stack, cookies and an asynchronous client for that, and know nothing of Chromium's log.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

const MISSING: &str = "chromedriver does not start: scripts/setup-browser.sh installs it and Chromium, where Debian's \
                       packages can be had";

/// Runs the driver until its own standard input is closed, so that nothing is left when the test is killed: the browser ends
/// when the pipe breaks that it is driven by, and has a moment to put its profile away.
const DRIVER: &str = "command -v chromedriver >/dev/null || exit 1
    export TMPDIR=$1
    chromedriver --port=0 & read -r _; kill $!; wait; sleep 0.5; rm -rf \"$1\"";

/// The first start of a browser on a busy machine takes longer than anything else here.
const PATIENCE: Duration = Duration::from_secs(90);

/// How the driver says where it listens.
const STARTED: &str = "started successfully on port ";

/// The key that goes from one control to the next (WebDriver, 17.4.2).
pub const TAB: &str = "\u{E004}";
pub const LEFT: &str = "\u{E012}";
pub const ENTER: &str = "\u{E007}";

/// One window without a screen. Dropped, it is gone with its profile.
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    /// Its profile and what else it leaves lying about.
    _files: tempfile::TempDir,
}

impl Browser {
    /// Panics with what to do if there is no browser.
    pub fn start() -> Self {
        let files = tempfile::tempdir().expect("a directory");
        let mut driver = Command::new("sh")
            .args(["-c", DRIVER, "driver"])
            .arg(files.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh");
        let mut lines = BufReader::new(driver.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let port = lines.find_map(|line| line.split_once(STARTED)?.1.trim_end_matches('.').parse().ok());
        let port = port.expect(MISSING);
        let mut browser = Self { driver, port, session: String::new(), _files: files };
        browser.session = browser.begin();
        browser
    }

    /// As root and in containers Chromium has no sandbox of its own, and little shared memory; it sees only our page.
    fn begin(&self) -> String {
        let arguments =
            ["--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-dev-shm-usage"];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let begun = self.exchange("POST", "/session", &wanted);
        begun["sessionId"].as_str().expect("a session").to_owned()
    }

    /// Opens an address and waits until the document is there.
    pub fn open(&self, address: &str) {
        self.command("url", &json!({"url": address}));
    }

    /// Runs a function's body in the page, with these arguments; what it returns.
    pub fn run(&self, body: &str, arguments: Value) -> Value {
        self.command("execute/sync", &json!({"script": body, "args": arguments}))
    }

    /// Presses and releases a key.
    pub fn press(&self, key: &str) {
        let stroke = json!([{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]);
        self.command("actions", &json!({"actions": [{"type": "key", "id": "keys", "actions": stroke}]}));
    }

    /// Types a text into what has the focus.
    pub fn type_text(&self, text: &str) {
        text.chars().for_each(|letter| self.press(&letter.to_string()));
    }

    /// The size of the window's inside, and what the user prefers: `light` or `dark`.
    pub fn look(&self, width: u32, height: u32, scheme: &str) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
        let preferred = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", &preferred);
    }

    /// What the page and the browser have complained about since the last time.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.command("se/log", &json!({"type": "browser"}));
        let entries = log.as_array().expect("a list").iter();
        let bad = entries.filter(|entry| matches!(entry["level"].as_str(), Some("SEVERE" | "WARNING")));
        bad.map(|entry| entry["message"].to_string()).collect()
    }

    fn devtools(&self, command: &str, parameters: &Value) {
        self.command("goog/cdp/execute", &json!({"cmd": command, "params": parameters}));
    }

    fn command(&self, name: &str, parameters: &Value) -> Value {
        self.exchange("POST", &format!("/session/{}/{name}", self.session), parameters)
    }

    /// Panics with what the driver says if it says no.
    fn exchange(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.ask(method, path, &body.to_string()).expect("the driver answers");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert!(answer["value"]["error"].is_null(), "{path}: {answer:#}");
        answer["value"].clone()
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let mut reply = BufReader::new(stream);
        let (mut line, mut length) = (String::new(), 0);
        while reply.read_line(&mut line)? > 2 {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().map_err(std::io::Error::other)?;
            }
            line.clear();
        }
        let mut text = vec![0; length];
        reply.read_exact(&mut text)?;
        String::from_utf8(text).map_err(std::io::Error::other)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Whatever has failed: the driver takes the browser with it.
        let _ = self.ask("DELETE", &format!("/session/{}", self.session), "");
        drop(self.driver.stdin.take());
        let _ = self.driver.wait();
    }
}
