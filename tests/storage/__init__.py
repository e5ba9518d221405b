"""Laws of the tick store: nothing that was given is lost, and nothing wrong is given."""
