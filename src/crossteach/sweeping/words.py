"""What a sweep says of itself, in lines of text."""

from collections.abc import Mapping
from typing import Any

from ..files import write_size


def cost_in_words(cost: Mapping[str, Any]) -> str:
    """Say what is left to do, and what that takes."""
    store, folder = write_size(cost["store_bytes"]), write_size(cost["folder_bytes"])
    return (
        f"To do: {cost['jobs']} jobs, {cost['views']:,} answers of tutors; about {duration(cost['seconds'])} with "
        f"{cost['workers']} at a time, {store} in the store, {folder} in the folder"
    )


def status_in_words(status: Mapping[str, Any]) -> list[str]:
    """Say where a sweep stands.

    Args:
        status: What `sweep_status` returned.
    """
    counts = ", ".join(f"{status[key]} {key}" for key in ("done", "failed", "running", "waiting"))
    lines = [f"{status['folder']}: {status['jobs']} jobs, {counts}"]
    if status["alive"]:
        pace = (
            "" if status["rate"] is None else f", {status['rate']:g} a minute, {duration(status['seconds_left'])} left"
        )
        lines.append(f"{status['stage']}{pace}; now: {', '.join(status['now']) or 'nothing'}")
    else:
        lines.append("no process works on it" + ("; the same sweep goes on" if status["waiting"] else ""))
    if status["last_failure"]:
        lines.append(f"last failure: {status['last_failure']['job']}: {status['last_failure']['reason']}")
    return lines


def duration(seconds: float) -> str:
    """Write a duration in the unit that suits it.

    Example:
        >>> duration(90), duration(7200)
        ('90 seconds', '2.0 hours')
    """
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
