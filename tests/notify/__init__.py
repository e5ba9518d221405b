"""Tests of notifications: real HTTP servers on loopback, real processes."""
