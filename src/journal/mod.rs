//! The journal of a live day: a file to which records of trades are appended.
//!
//! A file is a header of 64 bytes and records, each with a checksum. It is read up to the first record
//! that is incomplete or damaged. Integers are little-endian. The module depends on neither Polars nor
//! Python, and reads and writes no file itself.

pub mod columns;
pub mod content;
pub mod header;
pub mod record;
