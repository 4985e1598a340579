"""Ctrl-C and SIGTERM end the system, whoever started it and whatever library was loaded since."""

from __future__ import annotations

import signal


def stop_on_signals() -> None:
    """SIGTERM ends as Ctrl-C does, also in the background, where a shell tells us to ignore Ctrl-C. Once is enough.

    Said again after a library with a handler of its own has worked: polars keeps the signal once it has computed something.
    """

    def interrupt(number: int, _frame: object) -> None:
        for other in (signal.SIGINT, signal.SIGTERM):
            signal.signal(other, signal.SIG_IGN)
        raise KeyboardInterrupt(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
