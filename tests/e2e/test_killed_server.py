"""SIGKILL at random moments of a real server: the first size of what `make soak` does."""

from pathlib import Path

import pytest
from bench.kill_server import Rounds


@pytest.mark.timeout(600)
def test_a_killed_server_forgets_nothing_it_acknowledged_and_answers_as_if_never_killed(
    tmp_path: Path, settings_of_servers: dict[str, str]
) -> None:
    found = Rounds(tmp_path, settings_of_servers, seed=20261123, agents=2).play(5)
    assert found.bad == []
    assert found.rounds == 5
    assert found.restored >= 5
