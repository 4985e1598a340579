"""Actor of a change, for the audit: name, reason, and AWS identity where a second person must approve."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from typing import Any, TypeVar

import click

from candor.clock import SystemClock
from candor.registry.lifecycle import Actor
from candor.registry.promote import SECOND_PERSON
from cli.stage import Stage

F = TypeVar("F", bound=Callable[..., Any])


def actor_options(command: F) -> F:
    """Add the options of the audit: actor and reason."""
    return by_option(click.option("--why", default="", help="Reason for the audit.")(command))


def by_option(command: F) -> F:
    """Add the option of the audit that names the actor."""
    by = click.option("--by", default=getpass.getuser, help="Your name for the audit. Default: your user.")
    return by(command)


def second_person_required(stage: Stage) -> bool:
    """True if another person must approve on this stage."""
    return stage.output("PromotionApproval") == SECOND_PERSON


def actor(stage: Stage, by: str, why: str) -> Actor:
    """Actor with reason and moment; its AWS identity only where a second person must approve."""
    identity = stage.identity() if second_person_required(stage) else ""
    return Actor(by, SystemClock().now_ms(), why, identity)
