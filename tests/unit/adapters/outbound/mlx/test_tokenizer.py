"""What is particular to model folders; what any tokenizer does is a contract test."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.fakes import tiny_llama
from tokenizers import Tokenizer, decoders
from tokenizers.models import BPE

from semantic.adapters.outbound.mlx import gguf_import
from semantic.adapters.outbound.mlx.tokenizer import MlxTokenizer
from semantic.domain.chat import ChatMessage, Conversation, Role
from semantic.domain.errors import InvalidRequestError, ModelLoadError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    gguf_import.convert(tiny_llama.write(tmp_path / "tiny.gguf"), tmp_path / "tiny")
    return tmp_path / "tiny"


def test_stop_tokens_join_those_of_the_generation_config(folder: Path) -> None:
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": [0]}))
    assert MlxTokenizer.load(folder).stop_tokens == {0, 1}


def test_a_model_without_template_gets_paragraphs(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    tokenizer = MlxTokenizer.load(folder)
    messages = [ChatMessage(Role.SYSTEM, "Be kind."), ChatMessage(Role.USER, "Hello")]
    text = tokenizer.render(Conversation(tuple(messages)))
    assert text == "<|im_start|>System: Be kind.\n\nUser: Hello\n\nAssistant:"
    assert tokenizer.encode(text)[0] == 0


@pytest.mark.parametrize("template", ["{{ messages[9].content }}", "{{ 1 + 'a' }}", "{% if %}"])
def test_a_template_that_fails_is_the_requests_fault(folder: Path, template: str) -> None:
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(InvalidRequestError) as caught:
        MlxTokenizer.load(folder).render(Conversation((ChatMessage(Role.USER, "Hello"),)))
    assert caught.value.field == "messages"


@pytest.mark.parametrize("damage", ["", "{", '{"model": {"type": "Unheard"}}'])
def test_damaged_files_are_a_load_error(folder: Path, damage: str) -> None:
    (folder / "tokenizer.json").write_text(damage)
    with pytest.raises(ModelLoadError, match="tokenizer in"):
        MlxTokenizer.load(folder)


def test_ids_beyond_the_vocabulary_leave_no_text(folder: Path) -> None:
    """Some models' embeddings are padded to a round number of rows."""
    tokenizer = MlxTokenizer.load(folder)
    decoder = tokenizer.decoder()
    (a,), (b,) = tokenizer.encode("a"), tokenizer.encode("b")
    assert [decoder.add(token) for token in (a, 100_000, b)] == ["a", "", "b"]


def test_sentencepiece_words_keep_their_spaces(folder: Path) -> None:
    vocabulary = {"▁Hello": 0, "▁world": 1, "<0xE2>": 2, "<0x82>": 3, "<0xAC>": 4, "!": 5}
    tokenizer = Tokenizer(BPE(vocabulary, [], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    stream = MlxTokenizer.load(folder).decoder()
    pieces = [stream.add(token) for token in (0, 1, 2, 3, 4, 5)]
    assert pieces == ["Hello", " world", "", "", "€", "!"]
    assert stream.finish() == ""


def test_torch_is_never_imported() -> None:
    script = (
        "import sys; sys.modules['torch'] = None; import semantic.adapters.outbound.mlx.tokenizer"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)  # noqa: S603
