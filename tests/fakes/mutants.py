"""Ways in which a medium damages a file. Seven kinds, reproducible by their seed."""

import random
from collections.abc import Iterator

_PAGE = 4096


def mutants(data: bytes, other: bytes, *, each: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield `each` damaged copies of every kind; `other` is a whole file to be mixed up with."""
    numbers = random.Random(seed)  # noqa: S311 - reproducible damage, no secrets
    for _ in range(each):
        at = numbers.randrange(len(data))
        page = at // _PAGE * _PAGE
        size = min(_PAGE, len(data) - page)
        header = numbers.randrange(min(512, len(data)))
        yield "bit flipped", data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]
        yield "truncated", data[:at]
        yield "page of zeros", data[:page] + bytes(size) + data[page + size :]
        yield "bytes appended", data + numbers.randbytes(1 + at % 40)
        yield "header overwritten", data[:header] + numbers.randbytes(4) + data[header + 4 :]
        yield "bytes lost", data[:at] + data[at + 1 + at % 7 :]
        yield "files mixed", other[:at] + data[at:] if at % 2 else data[:page] + other[page:]
