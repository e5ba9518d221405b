"""Tests of fetches and populations."""
