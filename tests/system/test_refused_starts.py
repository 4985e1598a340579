"""Starts that are refused in one line while a system serves."""

import re
import socket
from pathlib import Path

from tests.system.conftest import Served
from tests.system.running import Running


def test_a_busy_port_is_told_in_one_line(served: Served, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = Running(served.assembly, tmp_path, port, SIZE="3").result()
    assert (ended.code, ended.stdout) == (1, "")
    assert re.fullmatch(
        rf"error: port {port} cannot be served \(.*\): choose another, as in PORT=\d+\n", ended.stderr
    )


def test_a_state_folder_in_use_is_told_in_one_line(served: Served, tmp_path: Path) -> None:
    first = served.running
    ended = Running(served.assembly, first.state, logs=tmp_path, DATA=str(served.data)).result()
    assert (ended.code, ended.stdout) == (1, "")
    assert re.fullmatch(rf"error: .* is in use by process {first.process.pid}: .*\n", ended.stderr)
