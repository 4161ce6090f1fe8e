//! Function instances that are real processes: Python, Node.js and Go with the drivers that people use, each a handler in
//! AWS Lambda's shape and beside it what Lambda's runtime would be (`loadtest/functions/`).
//!
//! An [`Invoker`] starts them, a bounded number; a [`ProcessInstance`] is one. It is sent events, is suspended between
//! them as Lambda suspends (SIGSTOP), and is killed at its timeout as Lambda kills. None outlives its invoker, however
//! the invoker ends. The engine uses this for functions whose plan says `runtime = "node"` and the like, and
//! `loadtest invoke` for trying a handler.

mod answer;
mod database;
mod installed;
mod invoker;
mod keeper;
mod lines;
mod process;

pub use answer::{Answer, ConnectNote};
pub use database::{Database, DatabaseError};
pub use installed::DIRECTORY_VARIABLE;
pub use invoker::{Invoker, InvokerOptions, Launch, StartError};
pub use process::ProcessInstance;
