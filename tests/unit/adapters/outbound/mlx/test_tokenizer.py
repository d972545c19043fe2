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
from semantic.domain.answer_syntax import ReasoningSyntax
from semantic.domain.chat import ChatMessage, Conversation, Role
from semantic.domain.errors import InvalidRequestError, ModelLoadError
from semantic.domain.tools import Tool, ToolCall, ToolUse


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


def with_marks(folder: Path, *marks: str) -> MlxTokenizer:
    """The folder's tokenizer, with special tokens of these texts."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    first = 1 + max(token["id"] for token in content["added_tokens"])
    first = max(first, len(content["model"]["vocab"]))
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    content["added_tokens"] += [
        {"id": first + place, "content": mark, "special": True, **flags}
        for place, mark in enumerate(marks)
    ]
    path.write_text(json.dumps(content))
    return MlxTokenizer.load(folder)


def test_marks_of_the_syntax_leave_text_and_no_other_special_tokens(folder: Path) -> None:
    tokenizer = with_marks(folder, "<think>", "</think>", "<tool_call>", "</tool_call>", "<other>")
    text = "<think>a</think><other><tool_call>b</tool_call><|im_end|>"
    decoder = tokenizer.decoder()
    told = "".join([*map(decoder.add, tokenizer.encode(text)), decoder.finish()])
    assert told == "<think>a</think><tool_call>b</tool_call>"
    assert tokenizer.syntax.reasoning == ReasoningSyntax()


def test_the_end_of_a_turn_is_no_mark_and_stops(folder: Path) -> None:
    harmony = (
        "{% for message in messages %}<|start|>{{ message.role }}<|channel|>final<|message|>"
        "{{ message.content }}<|end|>{% endfor %}<|start|>assistant"
    )
    (folder / "chat_template.jinja").write_text(harmony)
    marks = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|call|>", "<|constrain|>")
    tokenizer = with_marks(folder, *marks)
    assert tokenizer.syntax.harmony
    assert set(tokenizer.encode("<|call|>")) <= tokenizer.stop_tokens
    decoder = tokenizer.decoder()
    told = "".join(map(decoder.add, tokenizer.encode("<|channel|>a<|message|>b<|call|>")))
    assert told == "<|channel|>a<|message|>b"


def test_a_base_model_is_told_of_tools_in_paragraphs(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    tokenizer = MlxTokenizer.load(folder)
    call = ToolCall("a", "get", "{}")
    messages = (
        ChatMessage(Role.USER, "Hello"),
        ChatMessage(Role.ASSISTANT, "Wait.", calls=(call,)),
        ChatMessage(Role.TOOL, "42", call_id="a"),
    )
    text = tokenizer.render(Conversation(messages, ToolUse((Tool("get", "Gets it."),))))
    assert "Gets it." in text
    assert text.endswith(
        'User: Hello\n\nAssistant: Wait.\n<tool_call>\n{"name": "get", "arguments": {}}\n'
        "</tool_call>\n\nUser: <tool_response>\n42\n</tool_response>\n\nAssistant:"
    )


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
