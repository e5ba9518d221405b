"""The command `rangebar sidecar`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from rangebar_polars.cli._arguments import (
    add_cache_arguments,
    add_threshold_argument,
    add_venue_arguments,
)
from rangebar_polars.cli._output import error_text, fail, say
from rangebar_polars.exceptions import (
    LeaseError,
    MissingExtraError,
    RangeBarError,
)

if TYPE_CHECKING:
    from rangebar_polars.cli._output import Verbs

__all__ = ["add_sidecar"]

HELP = """\
Stream symbols, store their trades, and deliver their bars until it is stopped.

Bars are those that `rangebar populate` gives for the same trades. With --ndjson, each bar is a line of
JSON on stdout; after a restart, it continues where the last line was written.
"""
EXAMPLES = """\
examples:
  rangebar sidecar BTCUSDT ETHUSDT -t 250,500 --ndjson
  rangebar sidecar BTCUSDT --check        check the configuration, and exit
  RANGEBAR_STREAMING_SYMBOLS=BTCUSDT rangebar sidecar

exit status: 0 stopped, 1 nothing could be started, 2 wrong call, 3 another process streams a symbol
"""
NOT_STARTED, WRONG_CALL, HELD = 1, 2, 3


def add_sidecar(verbs: Verbs) -> None:
    """Add the command to the verbs of `rangebar`."""
    sidecar = verbs.add_parser(
        "sidecar",
        help="stream symbols, and deliver their bars",
        description=HELP,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sidecar.add_argument(
        "symbols", nargs="*", metavar="SYMBOL", help="symbols (default: RANGEBAR_STREAMING_SYMBOLS)"
    )
    add_threshold_argument(sidecar, default="250,500,750,1000")
    sidecar.add_argument(
        "--reset", metavar="MODE", help="restart the bars each year, month, week or day, or none"
    )
    add_venue_arguments(sidecar)
    sidecar.add_argument(
        "--anchor", metavar="A", help="`segment`, or the instant at which the series begin"
    )
    _add_delivery(sidecar)
    _add_behaviour(sidecar)
    add_cache_arguments(sidecar)
    sidecar.set_defaults(run=run)


def _add_delivery(command: argparse.ArgumentParser) -> None:
    command.add_argument("--ndjson", action="store_true", help="write bars to stdout")
    command.add_argument(
        "--include-orphans", action="store_true", help="include bars that a reset ended"
    )
    command.add_argument(
        "--consumer", metavar="NAME", help="name of the stored position (default: default)"
    )
    command.add_argument(
        "--on-error", choices=("retry", "skip"), help="what happens to bars that are not taken"
    )


def _add_behaviour(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--no-cache",
        action="store_true",
        help="neither read bars of the bar cache nor store finalized ones in it",
    )
    command.add_argument(
        "--no-gap-fill", action="store_true", help="do not fetch missing days at the start"
    )
    command.add_argument(
        "--no-finalize",
        action="store_true",
        help="do not compare closed days with archives",
    )
    command.add_argument(
        "--finalize-interval",
        type=float,
        metavar="S",
        help="seconds between two comparisons (default: 900)",
    )
    command.add_argument("--health-port", type=int, metavar="N", help="0 for none (default: 8081)")
    command.add_argument("--health-host", metavar="H", help="default: 127.0.0.1")
    command.add_argument("--notify", choices=("off", "failures"), help="default: failures")
    command.add_argument(
        "--heartbeat",
        type=float,
        metavar="S",
        help="interval of notifications that all is well, in seconds",
    )
    command.add_argument(
        "--check", action="store_true", help="check the call, and exit with 0 or 2"
    )
    command.add_argument("--log-json", action="store_true", help="log lines of JSON")
    command.add_argument("-v", "--verbose", action="store_true", help="log each bar, too")


def run(arguments: argparse.Namespace) -> int:
    """Run `rangebar sidecar`."""
    from rangebar_polars.live.log import log_to
    from rangebar_polars.sidecar.config import SidecarConfig
    from rangebar_polars.sidecar.run import check_sidecar, run_sidecar
    from rangebar_polars.storage.live.journal_file import JournalSchemaError

    try:
        config = SidecarConfig.from_settings(**_values(arguments))
        if arguments.check:
            plan = check_sidecar(config)
            thresholds = ", ".join(map(str, plan.thresholds))
            say(f"{', '.join(plan.symbols)} at {thresholds} dbps: nothing is wrong with the call")
            return 0
        with log_to(sys.stderr, as_json=arguments.log_json, is_verbose=config.verbose):
            return int(run_sidecar(config))
    except LeaseError as error:
        return fail(error_text(error), HELD)
    except (JournalSchemaError, MissingExtraError, ValueError) as error:
        return fail(error_text(error), WRONG_CALL)
    except RangeBarError as error:
        return fail(error_text(error), NOT_STARTED)


def _values(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of the configuration that the options set."""
    found: dict[str, Any] = {
        "symbols": [name for word in arguments.symbols for name in word.split(",")] or None,
        "thresholds": arguments.threshold,
        "ouroboros": arguments.reset,
        "source": arguments.source,
        "market": arguments.market,
        "anchor": arguments.anchor,
        "consumer": arguments.consumer,
        "on_error": arguments.on_error,
        "finalize_interval_s": arguments.finalize_interval,
        "health_port": arguments.health_port,
        "health_host": arguments.health_host,
        "notify": arguments.notify,
        "heartbeat_s": arguments.heartbeat,
        "cache_dir": arguments.cache_dir,
        "dsn": arguments.dsn,
    }
    flags = {
        "ndjson": (arguments.ndjson, True),
        "include_orphaned_bars": (arguments.include_orphans, True),
        "verbose": (arguments.verbose, True),
        "cache": (arguments.no_cache, False),
        "gap_fill_on_startup": (arguments.no_gap_fill, False),
        "finalize": (arguments.no_finalize, False),
    }
    found |= {name: value for name, (is_given, value) in flags.items() if is_given}
    return {name: value for name, value in found.items() if value is not None}
