//! Exact arithmetic: conversion to the grid, and quotients of sums on it.

pub mod contracts;
pub mod grid;
pub mod powers;
pub mod quotient;
pub mod scale;
pub mod wide;
