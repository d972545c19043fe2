"""Writes the golden store: what a released format looks like on disk, kept for ever.

    python -m tests.golden.make

Only when a format's version has been raised: files of a released version must stay readable as
they are. What is in it is made here, from nothing but this file.
"""

import hashlib
import random
import shutil
import sys
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from tests.fakes.blocks import plant_secret
from tests.fakes.recorded_telemetry import RecordedTelemetry

from semantic.adapters.outbound.storage.agent_files import AgentFiles
from semantic.adapters.outbound.storage.block_files import BlockFiles
from semantic.domain.agent import AgentId, AgentRecord, Branch, Segment
from semantic.domain.block import BlockHeader, PartKind, StoredPart, Tensor
from semantic.domain.block_hash import block_key, root_key, tenant_keys
from semantic.domain.cache_spec import BLOCK_SIZE
from semantic.domain.ids import DEFAULT_TENANT, PUBLIC, Namespace, TenantId, TokenId
from semantic.domain.store_secret import StoreSecret

STORE = Path(__file__).parent / "store"

SECRET = StoreSecret(hashlib.sha256(b"the golden store").digest())
NAMESPACE = Namespace(hashlib.sha256(b"the golden model").hexdigest())
ACME = TenantId("acme")

SYSTEM = tuple(range(1000, 1000 + BLOCK_SIZE))
"""What an operator has published."""
ASKED = tuple((number * 7919) % 2**32 for number in range(BLOCK_SIZE))
REST = (7, 0, 2**32 - 1)

_WINDOW = 8
_ITEMSIZE = {"BF16": 2, "F16": 2, "F32": 4}
_Arrays = tuple[tuple[str, str, tuple[int, ...]], ...]


@dataclass
class _Chain:
    """Blocks of one tenant after another, and all parts of each."""

    tenant: TenantId
    before: BlockHeader | None = None
    parts: list[StoredPart] = field(default_factory=list)

    def add(self, tokens: tuple[TokenId, ...], *kinds: PartKind) -> "_Chain":
        """One more block of these parts, the one that it exists by first."""
        parent = self.before.key if self.before else root_key(NAMESPACE, SECRET)
        leaves = self.before is None or self.before.tenant == PUBLIC
        salt = tenant_keys(self.tenant, SECRET).salt if leaves else b""
        start = self.before.end if self.before else 0
        key = block_key(parent, tokens, salt)
        for kind in kinds:
            header = BlockHeader(key, parent, NAMESPACE, kind, start, tokens, self.tenant)
            self.parts.append(StoredPart(header, _tensors(header)))
        self.before = self.parts[-1].header
        return self


def golden_parts() -> tuple[StoredPart, ...]:
    """A public block, what one tenant built on it, and what another computed by itself."""
    extras = (PartKind.SLIDING, PartKind.STATE)
    public = _Chain(PUBLIC).add(SYSTEM, PartKind.FULL, *extras)
    own = _Chain(DEFAULT_TENANT, public.before)
    own.add(ASKED, PartKind.FULL, *extras).add(REST, PartKind.TAIL, *extras)
    alone = _Chain(ACME).add(SYSTEM, PartKind.FULL).add(REST, PartKind.TAIL, *extras)
    return (*public.parts, *own.parts, *alone.parts)


def golden_agents() -> tuple[tuple[AgentId, AgentRecord], ...]:
    """Two agents of one name."""
    return (
        _agent(DEFAULT_TENANT, (*SYSTEM, *ASKED, *REST)),
        _agent(ACME, (*SYSTEM, *REST)),
    )


def write(root: Path) -> None:
    """Make the store in `root`, where there is none."""
    plant_secret(root, SECRET)
    BlockFiles(root, RecordedTelemetry()).put(*golden_parts())
    records = AgentFiles(root, RecordedTelemetry())
    for agent, record in golden_agents():
        records.save(agent, record)
    for empty in ("tmp", "quarantine"):
        (root / empty).rmdir()


def _agent(tenant: TenantId, ids: tuple[TokenId, ...]) -> tuple[AgentId, AgentRecord]:
    agent = AgentId.parse("coder 🦜", field="name").within(NAMESPACE, tenant)
    split = len(ids) - len(REST)
    segments = (Segment('Be brief.\n"Grüße"\ud800', ids[:split]), Segment("", ids[split:]))
    record = AgentRecord(
        name=agent.name,
        namespace=NAMESPACE,
        branches=(Branch(segments), Branch(())),
        updated_at=1764000000.25,
        tenant=tenant,
    )
    return agent, record


def _tensors(header: BlockHeader) -> tuple[Tensor, ...]:
    numbers = random.Random(f"{header.tenant} {header.start} {header.kind.value}")  # noqa: S311 - reproducible
    return tuple(
        Tensor(name, dtype, shape, numbers.randbytes(prod(shape) * _ITEMSIZE[dtype]))
        for name, dtype, shape in _arrays(header.kind, len(header.tokens))
    )


def _arrays(kind: PartKind, num_tokens: int) -> _Arrays:
    """Name, type and shape of each tensor."""
    match kind:
        case PartKind.STATE:
            return ("state.0.0", "F32", (1, 1, 2, 2)), ("state.0.1", "BF16", (1, 1, 3, 2))
        case PartKind.SLIDING:
            shape = (1, 1, 1, min(num_tokens, _WINDOW - 1), 2)
        case PartKind.FULL | PartKind.TAIL:
            shape = (1, 1, 1, num_tokens, 2)
    return ("keys.0", "F16", shape), ("values.0", "BF16", shape)


def main() -> int:
    """Replace the store that is there."""
    shutil.rmtree(STORE, ignore_errors=True)
    write(STORE)
    sizes = [path.stat().st_size for path in STORE.rglob("*") if path.is_file()]
    print(f"{len(sizes)} files, {sum(sizes)} bytes in {STORE}")  # noqa: T201 - says what it did
    return 0


if __name__ == "__main__":
    sys.exit(main())
