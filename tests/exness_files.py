"""Month files in the layout of the Exness archive, made up for tests."""

from __future__ import annotations

import zipfile
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from pathlib import Path

HEADER = '"Exness","Symbol","Timestamp","Bid","Ask"'


def path_of(root: Path, symbol: str, year: int, month: int) -> Path:
    account = f"{symbol}_Raw_Spread"
    name = f"Exness_{account}_{year}_{month:02}.zip"
    return root / "ticks" / account / str(year) / f"{month:02}" / name


def row(time: str, bid: object, ask: object, symbol: str = "EURUSD_Raw_Spread") -> str:
    return f'"exness","{symbol}","{time}",{bid},{ask}'


def write_text(path: Path, text: str | bytes, method: int = zipfile.ZIP_DEFLATED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(f"{path.stem}.csv", text)
    return path


def write_rows(root: Path, rows: list[str], year: int = 2024, month: int = 1) -> Path:
    text = "\n".join([HEADER, *rows]) + "\n"
    return write_text(path_of(root, "EURUSD", year, month), text)


def market_hours(year: int, month: int, until: datetime | None = None) -> list[datetime]:
    """Every full hour of a month from Sunday 22:00 to Friday 22:00 UTC, when forex is open."""
    time, hours = datetime(year, month, 1, tzinfo=UTC), []
    while time.month == month and (until is None or time <= until):
        minute = (time.isoweekday() % 7) * 24 + time.hour  # hours since Sunday 00:00
        if 22 <= minute < 5 * 24 + 22:
            hours.append(time)
        time += timedelta(hours=1)
    return hours


def hourly_rows(year: int, month: int, until: datetime | None = None) -> list[str]:
    """Quotes on the hour that wander by 0.3 % a day."""
    rows = []
    for number, time in enumerate(market_hours(year, month, until)):
        bid = 110_000 + (number * 37) % 900 - (number * number) % 211
        text = f"{time:%Y-%m-%d %H:%M:%S}.{number % 1000:03}Z"
        rows.append(row(text, f"1.{bid - 100_000:05}", f"1.{bid - 100_000 + number % 3:05}"))
    return rows


def quotes(mids: list[float], *, half_spread: float = 0.0, step_ms: int = 1000) -> pl.DataFrame:
    """Quotes around these prices, a second apart."""
    return pl.DataFrame(
        {
            "timestamp_ms": [1_704_067_200_000 + step_ms * i for i in range(len(mids))],
            "bid": [mid - half_spread for mid in mids],
            "ask": [mid + half_spread for mid in mids],
        }
    )
