"""Ways in which a medium, a program or a person damages a store's files: seven classes.

Reproducible by their seed. Headers that were changed are signed anew, as a program would that
writes wrong ones; nobody but a program does that, so digests alone do not find it.
"""

import json
import random
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import xxhash

_PAGE = 4096
_PREFIX = 8
_ALIGNMENT = 8
_UNSIGNED = "0" * 32
_DTYPES = {"BF16": "F16", "F16": "BF16", "F32": "I32"}
"""Others of the same size."""

Document = dict[str, object]


@dataclass(frozen=True, slots=True)
class Mutant:
    """What lies at some paths now, of which class of damage."""

    kind: str
    files: Mapping[Path, bytes]


class Mutants:
    """Damages whole files, of which each belongs where it lies.

    `elsewhere` gives the place where a file would lie in another namespace, and `foreign` is that
    namespace's name.
    """

    def __init__(
        self, files: Mapping[Path, bytes], elsewhere: Mapping[Path, Path], foreign: str, seed: int
    ) -> None:
        self._files = dict(files)
        self._elsewhere = elsewhere
        self._foreign = foreign
        self._numbers = random.Random(seed)  # noqa: S311 - reproducible damage, no secrets
        self._classes = {
            "bits flipped": self._flipped,
            "truncated": self._truncated,
            "page of zeros": self._zeroed,
            "blocks swapped": self._swapped,
            "wrong namespace": self._misplaced,
            "header changed": self._rewritten,
            "bytes appended": self._appended,
        }

    def take(self, count: int) -> Iterator[Mutant]:
        """So many, the classes in turn."""
        kinds = list(self._classes)
        paths = list(self._files)
        for number in range(count):
            kind = kinds[number % len(kinds)]
            yield Mutant(kind, self._classes[kind](self._numbers.choice(paths)))

    def _flipped(self, path: Path) -> dict[Path, bytes]:
        data = bytearray(self._files[path])
        for _ in range(self._numbers.choice((1, 1, 2, 8))):
            # The header is short beside the payload, and every second flip is to hit it.
            end = self._numbers.choice((len(data), min(2000, len(data))))
            data[self._numbers.randrange(end)] ^= 1 << self._numbers.randrange(8)
        return {path: bytes(data)}

    def _truncated(self, path: Path) -> dict[Path, bytes]:
        data = self._files[path]
        at = self._numbers.choice((self._numbers.randrange(len(data)), len(data) - 1, 0))
        return {path: data[:at]}

    def _zeroed(self, path: Path) -> dict[Path, bytes]:
        data = self._files[path]
        page = self._numbers.randrange(len(data)) // _PAGE * _PAGE
        size = min(_PAGE, len(data) - page)
        return {path: data[:page] + bytes(size) + data[page + size :]}

    def _swapped(self, path: Path) -> dict[Path, bytes]:
        other = self._numbers.choice([one for one in self._files if one != path])
        return {path: self._files[other], other: self._files[path]}

    def _misplaced(self, path: Path) -> dict[Path, bytes]:
        data = self._files[path]
        match self._numbers.randrange(3):
            case 0:  # copied to where the other namespace's files lie
                return {self._elsewhere[path]: data}
            case 1:  # says that it is the other namespace's
                return {path: signed(data, self._of_foreign)}
            case _:  # both
                return {self._elsewhere[path]: signed(data, self._of_foreign)}

    def _of_foreign(self, document: Document) -> Document:
        return _with_metadata(document, namespace=self._foreign)

    def _rewritten(self, path: Path) -> dict[Path, bytes]:
        data = self._files[path]
        while (changed := signed(data, self._changed)) == data:
            pass
        return {path: changed}

    def _changed(self, document: Document) -> Document:
        numbers, metadata = self._numbers, _metadata(document)
        tensors = [name for name in document if name != "__metadata__"]
        field = numbers.choice(
            [*metadata, *(("dtype", "names", "shape", "offsets") * bool(tensors))]
        )
        if field in metadata:
            return _with_metadata(document, **{field: _other(metadata[field], numbers)})
        chosen = numbers.choice(tensors)
        described = document[chosen]
        assert isinstance(described, dict)
        if field == "names":
            names = dict(zip(tensors, reversed(tensors), strict=True))
            return {names.get(name, name): value for name, value in document.items()}
        if field == "dtype":
            return {**document, chosen: {**described, "dtype": _DTYPES[described["dtype"]]}}
        turned = described["shape" if field == "shape" else "data_offsets"][::-1]
        place = "shape" if field == "shape" else "data_offsets"
        return {**document, chosen: {**described, place: turned}}

    def _appended(self, path: Path) -> dict[Path, bytes]:
        data = self._files[path]
        more = self._numbers.choice((b"\0", b" ", self._numbers.randbytes(40), bytes(_PAGE), data))
        return {path: data + more}


