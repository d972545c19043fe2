"""What a disk with a volatile cache may hold after the power went, given what was done to it.

The rules are POSIX', read as an enemy would. Of a file's bytes that were not synced any page may
be missing, zero or garbage, and the file be shorter. Of the names in a folder that were not synced
each may lead to whatever it ever led to since, by itself: a rename may be done at one of its ends
only, and a later change without an earlier one. What was synced is there. SQLite's commits are
whole and durable once they return (`synchronous=FULL`), and may be so just before.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from tests.fakes.recorded_disk import (
    BASE,
    Committed,
    Inode,
    Marked,
    Named,
    Op,
    Place,
    Synced,
    Written,
)

PAGE = 4096
VARIANTS = 16
"""Ways in which one file is torn; as many as are tried of it, over and over."""

LOG = "-wal"


@dataclass(frozen=True, slots=True)
class Bytes:
    """A file's bytes: what was written up to an operation, `torn` in one of the ways or not."""

    inode: Inode
    upto: int
    torn: int | None = None


@dataclass(frozen=True, slots=True)
class State:
    """Folders and files by their paths from the base, parents first. `cut`: operations done."""

    cut: int
    folders: tuple[str, ...]
    files: dict[str, Bytes]


@dataclass(frozen=True)
class Cut:
    """The disk after some operations: what is certain, and what is open."""

    number: int
    certain: dict[Place, Inode]
    open: tuple[tuple[Place, tuple[Inode | None, ...]], ...]
    upto: dict[Inode, int]
    volatile: frozenset[Inode]
    in_flight: Inode | None = None


