//! Walks a TOML tree and turns values into types, noting every fault with its place and going on.
//!
//! Whoever reads a section asks for its keys one by one; a key that nobody asked for is unknown. So the code that reads
//! is the only list of keys there is.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::error::{Faults, Origin};
use super::nearest::nearest;
use super::quantity;

/// What a key of the file came to.
#[derive(Debug, Clone, Default)]
pub(super) enum Read<T> {
    /// Not in the file.
    #[default]
    Absent,
    /// In the file, but wrong; its fault is noted, and nothing that depends on it is worth one more.
    Bad,
    /// Its value.
    Good(Entry<T>),
}

/// A value and where it was written.
#[derive(Debug, Clone)]
pub(super) struct Entry<T> {
    pub(super) value: T,
    pub(super) at: Origin,
}

impl<T> Read<T> {
    pub(super) fn good(&self) -> Option<&Entry<T>> {
        match self {
            Self::Good(entry) => Some(entry),
            Self::Absent | Self::Bad => None,
        }
    }

    pub(super) fn is_bad(&self) -> bool {
        matches!(self, Self::Bad)
    }
}

impl<T: Copy> Read<T> {
    /// The value alone.
    pub(super) fn value(&self) -> Option<T> {
        self.good().map(|entry| entry.value)
    }

    /// The value, or this one.
    pub(super) fn or(&self, default: T) -> T {
        self.value().unwrap_or(default)
    }
}

/// One file under way.
pub(super) struct Reader<'f> {
    name: Arc<str>,
    /// Relative paths start from the directory of the file.
    directory: PathBuf,
    lines: Lines<'f>,
    faults: &'f Faults,
    /// Every key that was asked for, as `databases.*.pool_size`.
    known: RefCell<BTreeSet<String>>,
}

impl<'f> Reader<'f> {
    pub(super) fn new(path: &Path, text: &'f str, faults: &'f Faults) -> Self {
        Self {
            name: path.display().to_string().into(),
            directory: path.parent().map(Path::to_path_buf).unwrap_or_default(),
            lines: Lines::new(text),
            faults,
            known: RefCell::default(),
        }
    }

    /// Reads the tree from its root.
    pub(super) fn root<T>(&self, table: &DeTable<'_>, read: impl FnOnce(&mut Section<'_, '_>) -> T) -> T {
        let at = Origin::File(Arc::clone(&self.name));
        let place = Place { at, path: String::new(), pattern: String::new() };
        Section::read(self, Some(table), place, read)
    }

    /// The place of a byte of the text, and the key that is at fault there.
    pub(super) fn origin(&self, offset: usize, key: &str) -> Origin {
        let (line, column) = self.lines.position(offset);
        Origin::Place { file: Arc::clone(&self.name), line, column, key: key.to_owned() }
    }

    /// The line of a byte of the text, counted from one.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.lines.position(offset).0
    }

    /// A path as it is meant: from the directory of the file.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.directory.join(path)
    }

    /// Every key that was asked for, with `*` for names.
    #[cfg(test)]
    pub(super) fn known(&self) -> BTreeSet<String> {
        self.known.borrow().clone()
    }
}

/// Where a section is: for errors, for its keys, and for the list of known keys.
struct Place {
    at: Origin,
    /// As the user would write it, `databases.app`.
    path: String,
    /// With `*` for names, `databases.*`.
    pattern: String,
}

/// One table of the file, or the empty one that stands for its absence.
pub(super) struct Section<'r, 'f> {
    reader: &'r Reader<'f>,
    table: Option<&'r DeTable<'r>>,
    place: Place,
    asked: Vec<&'static str>,
}

/// A key and its value, of whatever type.
struct Found<'r> {
    key_at: Origin,
    at: Origin,
    value: &'r DeValue<'r>,
}

impl<'r, 'f> Section<'r, 'f> {
    fn read<T>(
        reader: &'r Reader<'f>,
        table: Option<&'r DeTable<'r>>,
        place: Place,
        read: impl FnOnce(&mut Section<'r, 'f>) -> T,
    ) -> T {
        let mut section = Section { reader, table, place, asked: Vec::new() };
        let value = read(&mut section);
        section.report_unknown();
        value
    }

    pub(super) fn reader(&self) -> &'r Reader<'f> {
        self.reader
    }

    /// Where the section starts.
    pub(super) fn at(&self) -> &Origin {
        &self.place.at
    }

    pub(super) fn fault(&self, at: &Origin, message: impl Into<String>) {
        self.reader.faults.add(at, message);
    }

    /// A whole number in a range.
    pub(super) fn count(&mut self, key: &'static str, range: RangeInclusive<usize>) -> Read<usize> {
        self.value(key, |value| {
            let DeValue::Integer(integer) = value else { return Err(wrong_type("a whole number", value)) };
            whole(integer)
                .filter(|n| range.contains(n))
                .ok_or_else(|| format!("must be from {} to {}", range.start(), range.end()))
        })
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, key: &'static str) -> Read<bool> {
        self.value(key, |value| match value {
            DeValue::Boolean(boolean) => Ok(*boolean),
            _ => Err(wrong_type("true or false", value)),
        })
    }

