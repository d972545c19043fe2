import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fakes.blocks import NAMESPACE, OTHER_NAMESPACE, make_part, plant_secret
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.recorded_telemetry import RecordedTelemetry
from tests.fakes.remembered import remember, store_blocks, tokens

from semantic.adapters.outbound.storage.agent_files import AgentFiles
from semantic.adapters.outbound.storage.indexed_blocks import IndexedBlocks
from semantic.adapters.outbound.storage.store_lock import StoreLock
from semantic.adapters.outbound.system.system_clock import SystemClock
from semantic.domain.block import PartKind
from semantic.domain.ids import TenantId

Run = Callable[..., tuple[int, str, str]]
A_DAY = 86400
SOUND = "{} files read, 0 damaged or missing.\n"


def opened(root: Path, clock: FixedClock) -> IndexedBlocks:
    return IndexedBlocks(root, RecordedTelemetry(), clock)


@pytest.fixture
def store(tmp_path: Path) -> str:
    """An agent of two blocks used now, a conversation of three used ten days ago."""
    root = tmp_path / "kv"
    now = SystemClock().time()
    plant_secret(root)
    blocks = opened(root, FixedClock(now - 10 * A_DAY))
    store_blocks(blocks, tokens(600, of=2))
    blocks.close()
    blocks = opened(root, FixedClock(now))
    remember(AgentFiles(root, RecordedTelemetry()), blocks, "alice", tokens(300))
    blocks.put(make_part(namespace=OTHER_NAMESPACE), make_part((9,), kind=PartKind.STATE))
    blocks.close()
    return str(root)


def files(store: str) -> list[Path]:
    return sorted(Path(store).rglob("*.st"))


def damage(store: str) -> Path:
    path = files(store)[0]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    return path


def test_stats_for_programs(run: Run, store: str) -> None:
    before = sorted(Path(store).rglob("*"))
    code, out, err = run("cache", "stats", "--store", store, "--json")
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert (told["blocks"], told["agents"], told["set_aside"]) == (6, 1, 0)
    assert 0 < told["bytes"] < told["cap"]
    assert told["written_today"] > 0
    sizes = {(one["namespace"], one["kind"]): one["parts"] for one in told["parts"]}
    assert sizes == {
        (NAMESPACE, "full"): 3,
        (NAMESPACE, "tail"): 2,
        (NAMESPACE, "state"): 1,
        (OTHER_NAMESPACE, "full"): 1,
    }
    total = sum(path.lstat().st_blocks * 512 for path in (Path(store), *Path(store).rglob("*")))
    assert told["bytes"] == total
    assert sorted(Path(store).rglob("*")) == before


def test_stats_for_people_beside_a_server(run: Run, store: str) -> None:
    blocks = opened(Path(store), FixedClock())
    with StoreLock(Path(store)):
        code, out, _ = run("cache", "stats", "--store", store)
    blocks.close()
    assert code == 0
    assert "of at most" in out
    assert NAMESPACE[:12] in out


def test_a_store_that_is_not_there_is_empty_and_is_not_made(run: Run, tmp_path: Path) -> None:
    none = str(tmp_path / "none")
    assert json.loads(run("cache", "stats", "--store", none, "--json")[1])["blocks"] == 0
    changing = (["prune", "--to-size", "1GB"], ["rebuild"], ["verify", "--repair"])
    for command in (["verify"], *changing):
        code, _, err = run("cache", *command, "--store", none)
        assert code == 1
        assert "there is no store" in err
    assert not Path(none).exists()


def test_without_an_index_stats_say_what_to_do(run: Run, store: str) -> None:
    (Path(store) / "index.db").unlink()
    code, _, err = run("cache", "stats", "--store", store)
    assert code == 1
    assert "semantic cache rebuild" in err
    assert run("cache", "rebuild", "--store", store)[:2] == (0, "The index knows 7 parts.\n")
    assert run("cache", "stats", "--store", store)[0] == 0


def test_a_sound_store_is_verified(run: Run, store: str) -> None:
    with StoreLock(Path(store)):
        assert run("cache", "verify", "--store", store)[:2] == (0, SOUND.format(8))


def test_damage_is_reported_and_left_in_place(run: Run, store: str) -> None:
    path = damage(store)
    code, out, _ = run("cache", "verify", "--store", store, "--json")
    assert code == 1
    told = json.loads(out)
    assert (told["checked"], told["repaired"]) == (8, False)
    assert [one["file"] for one in told["damaged"]] == [path.name]
    assert path.exists()


def test_damage_is_set_aside(run: Run, store: str) -> None:
    path = damage(store)
    code, out, _ = run("cache", "verify", "--repair", "--store", store)
    assert code == 1
    assert out.splitlines()[-1] == "8 files read, 1 damaged or missing, repaired."
    assert not path.exists()
    assert len(list((Path(store) / "quarantine").iterdir())) == 1
    assert run("cache", "verify", "--store", store)[:2] == (0, SOUND.format(7))
    assert json.loads(run("cache", "stats", "--store", store, "--json")[1])["set_aside"] == 1


def test_a_damaged_record_is_damage_and_is_set_aside(run: Run, store: str) -> None:
    (path,) = (Path(store) / "agents").iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    code, out, _ = run("cache", "verify", "--store", store)
    assert (code, out.split(":")[0]) == (1, path.name)
    assert path.exists()
    code, out, _ = run("cache", "verify", "--repair", "--store", store)
    assert (code, out.splitlines()[-1]) == (1, "8 files read, 1 damaged or missing, repaired.")
    assert not path.exists()
    assert run("cache", "verify", "--store", store)[:2] == (0, SOUND.format(7))