class PowerLoss:
    """States that a recorded trace may leave behind."""

    def __init__(self, trace: Sequence[Op]) -> None:
        self.trace = trace
        self._cuts: dict[int, Cut] = {}

    def states(self, count: int, seed: int = 0) -> Iterator[State]:
        """So many of them, by chance, at moments spread evenly."""
        numbers = random.Random(seed)  # noqa: S311 - reproducible, no secrets
        for number in range(count):
            cut = self.cut((number * (len(self.trace) + 1) + numbers.randrange(count)) // count)
            yield _state(cut, self._folders, numbers)

    def cut(self, number: int) -> Cut:
        """The disk when `number` operations were done."""
        if number not in self._cuts:
            self._cuts[number] = self._made(number)
        return self._cuts[number]

    def marks(self, number: int) -> list[object]:
        """What the workload had said by then."""
        return [op.what for op in self.trace[:number] if isinstance(op, Marked)]

    def bytes_of(self, content: Bytes) -> bytes:
        """A file's bytes; of a database without its log."""
        last = self.committed(content)
        if last is not None:
            data = last.database
        else:
            data = b"".join(
                op.data
                for op in self.trace[: content.upto]
                if isinstance(op, Written) and op.inode == content.inode
            )
        if content.torn is None:
            return data
        return _torn(data, random.Random(f"{content.inode} {content.upto} {content.torn}"))  # noqa: S311

    def committed(self, content: Bytes) -> Committed | None:
        """The last commit into a file; None if it is no database."""
        return self._commits.get((content.inode, content.upto))

    def last_log(self, log: Inode, cut: int) -> bytes | None:
        """What a database's log held when `cut` operations were done."""
        done = self.trace[:cut]
        logs = [op.log for op in done if isinstance(op, Committed) and op.log_inode == log]
        return logs[-1] if logs else None

    @cached_property
    def logs(self) -> frozenset[Inode]:
        """The files that are databases' logs."""
        return frozenset(
            op.log_inode
            for op in self.trace
            if isinstance(op, Committed) and op.log_inode is not None
        )

    @cached_property
    def _folders(self) -> frozenset[Inode]:
        return frozenset(
            inode
            for op in self.trace
            if isinstance(op, Named) and op.folder
            for _, inode in op.changes
            if inode is not None
        )

    @cached_property
    def _commits(self) -> dict[tuple[Inode, int], Committed]:
        return {
            (op.inode, number): op
            for number, op in enumerate(self.trace, 1)
            if isinstance(op, Committed)
        }

    def _made(self, number: int) -> Cut:
        history = _History()
        for position, op in enumerate(self.trace[:number], 1):
            history.hear(op, position)
        databases = {inode for inode, _ in self._commits}
        volatile = frozenset(
            inode
            for inode, last in history.upto.items()
            if history.synced.get(inode, 0) < (1 if inode in databases else last)
        )
        following = self.trace[number] if number < len(self.trace) else None
        may = history.may
        return Cut(
            number,
            certain={
                place: values[0]
                for place, values in may.items()
                if len(values) == 1 and values[0] is not None
            },
            open=tuple(
                (place, tuple(dict.fromkeys(values)))
                for place, values in may.items()
                if len(values) > 1
            ),
            upto=history.upto,
            volatile=volatile - self.logs,
            in_flight=following.inode if isinstance(following, Committed) else None,
        )


@dataclass(slots=True)
class _History:
    """Where each name `may` lead: what is durable first, and what came after, in order.

    Of each file, up to which operation it was written, and `synced`.
    """

    may: dict[Place, list[Inode | None]] = field(default_factory=dict)
    upto: dict[Inode, int] = field(default_factory=dict)
    synced: dict[Inode, int] = field(default_factory=dict)

    def hear(self, op: Op, position: int) -> None:
        """Something was done."""
        match op:
            case Named():
                self._name(op)
            case Written(inode) | Committed(inode):
                self.upto[inode] = position
            case Synced(inode):
                self.synced[inode] = position
                for place, values in self.may.items():
                    if place[0] == inode:
                        del values[:-1]
            case _:
                pass

    def _name(self, named: Named) -> None:
        for place, inode in named.changes:
            values = self.may.setdefault(place, [None])
            values.append(inode)
            if named.durable:
                del values[:-1]
            if inode is not None:
                self.upto.setdefault(inode, 0)


def _state(cut: Cut, folders: frozenset[Inode], numbers: random.Random) -> State:
    # Now nearly all is lost, now nearly all is done, now anything.
    last = numbers.choice((0.05, 0.5, 0.95))
    children: dict[Inode, list[tuple[str, Inode]]] = {}
    for (folder, name), inode in cut.certain.items():
        children.setdefault(folder, []).append((name, inode))
    for (folder, name), may in cut.open:
        chosen = may[-1] if numbers.random() < last else numbers.choice(may[:-1] or may)
        if chosen is not None:
            children.setdefault(folder, []).append((name, chosen))
    found: list[str] = []
    files: dict[str, Bytes] = {}
    torn: dict[Inode, Bytes] = {}
    waiting = [("", BASE)]
    for path, folder in waiting:
        for name, inode in children.get(folder, ()):
            full = f"{path}/{name}" if path else name
            if inode in folders:
                found.append(full)
                waiting.append((full, inode))
            else:
                if inode not in torn:
                    torn[inode] = _content(inode, cut, numbers)
                files[full] = torn[inode]
    return State(cut.number, tuple(found), files)


def _content(inode: Inode, cut: Cut, numbers: random.Random) -> Bytes:
    upto = cut.upto[inode]
    if inode == cut.in_flight and numbers.random() < 0.5:
        upto = cut.number + 1
    if inode in cut.volatile and numbers.random() < 0.9:
        return Bytes(inode, upto, numbers.randrange(VARIANTS))
    return Bytes(inode, upto)


def _torn(data: bytes, numbers: random.Random) -> bytes:
    """Some of the pages, some of them zero, some garbage; maybe not to the end."""
    pages = [data[begin : begin + PAGE] for begin in range(0, len(data), PAGE)]
    if numbers.random() < 0.5:
        pages = pages[: numbers.randint(0, len(pages))]
    hit = numbers.choice((0.1, 0.5, 1.0))
    return b"".join(
        page
        if numbers.random() > hit
        else numbers.choice((bytes(len(page)), numbers.randbytes(len(page))))
        for page in pages
    )
