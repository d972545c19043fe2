import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Hide the variables and the .env file of whoever runs the tests."""
    for name in os.environ:
        if name.upper().startswith("SEMANTIC_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path