def test_a_gap_in_a_conversation_is_damage_and_what_follows_goes(run: Run, store: str) -> None:
    blocks = opened(Path(store), FixedClock())
    rows = {part.id: part for part in blocks.index.kept() if part.start == 256}
    (middle,) = (part for part in rows.values() if part.id.kind is PartKind.FULL)
    path = next(path for path in files(store) if path.name.startswith(middle.id.key))
    blocks.close()
    path.unlink()
    code, out, _ = run("cache", "verify", "--store", store)
    assert (code, out.splitlines()) == (
        1,
        [f"{path.name}: it is missing", "7 files read, 1 damaged or missing."],
    )
    assert run("cache", "verify", "--repair", "--store", store)[0] == 1
    # The tail of the same conversation went with it.
    assert run("cache", "verify", "--store", store)[:2] == (0, SOUND.format(6))
    assert len(files(store)) == 5


def test_blocks_that_follow_nothing_are_damage(run: Run, store: str) -> None:
    blocks = opened(Path(store), FixedClock())
    (middle,) = (
        part for part in blocks.index.kept() if part.start == 256 and part.id.kind is PartKind.FULL
    )
    blocks.delete(middle.namespace, middle.id)
    blocks.close()
    code, out, _ = run("cache", "verify", "--store", store)
    assert code == 1
    assert "the block before it is missing" in out
    assert run("cache", "verify", "--repair", "--store", store)[0] == 1
    assert run("cache", "verify", "--store", store)[:2] == (0, SOUND.format(6))


def test_a_damaged_index_is_told_and_made_again(run: Run, store: str) -> None:
    (Path(store) / "index.db").write_bytes(b"damaged" * 1000)
    code, out, _ = run("cache", "verify", "--store", store)
    assert (code, out.split(":")[0]) == (1, "index.db")
    assert run("cache", "verify", "--repair", "--store", store)[:2] == (0, SOUND.format(8))


def test_without_an_index_gaps_are_seen(run: Run, store: str) -> None:
    blocks = opened(Path(store), FixedClock())
    (first,) = (
        part.parent
        for part in blocks.index.kept()
        if part.start == 256 and part.id.kind is PartKind.FULL
    )
    blocks.close()
    (Path(store) / "index.db").unlink()
    assert run("cache", "verify", "--store", store)[:2] == (0, SOUND.format(8))
    next(path for path in files(store) if path.name.startswith(first)).unlink()
    code, out, _ = run("cache", "verify", "--store", store)
    assert code == 1
    assert out.endswith("7 files read, 1 damaged or missing.\n")
    assert "the block before it is missing" in out


def test_a_renamed_part_is_damage(run: Run, store: str) -> None:
    path = next(path for path in files(store) if ".full." in path.name)
    path.rename(path.with_name(path.name.replace(".full.", ".sliding.")))
    assert run("cache", "verify", "--store", store)[0] == 1


def test_what_was_not_used_for_long_is_pruned(run: Run, store: str) -> None:
    code, out, _ = run("cache", "prune", "--older-than", "9d", "--store", store, "--json")
    assert code == 0
    gone = json.loads(out)
    assert (gone["blocks"], gone["parts"]) == (3, 3)
    assert len(files(store)) == 4
    assert run("agents", "show", "alice", "--store", store)[0] == 0


def test_a_store_is_pruned_to_a_size(run: Run, store: str) -> None:
    code, out, _ = run("cache", "prune", "--to-size", "0B", "--store", store)
    assert (code, files(store)) == (0, [])
    assert out.startswith("6 blocks removed, ")
    assert run("cache", "prune", "--to-size", "1.5GiB", "--store", store)[0] == 0


@pytest.mark.parametrize(
    "wrong", [[], ["--to-size", "much"], ["--older-than", "5x"], ["--to-size", "-1"]]
)
def test_what_is_to_be_pruned_must_be_said(run: Run, store: str, wrong: list[str]) -> None:
    assert run("cache", "prune", *wrong, "--store", store)[0] == 2
    assert len(files(store)) == 7


@pytest.mark.parametrize(
    "command", [["prune", "--to-size", "0"], ["rebuild"], ["verify", "--repair"]]
)
def test_what_changes_the_store_is_refused_beside_a_server(
    run: Run, store: str, command: list[str]
) -> None:
    with StoreLock(Path(store)):
        code, _, err = run("cache", *command, "--store", store)
    assert code == 1
    assert "is in use by process" in err
    assert len(files(store)) == 7


@pytest.mark.parametrize(
    "command",
    [
        ("cache", "stats"),
        ("cache", "verify"),
        ("cache", "verify", "--repair"),
        ("cache", "prune", "--to-size", "0"),
        ("cache", "rebuild"),
        ("agents", "list"),
        ("agents", "show", "alice"),
        ("agents", "delete", "alice", "--yes"),
    ],
    ids=" ".join,
)
def test_without_its_secret_a_store_is_left_alone(
    run: Run, store: str, command: tuple[str, ...]
) -> None:
    (Path(store) / "secret.key").unlink()
    before = files(store)
    code, _, err = run(*command, "--store", store)
    assert code == 1
    assert "secret.key is missing" in err
    assert files(store) == before
    assert not (Path(store) / "secret.key").exists()


def test_what_each_tenant_takes_is_told_once_there_are_several(run: Run, store: str) -> None:
    assert "of default:" not in run("cache", "stats", "--store", store)[1]
    blocks = opened(Path(store), FixedClock(SystemClock().time()))
    blocks.put(make_part((5, 6), tenant=TenantId("acme")))
    blocks.close()
    out = run("cache", "stats", "--store", store)[1]
    assert re.search(r"^of acme: +1 parts, ", out, re.MULTILINE)
    assert re.search(r"^of default: +7 parts, ", out, re.MULTILINE)