    /// A share of a whole: above 0, and 1 at most.
    pub(super) fn fraction(&mut self, key: &'static str) -> Read<f64> {
        self.number(key, "above 0 and up to 1", |n| n > 0.0 && n <= 1.0)
    }

    /// A share of a whole, or none of it.
    pub(super) fn fraction_or_zero(&mut self, key: &'static str) -> Read<f64> {
        self.number(key, "from 0 to 1", |n| (0.0..=1.0).contains(&n))
    }

    fn number(&mut self, key: &'static str, range: &str, fits: impl Fn(f64) -> bool) -> Read<f64> {
        self.value(key, |value| {
            let number = match value {
                DeValue::Float(float) => float.as_str().parse::<f64>().ok(),
                // `1` is as good as `1.0`.
                DeValue::Integer(integer) => whole(integer).map(|n| n as f64),
                _ => return Err(wrong_type(&format!("a number {range}"), value)),
            };
            number.filter(|n| fits(*n)).ok_or_else(|| format!("must be {range}"))
        })
    }

    /// A duration that may be zero.
    pub(super) fn duration_or_zero(&mut self, key: &'static str) -> Read<Duration> {
        self.value(key, |value| match value {
            DeValue::String(text) => quantity::duration(text),
            DeValue::Integer(n) => Err(format!("needs a unit: is it \"{n}s\" or \"{n}ms\"?")),
            DeValue::Float(n) => {
                Err(format!("needs a unit: is it \"{}s\" or \"{}ms\"?", n.as_str(), n.as_str()))
            }
            _ => Err(wrong_type("a duration like \"1.5s\"", value)),
        })
    }

    /// A duration longer than zero.
    pub(super) fn duration(&mut self, key: &'static str) -> Read<Duration> {
        match self.duration_or_zero(key) {
            Read::Good(entry) if entry.value.is_zero() => {
                self.fault(&entry.at, "must be longer than zero");
                Read::Bad
            }
            read => read,
        }
    }

    /// A size in bytes, in a range.
    pub(super) fn size(&mut self, key: &'static str, range: RangeInclusive<usize>) -> Read<usize> {
        self.value(key, |value| {
            let bytes = match value {
                DeValue::String(text) => quantity::size(text),
                DeValue::Integer(n) => Err(format!("needs a unit: is it \"{n}B\" or \"{n}KiB\"?")),
                _ => Err(wrong_type("a size like \"64KiB\"", value)),
            }?;
            let (least, most) = (quantity::print_size(*range.start()), quantity::print_size(*range.end()));
            if range.contains(&bytes) { Ok(bytes) } else { Err(format!("must be from {least} to {most}")) }
        })
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&'static str, T)]) -> Read<T> {
        self.parsed(key, |text| match choices.iter().find(|(name, _)| *name == text) {
            Some((_, choice)) => Ok(*choice),
            None => {
                let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
                Err(format!("{text:?} is not one of {}", names.join(", ")))
            }
        })
    }

    /// A path, from the directory of the file if it is relative.
    pub(super) fn path(&mut self, key: &'static str) -> Read<PathBuf> {
        let reader = self.reader;
        self.parsed(key, |text| match text {
            "" => Err("is empty".to_owned()),
            _ if text.contains('\0') => Err("contains a NUL character".to_owned()),
            _ => Ok(reader.resolve(text)),
        })
    }

