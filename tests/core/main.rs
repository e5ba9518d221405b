//! Tests of the core through its public surface, as one binary. Needs neither Polars nor Python.

mod faults;
mod forged;
mod golden;
mod layers;
mod naive;
mod properties;
mod trades;
