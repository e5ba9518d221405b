"""What is stored of a symbol when live bars begin."""