    /// A string that means something else. The parser's error must not contain a secret.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Read<T> {
        self.value(key, |value| match value {
            DeValue::String(text) => parse(text),
            _ => Err(wrong_type("a string", value)),
        })
    }

    /// An array of strings that mean something else. Its good elements are kept beside its bad ones.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Read<Vec<Entry<T>>> {
        let Some(found) = self.find(key) else { return Read::Absent };
        let DeValue::Array(items) = found.value else {
            self.fault(&found.at, wrong_type("an array of strings", found.value));
            return Read::Bad;
        };
        let path = self.path_of(key);
        let entries: Vec<_> = items.iter().filter_map(|item| self.element(&path, item, &parse)).collect();
        if entries.len() == items.len() {
            Read::Good(Entry { value: entries, at: found.at })
        } else {
            Read::Bad
        }
    }

    /// A table of fixed keys. Absent, it is read all the same, so that its keys are known.
    pub(super) fn section<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section<'r, 'f>) -> T,
    ) -> T {
        let found = self.find(key);
        let table = found.as_ref().and_then(|found| self.table_of(found));
        let place = Place {
            at: found.map_or_else(|| self.place.at.clone(), |found| found.key_at),
            path: self.path_of(key),
            pattern: join(&self.place.pattern, key),
        };
        Self::read(self.reader, table, place, read)
    }

    /// A table of tables whose keys are names that users chose. Sorted by name.
    pub(super) fn named<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&str, &mut Section<'r, 'f>) -> T,
    ) -> Vec<T> {
        let Some(found) = self.find(key) else { return Vec::new() };
        let Some(table) = self.table_of(&found) else { return Vec::new() };
        let pattern = join(&join(&self.place.pattern, key), "*");
        let read_one = |(name, value): (&'r Spanned<_>, &'r Spanned<DeValue<'r>>)| {
            let name: &Spanned<std::borrow::Cow<'r, str>> = name;
            let path = join(&self.path_of(key), &quoted(name.get_ref()));
            let at = self.reader.origin(name.span().start, &path);
            self.check_name(name.get_ref(), &at);
            let found = Found { key_at: at.clone(), at: at.clone(), value: value.get_ref() };
            let table = self.table_of(&found);
            let place = Place { at, path, pattern: pattern.clone() };
            Self::read(self.reader, table, place, |section| read(name.get_ref(), section))
        };
        table.iter().map(read_one).collect()
    }

    fn check_name(&self, name: &str, at: &Origin) {
        if name.is_empty() || name.contains('\0') {
            self.fault(at, "a name must not be empty or contain a NUL character");
        }
    }

    fn element<T>(
        &self,
        path: &str,
        item: &Spanned<DeValue<'_>>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Entry<T>> {
        let at = self.reader.origin(item.span().start, path);
        let parsed = match item.get_ref() {
            DeValue::String(text) => parse(text),
            other => Err(wrong_type("a string", other)),
        };
        match parsed {
            Ok(value) => Some(Entry { value, at }),
            Err(message) => {
                self.fault(&at, message);
                None
            }
        }
    }

    fn value<T>(
        &mut self,
        key: &'static str,
        convert: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Read<T> {
        let Some(found) = self.find(key) else { return Read::Absent };
        match convert(found.value) {
            Ok(value) => Read::Good(Entry { value, at: found.at }),
            Err(message) => {
                self.fault(&found.at, message);
                Read::Bad
            }
        }
    }

    fn find(&mut self, key: &'static str) -> Option<Found<'r>> {
        self.asked.push(key);
        self.reader.known.borrow_mut().insert(join(&self.place.pattern, key));
        let (name, value) = self.table?.get_key_value(key)?;
        let path = self.path_of(key);
        Some(Found {
            key_at: self.reader.origin(name.span().start, &path),
            at: self.reader.origin(value.span().start, &path),
            value: value.get_ref(),
        })
    }

    fn table_of(&self, found: &Found<'r>) -> Option<&'r DeTable<'r>> {
        match found.value {
            DeValue::Table(table) => Some(table),
            other => {
                self.fault(&found.at, wrong_type("a table", other));
                None
            }
        }
    }

    fn path_of(&self, key: &str) -> String {
        join(&self.place.path, key)
    }

    fn report_unknown(&self) {
        let Some(table) = self.table else { return };
        for name in table.keys().filter(|name| !self.asked.contains(&name.get_ref().as_ref())) {
            let at = self.reader.origin(name.span().start, &self.path_of(&quoted(name.get_ref())));
            let message = match nearest(name.get_ref(), self.asked.iter().copied()) {
                Some(known) => format!("unknown key; did you mean `{known}`?"),
                None => format!("unknown key; known here: {}", self.asked.join(", ")),
            };
            self.fault(&at, message);
        }
    }
}

/// Where the lines of a text begin.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Self {
        let after_newlines =
            text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { text, starts: std::iter::once(0).chain(after_newlines).collect() }
    }

    /// Line and column of a byte, counted from one; columns are characters.
    fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).and_then(|n| self.starts.get(n)).copied().unwrap_or(0);
        let before = self.text.get(start..offset).unwrap_or_default();
        (line, before.chars().count() + 1)
    }
}

fn whole(integer: &DeInteger<'_>) -> Option<usize> {
    usize::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn wrong_type(wanted: &str, value: &DeValue<'_>) -> String {
    let got = match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    };
    format!("must be {wanted}, not {got}")
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// A name as TOML wants it written.
fn quoted(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(bare) { name.to_owned() } else { format!("{name:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let lines = Lines::new("ä = 1\nb = 2\n");
        let positions = [(0, (1, 1)), (2, (1, 2)), (7, (2, 1)), (11, (2, 5)), (13, (3, 1)), (99, (3, 1))];
        for (offset, position) in positions {
            assert_eq!(lines.position(offset), position, "byte {offset}");
        }
    }

    #[test]
    fn names_are_quoted_where_toml_needs_it() {
        for (name, written) in [("app", "app"), ("my-app_2", "my-app_2"), ("a.b", "\"a.b\""), ("", "\"\"")] {
            assert_eq!(quoted(name), written);
        }
    }
}
