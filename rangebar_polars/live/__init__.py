"""Live bars: the engine that applies an exchange's trades by id and delivers the bars they end."""
