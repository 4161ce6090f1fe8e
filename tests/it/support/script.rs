//! Conversations as text files (`tests/conformance/*.pgt`), each played to any server. `tests/conformance/README.md` has
//! the grammar.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::decode;
use super::text::{Token, tokens};
use super::transcript::{Errors, Transcript};
use super::wire::{self, Fault, Message, PROTOCOL_3_0, Wire, tagged};

/// A server to play to, and as whom.
#[derive(Debug, Clone)]
pub struct Target {
    /// For messages: `direct`, `transaction`, `session`.
    pub name: &'static str,
    /// Where clients connect.
    pub address: SocketAddr,
    /// Role.
    pub user: String,
    /// Its password.
    pub password: String,
    /// Database, unless the script names another one.
    pub database: String,
}

/// A parsed file.
#[derive(Debug)]
pub struct Script {
    /// The proxy has to be in session mode: the script keeps session state across transactions.
    pub session: bool,
    /// Not played through the proxy, for this reason.
    pub direct_only: Option<String>,
    errors: Errors,
    setup: Vec<String>,
    steps: Vec<(usize, Step)>,
}

#[derive(Debug, Clone)]
enum Step {
    /// The connection that the next steps are about.
    On(String),
    /// Connect with these startup parameters.
    Connect(Vec<(String, String)>),
    /// Collect a message to be sent with the next write or await.
    Send(Vec<u8>),
    /// Send what was collected.
    Write,
    /// Read up to the n-th reply of a type.
    Until(u8, usize),
    /// Read up to the end of the connection.
    Closed,
    /// What the replies of the last await must begin with.
    Expect(Vec<String>),
    /// A CancelRequest with the key of this connection.
    Cancel(String),
    /// Wait until this query, run by a superuser directly, is true.
    Wait(String),
}

impl Script {
    /// Parses a file; an error names the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut script = Self {
            session: false,
            direct_only: None,
            errors: Errors::Exact,
            setup: Vec::new(),
            steps: Vec::new(),
        };
        let mut loops: Vec<(usize, usize)> = Vec::new();
        for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            script
                .parse_line(number, line, &mut loops)
                .map_err(|reason| format!("line {number}: {reason}"))?;
        }
        if loops.is_empty() { Ok(script) } else { Err("repeat without end".to_owned()) }
    }

    fn parse_line(
        &mut self,
        number: usize,
        line: &str,
        loops: &mut Vec<(usize, usize)>,
    ) -> Result<(), String> {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        match word {
            "mode" => self.session = rest == "session",
            "direct-only" => self.direct_only = Some(rest.to_owned()),
            "errors" => self.errors = parse_errors(rest)?,
            "setup" => self.setup.push(rest.to_owned()),
            "repeat" => loops.push((self.steps.len(), parse_number(rest)?)),
            "end" => self.unroll(loops.pop().ok_or("end without repeat")?),
            "<" => self.expect(number, rest),
            _ => self.steps.push((number, parse_step(word, rest)?)),
        }
        Ok(())
    }

    fn unroll(&mut self, (start, times): (usize, usize)) {
        let body = self.steps[start..].to_vec();
        for _ in 1..times {
            self.steps.extend_from_slice(&body);
        }
    }

    fn expect(&mut self, number: usize, line: &str) {
        if let Some((_, Step::Expect(lines))) = self.steps.last_mut() {
            lines.push(line.to_owned());
        } else {
            self.steps.push((number, Step::Expect(vec![line.to_owned()])));
        }
    }

    /// Plays the script and returns what was answered. `root` is a superuser's own connection to the same cluster.
    pub fn play(&self, target: &Target, root: &mut Wire) -> Result<Transcript, String> {
        root.rows(&format!("set role {}", target.user));
        for sql in &self.setup {
            root.run(sql);
        }
        root.rows("reset role");
        let mut player = Player {
            target,
            root,
            errors: self.errors,
            transcript: Transcript::default(),
            connections: HashMap::new(),
            current: "a".to_owned(),
            last: Vec::new(),
        };
        for (number, step) in &self.steps {
            player.step(step).map_err(|reason| {
                let lines = player.transcript.lines();
                let tail = lines[lines.len().saturating_sub(6)..].join("\n    ");
                format!("{}: line {number}: {reason}; before it:\n    {tail}", target.name)
            })?;
        }
        player.finish().map_err(|reason| format!("{}: at the end: {reason}", target.name))?;
        Ok(player.transcript)
    }
}

