"""Seeded damage to the bytes of a file: what a bad disk, a cut copy or a slip of an editor makes of it."""

import random
import re
from collections.abc import Iterator

#: What may stand where a JSON file holds a value.
VALUES = (
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e9",
    b"1e400",
    b"NaN",
    b'"x"',
    b'""',
    b"[]",
    b"{}",
    b"[[1]]",
    b"99999999999",
)
_VALUE = re.compile(rb"(?<=: )(\"[^\"]*\"|-?[\d.e+-]+|true|false|null)")


def flips(content: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Copies with one to four bytes that are others, cut copies, and copies with a part doubled or left out."""
    draw = random.Random(seed)
    for _ in range(count):
        changed = bytearray(content)
        kind = draw.random()
        if kind < 0.5:
            for _ in range(draw.randint(1, 4)):
                changed[draw.randrange(len(changed))] ^= draw.randint(1, 255)
        elif kind < 0.75:
            del changed[draw.randrange(len(changed)) :]
        else:
            start = draw.randrange(len(changed))
            part = changed[start : start + draw.randint(1, 64)]
            changed[start : start + len(part)] = b"" if kind < 0.875 else part + part
        yield bytes(changed)


def other_values(content: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Copies of a JSON file that are JSON still, with another value at one place, or without one of its keys."""
    draw = random.Random(seed)
    places = list(_VALUE.finditer(content))
    keys = list(re.finditer(rb'"(\w+)":', content))
    for _ in range(count):
        if draw.random() < 0.8:
            place = draw.choice(places)
            yield content[: place.start()] + draw.choice(VALUES) + content[place.end() :]
        else:
            key = draw.choice(keys)
            yield content[: key.start(1)] + b"renamed_" + content[key.start(1) :]
