"""Notifications to the user's own accounts, sent only if the user has set their keys."""

from __future__ import annotations

from rangebar_polars.notify.enabling import disable_notifications, enable_notifications

__all__ = ["disable_notifications", "enable_notifications"]
