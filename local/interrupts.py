"""Handling of Ctrl-C and SIGTERM."""

from __future__ import annotations

import signal


def stop_on_signals() -> None:
    """Raise KeyboardInterrupt(signal) on the first SIGINT or SIGTERM, also in a background job of a shell.

    Call it again after a library has installed a handler of its own, as polars does when it first computes.
    """

    def interrupt(number: int, _frame: object) -> None:
        for other in (signal.SIGINT, signal.SIGTERM):
            signal.signal(other, signal.SIG_IGN)
        raise KeyboardInterrupt(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
