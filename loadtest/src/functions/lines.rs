//! What processes say, in bounded memory: answers line by line, and the end of what they wrote to standard error.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// An answer has a few hundred bytes; a message from the server may make it longer.
pub const LONGEST_ANSWER: u64 = 64 * 1024;

/// Of standard error, so much is kept.
const TAIL_BYTES: usize = 2048;

/// One line without its newline; `None` at the end. A line that is longer than [`LONGEST_ANSWER`], or that the end cuts
/// off, is an error of kind `InvalidData`.
///
/// Cancel safety: none; what was read so far is lost.
pub async fn read_line(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    from.take(LONGEST_ANSWER).read_until(b'\n', &mut line).await?;
    match line.pop() {
        Some(b'\n') => Ok(Some(line)),
        Some(_) => Err(io::ErrorKind::InvalidData.into()),
        None => Ok(None),
    }
}

/// What a process wrote before its end is waited for so long: something that it started may hold the pipe open.
const TAIL_PATIENCE: Duration = Duration::from_secs(1);

/// The end of what a process writes to standard error. Read as long as it writes: a full pipe would stop it.
#[derive(Debug)]
pub struct Tail {
    kept: Arc<Kept>,
    reader: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Kept(Mutex<Vec<u8>>);

impl Tail {
    /// Reads until the process closes it, on a task of its own.
    pub fn follow(mut from: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let kept = Arc::new(Kept::default());
        let also_kept = Arc::clone(&kept);
        let reader = tokio::spawn(async move {
            let mut buffer = [0; 1024];
            while let Ok(read @ 1..) = from.read(&mut buffer).await {
                also_kept.append(buffer.get(..read).unwrap_or_default());
            }
        });
        Self { kept, reader }
    }

    /// The end of it, on one line, once the process has ended.
    ///
    /// Cancel safety: safe; it can be called again.
    pub async fn text(&mut self) -> String {
        if !self.reader.is_finished() {
            let _ = timeout(TAIL_PATIENCE, &mut self.reader).await;
        }
        self.kept.text()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Kept {
    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn append(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(bytes);
        let surplus = kept.len().saturating_sub(TAIL_BYTES);
        kept.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_told_from_the_end_and_from_nonsense() {
        let mut from: &[u8] = b"one\n\ncut";
        assert_eq!(read_line(&mut from).await.unwrap().as_deref(), Some(&b"one"[..]));
        assert_eq!(read_line(&mut from).await.unwrap().as_deref(), Some(&b""[..]));
        assert_eq!(read_line(&mut from).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(read_line(&mut from).await.unwrap(), None);
        let endless = vec![b'x'; 200_000];
        assert_eq!(read_line(&mut &*endless).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn only_the_end_is_kept() {
        let tail = Kept::default();
        for _ in 0..1000 {
            tail.append(b"a line\n");
        }
        tail.append(b"the last");
        assert!(tail.text().ends_with("a line the last"));
        assert!(tail.text().len() <= TAIL_BYTES);
    }
}
