//! Features of the orders of a bar, and of its path in time.

use crate::core::columns::Column;

/// The columns in output order.
pub const COLUMNS: &[Column] = &[];
