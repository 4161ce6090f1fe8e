//! How fast the generator itself is.

pub mod cases;
mod child;
pub mod stub;
