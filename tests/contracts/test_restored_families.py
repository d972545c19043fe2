"""Whatever passes the probe is kept, so every family that does must come back as it was.

A network may remember something beside its caches, of which no probe can know; none here does.
tests/integration/test_model_families.py has the promised families in full.
"""

import pytest
from tests.fakes.engine_driver import (
    GREEDY,
    Driver,
    attached,
    exported,
    keep,
    make_prompt,
    rule_of,
    through_bytes,
)
from tests.fakes.model_families import FAMILIES, WINDOW
from tests.fakes.random_models import capabilities, make_model

from semantic.adapters.outbound.mlx.executor import MlxExecutor
from semantic.domain.ids import SequenceId

WITHOUT_MEMORY = ("llama4", "longcat_flash_ngram")
"""Refused, because its caches cannot enter a batch; kept as integers."""

A, B = SequenceId(0), SequenceId(1)
POSITION, END, COUNT = WINDOW + 8, WINDOW + 13, 6


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in WITHOUT_MEMORY])
def test_a_restored_run_equals_the_uninterrupted_one(family: str) -> None:
    model = make_model(FAMILIES[family])
    executor = MlxExecutor(model, capabilities(model))
    prompt = make_prompt(END)
    driver = Driver(executor)
    executor.attach(A, (), (), GREEDY)
    driver.prefill(A, prompt[:POSITION])
    block = keep(executor, A, 0, POSITION)
    driver.prefill(A, prompt[POSITION:], last=True)
    driver.steps(COUNT)
    left = exported(executor, keep(executor, A, 0, END + COUNT))
    answer = driver.release(A)
    block = through_bytes(executor, executor, block)
    driver.start(B, prompt, blocks=attached(rule_of(executor), [block], POSITION))
    driver.steps(COUNT)
    assert exported(executor, keep(executor, B, 0, END + COUNT)) == left
    assert driver.release(B) == answer
