//! A server that says what it is told to, byte by byte.

use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What an untroubled server with `trust` says to a StartupMessage.
pub const LOGIN: &[u8] =
    b"R\0\0\0\x08\0\0\0\0S\0\0\0\x0ba\0bcde\0K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05I";

/// What it answers to `select 1`.
pub const REPLY: &[u8] = b"T\0\0\0\x06\0\0D\0\0\0\x0b\0\x01\0\0\0\x011C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I";

/// A message as servers write it.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(4 + body.len()).expect("a length");
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

/// How a connection ended, as the server saw it.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// FIN, behind these bytes.
    Closed(Vec<u8>),
    /// RST.
    Reset,
}

/// A server for one connection.
pub struct Stub {
    listener: TcpListener,
}

impl Stub {
    pub async fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.expect("a port") }
    }

    pub fn dsn(&self, more: &str) -> String {
        let port = self.listener.local_addr().expect("an address").port();
        format!("host=127.0.0.1 port={port} user=u password=p {more}")
    }

    /// Reads something before each of `sayings` and then says it; closes its side when all is said.
    pub fn say(self, sayings: Vec<Vec<u8>>) -> JoinHandle<Seen> {
        self.serve(sayings, true)
    }

    /// As [`say`](Self::say), but leaves its side open.
    pub fn say_and_wait(self, sayings: Vec<Vec<u8>>) -> JoinHandle<Seen> {
        self.serve(sayings, false)
    }

    fn serve(self, sayings: Vec<Vec<u8>>, close: bool) -> JoinHandle<Seen> {
        tokio::spawn(async move {
            let (mut stream, _) = self.listener.accept().await.expect("a client");
            for saying in sayings {
                // A client that is gone already hears no more.
                if stream.read(&mut [0; 4096]).await.is_err() || stream.write_all(&saying).await.is_err() {
                    break;
                }
            }
            if close {
                let _ = stream.shutdown().await;
            }
            seen(stream).await
        })
    }
}

async fn seen(mut stream: TcpStream) -> Seen {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes).await {
        Ok(_) => Seen::Closed(bytes),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Seen::Reset,
        Err(error) => panic!("{error}"),
    }
}