/// One performance of a script.
struct Player<'a> {
    target: &'a Target,
    root: &'a mut Wire,
    errors: Errors,
    transcript: Transcript,
    connections: HashMap<String, Connection>,
    current: String,
    /// The replies of the last await, as lines.
    last: Vec<String>,
}

struct Connection {
    wire: Wire,
    unsent: Vec<u8>,
    open: bool,
}

impl Player<'_> {
    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::On(name) => self.current = name.clone(),
            Step::Connect(params) => self.connect(params)?,
            Step::Send(bytes) => self.connection()?.unsent.extend_from_slice(bytes),
            Step::Write => self.write()?,
            Step::Until(tag, times) => self.until(*tag, *times)?,
            Step::Closed => self.closed()?,
            Step::Expect(lines) => self.expect(lines)?,
            Step::Cancel(name) => self.cancel(name)?,
            Step::Wait(sql) => self.wait(sql)?,
        }
        Ok(())
    }

    /// The current connection, logged in with the default parameters if the script did not connect it.
    fn connection(&mut self) -> Result<&mut Connection, String> {
        if !self.connections.contains_key(&self.current) {
            self.connect(&[])?;
        }
        self.connections.get_mut(&self.current).ok_or_else(|| "not connected".to_owned())
    }

    fn connect(&mut self, params: &[(String, String)]) -> Result<(), String> {
        let mut all = vec![("user", self.target.user.as_str()), ("database", &self.target.database)];
        let mut password = self.target.password.as_str();
        let mut version = PROTOCOL_3_0;
        for (name, value) in params {
            match name.as_str() {
                "password" => password = value,
                "version" => version = parse_version(value)?,
                _ => set(&mut all, name, value),
            }
        }
        // `database=` leaves it out of the packet, as a client does that names none.
        all.retain(|(name, value)| *name != "database" || !value.is_empty());
        let user = all.iter().find(|(name, _)| *name == "user").map_or("", |(_, value)| *value).to_owned();
        let mut wire = Wire::connect(self.target.address).map_err(|e| format!("connect: {e}"))?;
        wire.send_startup(version, &all).map_err(|e| format!("startup: {e}"))?;
        let (messages, result) = wire.authenticate(&user, password);
        self.last = messages.iter().map(Message::to_string).collect();
        self.transcript.login(&self.current, &messages);
        if let Err(fault) = &result {
            if let Fault::Broken(error) = fault {
                return Err(format!("login: {error}"));
            }
            self.transcript.closed(&self.current, Errors::Message);
        }
        let connection = Connection { wire, unsent: Vec::new(), open: result.is_ok() };
        self.connections.insert(self.current.clone(), connection);
        Ok(())
    }

    fn write(&mut self) -> Result<(), String> {
        let connection = self.connection()?;
        let bytes = std::mem::take(&mut connection.unsent);
        if bytes.is_empty() {
            return Ok(());
        }
        match connection.wire.send(&bytes).map_err(Fault::from) {
            // A peer that closed meanwhile is seen by the next read.
            Ok(()) | Err(Fault::Closed) => Ok(()),
            Err(Fault::Broken(error)) => Err(format!("write: {error}")),
        }
    }

    fn until(&mut self, tag: u8, times: usize) -> Result<(), String> {
        self.write()?;
        self.last.clear();
        for _ in 0..times {
            let replies = self.connection()?.wire.read_until(tag);
            let (messages, fault) = match replies {
                Ok(messages) => (messages, None),
                Err((messages, fault)) => (messages, Some(fault)),
            };
            self.record(&messages);
            match fault {
                None => {}
                Some(Fault::Broken(error)) => {
                    return Err(format!("no {} but {error}", decode::name(tag)));
                }
                Some(Fault::Closed) => {
                    self.mark_closed();
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn closed(&mut self) -> Result<(), String> {
        self.write()?;
        self.last.clear();
        while self.connection()?.open {
            match self.connection()?.wire.read() {
                Ok(message) => self.record(&[message]),
                Err(Fault::Closed) => self.mark_closed(),
                Err(Fault::Broken(error)) => return Err(format!("not closed but {error}")),
            }
        }
        Ok(())
    }

    fn record(&mut self, messages: &[Message]) {
        for message in messages {
            self.last.push(message.to_string());
            self.transcript.reply(&self.current, message, self.errors);
        }
    }

    fn mark_closed(&mut self) {
        if let Some(connection) = self.connections.get_mut(&self.current) {
            connection.open = false;
        }
        self.transcript.closed(&self.current, self.errors);
        self.last.push("Closed".to_owned());
    }

    fn expect(&mut self, lines: &[String]) -> Result<(), String> {
        // What PostgreSQL answers is the expectation; the literal ones document it.
        if self.target.name != "direct" {
            return Ok(());
        }
        for at in 0..self.last.len().max(lines.len()) {
            let (got, wanted) = (self.last.get(at), lines.get(at));
            if !matches!((got, wanted), (Some(got), Some(wanted)) if got.starts_with(wanted.as_str())) {
                return Err(format!("expected {wanted:?}, got {got:?}"));
            }
        }
        Ok(())
    }

    fn cancel(&mut self, name: &str) -> Result<(), String> {
        let connection = self.connections.get(name).ok_or("cancel of a connection that is not there")?;
        let key = connection.wire.cancel_key.clone().ok_or("no cancel key")?;
        wire::cancel(self.target.address, &key);
        Ok(())
    }

    fn wait(&mut self, sql: &str) -> Result<(), String> {
        self.write()?;
        let limit = Instant::now() + wire::PATIENCE;
        while self.root.value(sql) != "t" {
            if Instant::now() > limit {
                return Err(format!("never true: {sql}"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Every connection says goodbye; what it still had to read is part of the transcript.
    fn finish(&mut self) -> Result<(), String> {
        let mut names: Vec<String> = self.connections.keys().cloned().collect();
        names.sort();
        for name in names {
            self.current = name;
            if self.connection()?.open {
                self.connection()?.unsent.extend(tagged(b'X', &[]));
                self.closed()?;
            }
        }
        Ok(())
    }
}

fn set<'a>(params: &mut Vec<(&'a str, &'a str)>, name: &'a str, value: &'a str) {
    match params.iter_mut().find(|(known, _)| *known == name) {
        Some(entry) => entry.1 = value,
        None => params.push((name, value)),
    }
}

fn parse_step(word: &str, rest: &str) -> Result<Step, String> {
    Ok(match word {
        ">" => Step::Send(parse_message(rest)?),
        "on" => Step::On(rest.to_owned()),
        "connect" => Step::Connect(parse_params(rest)?),
        "write" => Step::Write,
        "until" => parse_until(rest)?,
        "closed" => Step::Closed,
        "cancel" => Step::Cancel(rest.to_owned()),
        "wait" => Step::Wait(rest.to_owned()),
        _ => return Err(format!("unknown word {word:?}")),
    })
}

fn parse_errors(word: &str) -> Result<Errors, String> {
    match word {
        "exact" => Ok(Errors::Exact),
        "message" => Ok(Errors::Message),
        "code" => Ok(Errors::Code),
        "optional" => Ok(Errors::Optional),
        _ => Err(format!("unknown errors {word:?}")),
    }
}

fn parse_number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("not a number: {word:?}"))
}

fn parse_version(word: &str) -> Result<i32, String> {
    let (major, minor) = word.split_once('.').ok_or("a version is major.minor")?;
    Ok((parse_number::<i32>(major)? << 16) | parse_number::<i32>(minor)?)
}

fn parse_until(rest: &str) -> Result<Step, String> {
    let (name, times) = rest.split_once(' ').unwrap_or((rest, "1"));
    let tag = decode::tag(name).ok_or_else(|| format!("unknown reply {name:?}"))?;
    Ok(Step::Until(tag, parse_number(times)?))
}

/// `name=value` or `name="a value"`, several on a line.
fn parse_params(rest: &str) -> Result<Vec<(String, String)>, String> {
    let mut params = Vec::new();
    let mut rest = rest.trim();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or("a parameter is name=value")?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or("no closing quote")?,
            None => after.split_once(' ').unwrap_or((after, "")),
        };
        params.push((name.to_owned(), value.to_owned()));
        rest = after.trim();
    }
    Ok(params)
}

/// A message of the client, as bytes.
fn parse_message(line: &str) -> Result<Vec<u8>, String> {
    let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
    let mut args = tokens(rest)?.into_iter();
    let message = match name {
        "Query" => tagged(b'Q', &args.next().cstr()?),
        "Parse" => {
            let mut body = [args.next().cstr()?, args.next().cstr()?].concat();
            let types = args.by_ref().map(|t| t.number::<u32>()).collect::<Result<Vec<_>, _>>()?;
            body.extend(count(types.len())?);
            types.iter().for_each(|oid| body.extend(oid.to_be_bytes()));
            tagged(b'P', &body)
        }
        "Bind" => bind(&mut args)?,
        "Describe" => tagged(b'D', &kind_and_name(&mut args)?),
        "Close" => tagged(b'C', &kind_and_name(&mut args)?),
        "Execute" => {
            let mut body = args.next().cstr()?;
            let rows: i32 = args.next().map_or(Ok(0), |t| t.number())?;
            body.extend(rows.to_be_bytes());
            tagged(b'E', &body)
        }
        "Sync" => tagged(b'S', &[]),
        "Flush" => tagged(b'H', &[]),
        "CopyData" => tagged(b'd', &args.next().bytes()?),
        "CopyDone" => tagged(b'c', &[]),
        "CopyFail" => tagged(b'f', &args.next().cstr()?),
        "Password" => tagged(b'p', &args.next().cstr()?),
        "Terminate" => tagged(b'X', &[]),
        "FunctionCall" => function_call(&mut args)?,
        // A type byte of one's own with a body, and bytes without any framing.
        "Message" => {
            tagged(*args.next().bytes()?.first().ok_or("a type byte is missing")?, &args.next().bytes()?)
        }
        "Raw" => args.next().bytes()?,
        _ => return Err(format!("unknown message {name:?}")),
    };
    match args.next() {
        None => Ok(message),
        Some(extra) => Err(format!("too much for {name}: {extra:?}")),
    }
}

type Args = std::vec::IntoIter<Token>;

/// `Bind portal statement value… [formats=0,1] [results=1]`.
fn bind(args: &mut Args) -> Result<Vec<u8>, String> {
    let mut body = [args.next().cstr()?, args.next().cstr()?].concat();
    let (mut values, mut formats, mut results) = (Vec::new(), Vec::new(), Vec::new());
    for token in args {
        match token {
            Token::Word(word) if word == "null" => values.push(None),
            Token::Word(word) => match word.split_once('=') {
                Some(("formats", list)) => formats = codes(list)?,
                Some(("results", list)) => results = codes(list)?,
                _ => return Err(format!("not a value: {word}")),
            },
            Token::Text(bytes) => values.push(Some(bytes)),
        }
    }
    body.extend(counted_codes(&formats)?);
    body.extend(count(values.len())?);
    for value in values {
        body.extend(sized(value.as_deref())?);
    }
    body.extend(counted_codes(&results)?);
    Ok(tagged(b'B', &body))
}

/// `FunctionCall oid value…`, everything as text.
fn function_call(args: &mut Args) -> Result<Vec<u8>, String> {
    let oid: u32 = args.next().ok_or("an oid is missing")?.number()?;
    let mut body = oid.to_be_bytes().to_vec();
    let values = args.map(|t| Some(t).bytes()).collect::<Result<Vec<_>, _>>()?;
    body.extend(count(0)?);
    body.extend(count(values.len())?);
    for value in values {
        body.extend(sized(Some(&value))?);
    }
    body.extend(0_i16.to_be_bytes());
    Ok(tagged(b'F', &body))
}

fn kind_and_name(args: &mut Args) -> Result<Vec<u8>, String> {
    match args.next() {
        Some(Token::Word(kind)) if kind == "S" || kind == "P" => {
            Ok([kind.into_bytes(), args.next().cstr()?].concat())
        }
        other => Err(format!("S or P expected, not {other:?}")),
    }
}

fn codes(list: &str) -> Result<Vec<i16>, String> {
    list.split(',').map(parse_number).collect()
}

fn counted_codes(codes: &[i16]) -> Result<Vec<u8>, String> {
    let mut bytes = count(codes.len())?.to_vec();
    codes.iter().for_each(|code| bytes.extend(code.to_be_bytes()));
    Ok(bytes)
}

fn count(n: usize) -> Result<[u8; 2], String> {
    u16::try_from(n).map(u16::to_be_bytes).map_err(|e| e.to_string())
}

fn sized(value: Option<&[u8]>) -> Result<Vec<u8>, String> {
    let Some(value) = value else { return Ok((-1_i32).to_be_bytes().to_vec()) };
    let length = i32::try_from(value.len()).map_err(|e| e.to_string())?;
    Ok([&length.to_be_bytes(), value].concat())
}

/// Arguments that have to be there and to be text.
trait Argument {
    fn bytes(self) -> Result<Vec<u8>, String>;
    fn cstr(self) -> Result<Vec<u8>, String>;
}

impl Argument for Option<Token> {
    fn bytes(self) -> Result<Vec<u8>, String> {
        match self {
            Some(Token::Text(bytes)) => Ok(bytes),
            other => Err(format!("text expected, not {other:?}")),
        }
    }

    fn cstr(self) -> Result<Vec<u8>, String> {
        let mut bytes = self.bytes()?;
        bytes.push(0);
        Ok(bytes)
    }
}
