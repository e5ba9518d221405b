"""Small helpers without knowledge of ticks, bars or stores."""
