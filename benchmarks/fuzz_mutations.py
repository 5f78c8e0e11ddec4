"""What goes wrong with files, at random: bytes, words and JSON are changed, alike for the same generator."""

import copy
import json
import random
import re
from collections.abc import Callable
from typing import Any

MARKUP = "<script>alert(1)</script>"
WORDS = (
    *(
        "",
        " ",
        "\0",
        "\n",
        "\r\n",
        "\t",
        '"',
        "'",
        ",",
        ";",
        ":",
        "?",
        "@",
        "&",
        "=",
        "%",
        "%3F",
        "%00",
        "/",
        "\\",
        "*",
        "[",
    ),
    *(
        "-1",
        "0",
        "1",
        "2",
        "255",
        "256",
        "65536",
        "2147483648",
        "9223372036854775808",
        "1e400",
        "-1e308",
        "nan",
        "inf",
        "0x10",
    ),
    *(
        "None",
        "null",
        "true",
        "~",
        "¹",
        "१२",
        "naïve",
        "日本語",
        "🦊",
        "\u2028",
        "\u202e",
        "\x1b[31m",
        "\ufeff",
        "\ufffe",
    ),
    *(
        "../../x",
        "/etc/hostname",
        "C:\\x",
        ".",
        "..",
        "file:///etc/hostname",
        "a" * 5000,
        MARKUP,
        "{{ 7 * 7 }}",
        "$x^2$",
    ),
    *("=cmd|' /C calc'!A0", "=1+1", "@SUM(1)", "-2+3", "!!python/object/apply:os.system [id]", "&a [*a]", "neither"),
)
"""Texts that programs of all kinds have stumbled over."""
VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2, 0.5, -0.0, 10**30, -(10**30), 2**31, 2**63, 1e308, float("nan"), float("inf")),
    *([], {}, [[]], [None], {"": None}, [1, 2, 3], ["x", 1], {"a": {"b": []}}, *WORDS),
)
"""What may stand in JSON instead of what is expected."""
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")


def changed_bytes(content: bytes, rng: random.Random) -> bytes:
    """Change some bytes of a file: flip, cut, double, insert, put a word in."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        start = rng.randrange(len(data) + 1)
        stop = min(len(data), start + rng.choice((1, 1, 2, 4, 8, 64, 512)))
        match rng.randrange(7):
            case 0 if data:
                data[start % len(data)] ^= 1 << rng.randrange(8)
            case 1:
                del data[start:]
            case 2:
                del data[start:stop]
            case 3:
                data[start:start] = data[start:stop] * rng.choice((1, 2, 10))
            case 4:
                data[start:stop] = rng.randbytes(stop - start)
            case 5:
                data[start:start] = rng.choice(WORDS).encode("utf-8", "surrogatepass")
            case _:
                data[start:stop] = bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF))]) * (stop - start)
    return bytes(data)


def changed_text(text: str, rng: random.Random) -> bytes:
    """Change a text: its lines, cells and numbers, its encoding; or its bytes."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        lines = text.split("\n")
        at = rng.randrange(len(lines))
        match rng.randrange(6):
            case 0:
                del lines[at]
            case 1:
                lines.insert(at, rng.choice(lines))
            case 2:
                cells = lines[at].split(",")
                cells[rng.randrange(len(cells))] = rng.choice(WORDS)
                lines[at] = ",".join(cells)
            case 3:
                lines[at] += rng.choice((",", ",x", '"', " #", ":", ": [", "- "))
            case 4:
                place = rng.randrange(len(lines[at]) + 1)
                lines[at] = lines[at][:place] + rng.choice(WORDS) + lines[at][place:]
            case _:
                lines = [line.replace(",", rng.choice((";", "\t", "|"))) for line in lines]
        text = "\n".join(lines)
    encoding = rng.choice((*["utf-8"] * 16, "utf-16", "utf-8-sig", "utf-32"))
    content = text.encode(encoding, "surrogatepass")
    if rng.random() < 0.2:
        content = NUMBER.sub(lambda found: rng.choice((found[0], rng.choice(WORDS).encode())), content)
    return changed_bytes(content, rng) if rng.random() < 0.2 else content


def changed_value(value: Any, rng: random.Random, changes: int = 0) -> Any:
    """Change what stands at some places of a JSON document: replace, remove, swap, rename, nest."""
    root = [copy.deepcopy(value)]
    for _ in range(changes or rng.choice((1, 1, 1, 2, 4))):
        holder, key = rng.choice(list(_places(root)))
        match rng.randrange(8):
            case 0 if holder is not root:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[rng.choice(WORDS)] = holder.pop(key)
            case 2:
                other, there = rng.choice(list(_places(root)))
                holder[key] = copy.deepcopy(other[there])
            case 3:
                holder[key] = _nested(holder[key], rng.choice((1, 2, 50)))
            case 4 if isinstance(holder[key], list):
                holder[key] = holder[key] * rng.choice((0, 2, 20))
            case 5 if isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
                holder[key] = rng.choice((-holder[key], holder[key] + 1, str(holder[key]), holder[key] * 0.5))
            case _:
                holder[key] = copy.deepcopy(rng.choice(VALUES))
    return root[0]


def changed_json(text: str, rng: random.Random) -> bytes:
    """Change a JSON file: mostly what it says, at times its text."""
    if rng.random() < 0.15:
        return changed_text(text, rng)
    if rng.random() < 0.02:
        return b"[" * rng.choice((100, 100_000))
    return json.dumps(changed_value(json.loads(text), rng)).encode("utf-8", "surrogatepass")


def _places(root: list[Any]) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    waiting: list[Any] = [root]
    while waiting:
        holder = waiting.pop()
        for key in range(len(holder)) if isinstance(holder, list) else list(holder):
            found.append((holder, key))
            if isinstance(holder[key], list | dict) and len(found) < 20_000:
                waiting.append(holder[key])
    return found


def _nested(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = [value]
    return value


Change = Callable[[str, random.Random], bytes]
