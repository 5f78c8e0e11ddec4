"""What is wrong with a model, and what its user can do: refused, or said where the user goes on all the same."""

from collections.abc import Sequence
from typing import NamedTuple

from ..errors import ModelError


class Problem(NamedTuple):
    """One thing that makes a model unfit to teach or to learn."""

    found: str
    """What was found, with its numbers."""
    advice: str
    """What to do about it."""


def refuse_or_say(problems: Sequence[Problem], force: bool) -> list[str]:
    """Raise ModelError with the first of the problems that were found; with `force` return a note of each instead."""
    if problems and not force:
        first = problems[0]
        raise ModelError(f"{first.found}; {first.advice}, or go on with --force (in a sweep: force: true)")
    return [f"--force: {problem.found}" for problem in problems]
