//! Exact arithmetic on the grid: conversion to it, quotients of its sums.

pub mod grid;
pub mod quotient;
pub mod scale;
