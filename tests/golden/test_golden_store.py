"""Files of the released format are read as they are, and written as they are.

Where one of these fails, a format has changed: raise its version, and run `make`.
"""

import json
import shutil
from pathlib import Path

import pytest
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.golden.make import (
    ACME,
    ASKED,
    NAMESPACE,
    REST,
    SECRET,
    STORE,
    SYSTEM,
    golden_agents,
    golden_parts,
    write,
)
from typer.testing import CliRunner

from semantic.adapters.outbound.storage import secret_file
from semantic.adapters.outbound.storage.agent_files import AgentFiles
from semantic.adapters.outbound.storage.block_files import BlockFiles
from semantic.adapters.outbound.storage.block_listing import BlockListing
from semantic.adapters.outbound.storage.indexed_blocks import IndexedBlocks
from semantic.application.agent_inspection import known_blocks
from semantic.domain.block import PartKind, StoredPart
from semantic.domain.block_hash import block_key, root_key, tenant_keys
from semantic.domain.ids import DEFAULT_TENANT, PUBLIC, TenantId
from semantic.domain.prefix_index import BlockUse
from semantic.entrypoints.cli import app

PARTS = golden_parts()
EACH_PART = pytest.mark.parametrize(
    "part", PARTS, ids=[f"{p.header.tenant} {p.header.start} {p.header.kind.value}" for p in PARTS]
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy to work on; version control does not keep who may read what."""
    copy = tmp_path / "store"
    shutil.copytree(STORE, copy)
    (copy / "secret.key").chmod(0o600)
    return copy


def files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def test_every_kind_of_part_is_there_in_two_tenants_and_in_public() -> None:
    kinds = {(part.header.tenant, part.header.kind) for part in PARTS}
    assert {kind for _, kind in kinds} == set(PartKind)
    assert {tenant for tenant, _ in kinds} == {DEFAULT_TENANT, ACME, PUBLIC}


@EACH_PART
def test_every_part_is_read_as_it_was(root: Path, part: StoredPart) -> None:
    store = BlockFiles(root, RecordedTelemetry())
    assert store.get(NAMESPACE, part.header.id) == part
    assert next(h for h in store.headers(NAMESPACE) if h.id == part.header.id) == part.header


def test_nothing_else_lies_there(root: Path) -> None:
    telemetry = RecordedTelemetry()
    listing = BlockListing(root, telemetry)
    assert {header.id for header, _ in listing.everything()} == {p.header.id for p in PARTS}
    assert len(files(STORE)) == len(PARTS) + len(golden_agents()) + 1
    assert telemetry.names() == []


@EACH_PART
def test_keys_follow_from_the_secret_that_lies_there(root: Path, part: StoredPart) -> None:
    secret = secret_file.seen(root)
    header = part.header
    first = root_key(header.namespace, secret)
    public = block_key(first, SYSTEM)
    leaves = header.parent in (first, public) and header.tenant != PUBLIC
    salt = tenant_keys(header.tenant, secret).salt if leaves else b""
    assert header.key == block_key(header.parent, header.tokens, salt)
    assert [path.parent.parent.name for path in root.rglob(f"{header.key}.*")] == [
        secret.folder_name(header.namespace)[:12]
    ] * sum(one.header.key == header.key for one in PARTS)


def test_every_agent_is_read_as_it_was(root: Path) -> None:
    store = AgentFiles(root, RecordedTelemetry())
    for agent, record in golden_agents():
        assert store.load(agent) == record
    assert len(list(store.list())) == len(golden_agents())


def test_todays_writer_writes_the_same_bytes_under_the_same_names(tmp_path: Path) -> None:
    write(tmp_path / "today")
    assert files(tmp_path / "today") == files(STORE)


@pytest.mark.parametrize(
    ("tenant", "kinds"),
    [(DEFAULT_TENANT, "full full tail"), (ACME, "full tail"), (PUBLIC, "full")],
)
def test_an_index_made_of_it_finds_what_each_tenant_may_use(
    root: Path, tenant: TenantId, kinds: str
) -> None:
    result = CliRunner().invoke(app, ["cache", "rebuild", "--store", str(root), "--json"])
    assert json.loads(result.stdout) == {"parts": len(PARTS)}
    blocks = IndexedBlocks(root, RecordedTelemetry(), FixedClock())
    assert set(blocks.outlines(NAMESPACE)) == {part.header.outline for part in PARTS}
    index = known_blocks(NAMESPACE, blocks, SECRET)
    prompt = (*SYSTEM, *REST, 1) if tenant == ACME else (*SYSTEM, *ASKED, *REST, 1)
    uses: tuple[BlockUse, ...] = index.match(prompt, tenant_keys(tenant, SECRET))
    assert [use.parts[0].value for use in uses] == kinds.split()
    assert [use.public for use in uses] == [n == 0 and tenant != ACME for n in range(len(uses))]
    blocks.close()


def test_it_is_sound_to_the_commands_that_look(root: Path) -> None:
    def told(*command: str) -> object:
        result = CliRunner().invoke(app, [*command, "--store", str(root), "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    files = len(PARTS) + len(golden_agents())
    assert told("cache", "verify") == {"checked": files, "repaired": False, "damaged": []}
    assert told("cache", "rebuild") == {"parts": len(PARTS)}
    listed = told("agents", "list")
    assert isinstance(listed, list)
    assert [agent["name"] for agent in listed] == ["coder 🦜"]
    stats = told("cache", "stats")
    assert isinstance(stats, dict)
    assert [(one["tenant"], one["parts"]) for one in stats["tenants"]] == [
        ("acme", 4),
        ("default", 6),
        ("public", 3),
    ]
