"""Tenants on one cache: none uses another's blocks, nor notices that there are any."""

import random

import pytest
from tests.fakes.tenant_world import MODELS, Tenants, small_blocks

CASES = 10_000
_STEPS = 125
"""In one world, before another begins."""


def test_no_tenant_hits_anothers_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 prompts of random tenants, each asked by everybody: 0 hits across tenants.

    Each tenant reuses exactly what it would if there were no other.
    """
    small_blocks(monkeypatch)
    cases = reused = number = 0
    while cases < CASES:
        tenants = Tenants(MODELS[number % len(MODELS)], random.Random(number))  # noqa: S311 - examples
        try:
            cases += sum(tenants.step() for _ in range(_STEPS))
        finally:
            tenants.close()
        reused += tenants.reused
        number += 1
    assert reused > CASES, "hardly anything was reused, so hardly anything was tried"