def _other(text: str, numbers: random.Random) -> str:
    """Another text of the same look."""
    if text.isdecimal():
        return str(numbers.choice((0, int(text) + 1, int(text) + 256)))
    at = numbers.randrange(len(text))
    kinds = ("full", "tail", "sliding", "state")
    if text in kinds:
        return numbers.choice(kinds)
    return text[:at] + numbers.choice("0123456789abcdef") + text[at + 1 :]


def _metadata(document: Document) -> dict[str, str]:
    found = document["__metadata__"]
    assert isinstance(found, dict)
    return {name: text for name, text in found.items() if name != "header_xxh3"}


def _with_metadata(document: Document, **fields: str) -> Document:
    found = document["__metadata__"]
    assert isinstance(found, dict)
    return {**document, "__metadata__": {**found, **fields}}


def signed(data: bytes, change: Callable[[Document], Document]) -> bytes:
    """The file with a header that was changed and is signed as if it belonged there."""
    length = int.from_bytes(data[:_PREFIX], "little")
    document = change(json.loads(data[_PREFIX : _PREFIX + length]))
    document = _with_metadata(document, header_xxh3=_UNSIGNED)
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-(_PREFIX + len(text)) % _ALIGNMENT)
    head = len(text).to_bytes(_PREFIX, "little") + text
    digest = xxhash.xxh3_128_hexdigest(head)
    return head.replace(_UNSIGNED.encode(), digest.encode(), 1) + data[_PREFIX + length :]


def mutants(data: bytes, other: bytes, *, each: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Damage to one file of any format, `each` times of every kind; `other` is one like it."""
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


_SQL = (
    "UPDATE part SET parent = randomblob(32) WHERE {one}",
    "UPDATE part SET parent = key WHERE {one}",
    "UPDATE part SET parent = (SELECT key FROM part ORDER BY start DESC LIMIT 1) WHERE {one}",
    "UPDATE part SET start = start + 256 WHERE {one}",
    "UPDATE part SET start = -1 WHERE {one}",
    "UPDATE part SET num_tokens = num_tokens - 1 WHERE {one}",
    "UPDATE part SET num_tokens = 256 WHERE {one}",
    "UPDATE part SET num_tokens = 'many' WHERE {one}",
    "UPDATE part SET kind = 'sliding' WHERE {one}",
    "UPDATE part SET kind = 'fuml' WHERE {one}",
    "UPDATE part SET kind = 'tail' WHERE {one}",
    "UPDATE part SET key = randomblob(32) WHERE {one}",
    "UPDATE part SET key = randomblob(31) WHERE {one}",
    "UPDATE part SET allocated = -1000000 WHERE {one}",
    "UPDATE part SET used = 'never' WHERE {one}",
    "UPDATE tokens SET tokens = randomblob(length(tokens)) WHERE {one}",
    "UPDATE tokens SET tokens = substr(tokens, 1, 7) WHERE {one}",
    "UPDATE tokens SET tokens = (SELECT tokens FROM tokens ORDER BY key DESC LIMIT 1) WHERE {one}",
    "UPDATE namespace SET name = 'another'",
    "UPDATE namespace SET id = id + 1",
    "DELETE FROM part WHERE {one}",
    "DELETE FROM tokens WHERE {one}",
    "DELETE FROM namespace",
    "DROP TABLE tokens",
    "PRAGMA user_version = 99",
)
_ONE = "key IN (SELECT key FROM part ORDER BY start LIMIT 1 OFFSET {at})"


def damaged_indexes(
    whole: bytes, scratch: Path, count: int, seed: int
) -> Iterator[tuple[str, bytes]]:
    """An index of a store, damaged as a file and as what it says; by turns."""
    numbers = random.Random(seed)  # noqa: S311 - reproducible damage, no secrets
    plain = mutants(whole, numbers.randbytes(len(whole)), each=count, seed=seed)
    for number in range(count):
        if number % 2:
            yield next(plain)
        else:
            yield "rows", _rewritten_by(whole, scratch / "damaged.db", number // 2, numbers)


def _rewritten_by(whole: bytes, path: Path, number: int, numbers: random.Random) -> bytes:
    path.write_bytes(whole)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = DELETE")
    one = _ONE.format(at=numbers.randrange(3))
    connection.execute(_SQL[number % len(_SQL)].format(one=one))
    connection.close()
    return path.read_bytes()
