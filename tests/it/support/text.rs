//! The words of a script line: bare words, and texts such as `"a\n"`, `"x"*1000` and `"a"+"b"`.

/// One argument of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// Anything that does not begin with a quote.
    Word(String),
    /// The bytes of a quoted text.
    Text(Vec<u8>),
}

impl Token {
    /// A word that is a number.
    pub fn number<T: std::str::FromStr>(self) -> Result<T, String> {
        match &self {
            Self::Word(word) => word.parse().map_err(|_| format!("not a number: {word:?}")),
            Self::Text(_) => Err(format!("a number expected, not {self:?}")),
        }
    }
}

/// Splits what follows a message's name.
pub fn tokens(line: &str) -> Result<Vec<Token>, String> {
    let mut rest = line.trim_start();
    let mut tokens = Vec::new();
    while !rest.is_empty() {
        let token;
        (token, rest) = if rest.starts_with('"') { text(rest)? } else { word(rest) };
        tokens.push(token);
        rest = rest.trim_start();
    }
    Ok(tokens)
}

fn word(rest: &str) -> (Token, &str) {
    let (word, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    (Token::Word(word.to_owned()), rest)
}

fn text(rest: &str) -> Result<(Token, &str), String> {
    let mut bytes = Vec::new();
    let mut rest = rest;
    loop {
        let (mut piece, after) = quoted(rest)?;
        rest = after;
        if let Some(after) = rest.strip_prefix('*') {
            let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
            piece = piece.repeat(after[..digits].parse().map_err(|_| "a number after *")?);
            rest = &after[digits..];
        }
        bytes.append(&mut piece);
        match rest.strip_prefix('+') {
            Some(after) => rest = after,
            None => return Ok((Token::Text(bytes), rest)),
        }
    }
}

/// A quoted piece and what follows it. Escapes: `\n`, `\t`, `\r`, `\0`, `\\`, `\"`, `\xNN`.
fn quoted(text: &str) -> Result<(Vec<u8>, &str), String> {
    let inner = text.strip_prefix('"').ok_or("a quote expected")?;
    let mut bytes = Vec::new();
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((bytes, &inner[at + 1..])),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => bytes.push(b'\n'),
                Some('t') => bytes.push(b'\t'),
                Some('r') => bytes.push(b'\r'),
                Some('0') => bytes.push(0),
                Some('x') => {
                    let hex: String = chars.by_ref().take(2).map(|(_, c)| c).collect();
                    bytes.push(u8::from_str_radix(&hex, 16).map_err(|_| format!("not hex: {hex:?}"))?);
                }
                Some(c @ ('\\' | '"')) => bytes.push(c as u8),
                other => return Err(format!("unknown escape {other:?}")),
            },
            c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Err("no closing quote".to_owned())
}
