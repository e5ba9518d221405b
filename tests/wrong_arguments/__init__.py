"""Wrong arguments of every entry point: what the error says, and whether its hint works."""
