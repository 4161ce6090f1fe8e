//! pgcorral: a connection-stampede guard for PostgreSQL.
//!
//! Layers, from the bottom: [`wire`], [`proto`] and [`guard`] are pure (an event and `now` go in, actions come
//! out); [`net`], [`server`], [`pool`] and [`client`] are the shell of sockets and tasks around them; [`config`]
//! builds the parameter types of all of these; [`app`] puts them together. `ARCHITECTURE.md` has the drawing.

pub mod admin;
pub mod app;
pub mod cli;
pub mod client;
pub mod config;
pub mod demo;
pub mod guard;
pub mod healthcheck;
pub mod limits;
mod lock;
pub mod net;
pub mod obs;
pub mod pool;
pub mod proto;
pub mod secret;
pub mod server;
pub mod trace;
pub mod wire;
