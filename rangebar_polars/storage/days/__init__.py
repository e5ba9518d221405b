"""Days in the store: their files, merging, writing, quarantine."""
