"""Settings: types of their values, and those of live bars."""
