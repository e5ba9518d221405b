"""Tests of the tick store: no stored tick is lost, and no wrong tick is returned."""
