//! Tests of the public interface of the core, as one binary that needs neither Polars nor Python.

mod faults;
mod feature_limits;
mod feature_naive;
mod feature_states;
mod features;
mod forged;
mod golden;
mod layers;
// The plugin has an allocator of its own.
#[cfg(not(feature = "plugin"))]
mod memory;
mod naive;
mod properties;
mod trades;
