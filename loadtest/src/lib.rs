//! Load for PostgreSQL poolers.
