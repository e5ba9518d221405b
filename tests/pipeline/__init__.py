"""Tests of the way from sources into the store."""
