"""Notifications to the user's own accounts, sent only if the user has set their keys."""
