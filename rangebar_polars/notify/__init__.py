"""Messages to the user's own accounts; nothing is sent unless the user has set their keys."""
