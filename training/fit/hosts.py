"""Hosts of one training job in LightGBM's data-parallel mode: each holds a part of the rows, all get the same model.

SageMaker names them in SM_HOSTS and SM_CURRENT_HOST (its training toolkit) or in `input/config/resourceconfig.json`.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

PORT: Final = 12_400
_MINUTES: Final = 10


@dataclass(frozen=True)
class Hosts:
    """Hosts of a job: sorted `names`, with `current` among them, using ports from `port` on.

    One host, or none, trains alone.
    """

    names: tuple[str, ...] = ()
    current: str = ""
    port: int = PORT
    _models: Iterator[int] = field(default_factory=count, compare=False, repr=False)

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ, config: Path | None = None) -> Hosts:
        """Hosts from SM_HOSTS and SM_CURRENT_HOST, else from resourceconfig.json, else none."""
        names, current = environment.get("SM_HOSTS"), environment.get("SM_CURRENT_HOST", "")
        if names:
            return cls(tuple(sorted(json.loads(names))), current)
        if config is not None and config.is_file():
            resources = json.loads(config.read_text())
            return cls(tuple(sorted(resources["hosts"])), str(resources["current_host"]))
        return cls()

    @property
    def several(self) -> bool:
        return len(self.names) > 1

    @property
    def first(self) -> bool:
        """True if this host writes the bundle; the others have the same model and write nothing."""
        return not self.several or self.names.index(self.current) == 0

    def share(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """This host's rows: every n-th, so that every host covers the whole period."""
        return rows[self.names.index(self.current) :: len(self.names)] if self.several else rows

    def parameters(self) -> dict[str, Any]:
        """LightGBM's network parameters for the next model: the machines, each with its own port.

        Several hosts may be one machine. Every model uses new ports, because a closed port stays in use for a minute;
        all hosts fit the same models in the same order, so they agree on the ports.
        """
        if not self.several:
            return {}
        first = self.port + next(self._models) * len(self.names)
        machines = [f"{socket.gethostbyname(name)}:{first + n}" for n, name in enumerate(self.names)]
        return {
            "tree_learner": "data",
            "pre_partition": True,
            "num_machines": len(machines),
            "machines": ",".join(machines),
            "local_listen_port": first + self.names.index(self.current),
            "time_out": _MINUTES,
        }
