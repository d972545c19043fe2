"""What every tokenizer does. Each implementation is run through the same tests."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import tiny_llama

from semantic.adapters.outbound.mlx import gguf_import
from semantic.adapters.outbound.mlx.tokenizer import MlxTokenizer
from semantic.domain.chat import ChatMessage, Conversation, Role
from semantic.ports.tokenizer import Tokenizer

TEXTS = [
    "",
    " leading, trailing ",
    "In 1984, 12,345 people paid $3.50.\n\n\tIndented\r\n",
    "naïve café, Ελληνικά, русский, עברית, العربية",
    "日本語と中文、한국어",
    "👨‍👩‍👧‍👦 🏳️‍🌈 e\u0301 \u200b\ufeff",
    "def f(x: int) -> str:\n    return f'{x!r}'  # it's we'll they're\n",
    "a replacement \N{REPLACEMENT CHARACTER} inside, and one at the end \N{REPLACEMENT CHARACTER}",
]


def of_the_default_model(default_model_dir: Path, _: Path) -> Tokenizer:
    return MlxTokenizer.load(default_model_dir)


def of_bytes(_: Path, scratch: Path) -> Tokenizer:
    """Hardly any merges: every character beyond ASCII is split over tokens."""
    gguf_import.convert(tiny_llama.write(scratch / "tiny.gguf"), scratch / "tiny")
    return MlxTokenizer.load(scratch / "tiny")


@pytest.fixture(scope="module", params=[of_the_default_model, of_bytes])
def tokenizer(
    request: pytest.FixtureRequest,
    default_model_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Tokenizer:
    make: Callable[[Path, Path], Tokenizer] = request.param
    return make(default_model_dir, tmp_path_factory.mktemp("tokenizer"))


def streamed(tokenizer: Tokenizer, tokens: tuple[int, ...]) -> list[str]:
    decoder = tokenizer.decoder()
    return [*map(decoder.add, tokens), decoder.finish()]


class TestTokenizer:
    @pytest.mark.parametrize("text", TEXTS)
    def test_decode_undoes_encode(self, tokenizer: Tokenizer, text: str) -> None:
        assert tokenizer.decode(tokenizer.encode(text)) == text

    # Some models' vocabularies, the default's too, lack bytes of control characters and of
    # planes without characters; such text has no ids.
    @given(text=st.text(st.characters(max_codepoint=0x3FFFF, exclude_categories=("Cc", "Cs"))))
    def test_decode_undoes_encode_for_any_text(self, tokenizer: Tokenizer, text: str) -> None:
        assert tokenizer.decode(tokenizer.encode(text)) == text

    @pytest.mark.parametrize("text", TEXTS)
    def test_stream_gives_the_text(self, tokenizer: Tokenizer, text: str) -> None:
        assert "".join(streamed(tokenizer, tokenizer.encode(text))) == text

    @pytest.mark.parametrize("text", TEXTS)
    def test_tokens_bytes_joined_are_the_text(self, tokenizer: Tokenizer, text: str) -> None:
        tokens = tokenizer.encode(text)
        assert b"".join(map(tokenizer.token_bytes, tokens)) == text.encode()

    def test_markers_and_unknown_ids_have_bytes_as_well(self, tokenizer: Tokenizer) -> None:
        (marker,) = tokenizer.encode("<|im_end|>")
        assert tokenizer.token_bytes(marker) == b"<|im_end|>"
        assert tokenizer.token_bytes(10**6) == b""

    @given(text=st.text(alphabet="aé日😀 \n", max_size=30))
    def test_stream_never_gives_half_a_character(self, tokenizer: Tokenizer, text: str) -> None:
        pieces = streamed(tokenizer, tokenizer.encode(text))
        assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces)
        assert "".join(pieces) == text

    @given(data=st.data())
    def test_stream_equals_decoding_all_tokens_that_are_not_special(
        self, tokenizer: Tokenizer, data: st.DataObject
    ) -> None:
        # Low ids: byte tokens and special ones, so that most sequences are no UTF-8.
        tokens = tuple(data.draw(st.lists(st.integers(0, 261), max_size=40)))
        plain = [t for t in tokens if "".join(streamed(tokenizer, (t,)))]
        assert "".join(streamed(tokenizer, tokens)) == tokenizer.decode(plain)

    def test_text_is_given_as_soon_as_it_is_certain(self, tokenizer: Tokenizer) -> None:
        decoder = tokenizer.decoder()
        so_far = ""
        for count, token in enumerate(tokens := tokenizer.encode("Hello there, 世界!"), start=1):
            so_far += decoder.add(token)
            certain = tokenizer.decode(tokens[:count]).rstrip("\N{REPLACEMENT CHARACTER}")
            assert so_far == certain

    def test_half_a_character_at_the_end_is_shown(self, tokenizer: Tokenizer) -> None:
        tokens = tokenizer.encode("x😀")[:-1]
        pieces = streamed(tokenizer, tokens)
        assert pieces[-1] == "\N{REPLACEMENT CHARACTER}"
        assert "".join(pieces) == tokenizer.decode(tokens)

    def test_decoders_are_independent(self, tokenizer: Tokenizer) -> None:
        first, second = tokenizer.decoder(), tokenizer.decoder()
        half, rest = tokenizer.encode("é")[:1], tokenizer.encode("é")[1:]
        given_out = "".join(map(first.add, half))
        assert "".join(map(second.add, tokenizer.encode("a"))) == "a"
        assert given_out + "".join(map(first.add, rest)) + first.finish() == "é"

    def test_threads_may_use_it_at_once(self, tokenizer: Tokenizer) -> None:
        def check(number: int) -> bool:
            text = f"{number} naïve café 日本語 " * (1 + number % 5 * 10)
            tokens = tokenizer.encode(text)
            return tokenizer.decode(tokens) == text == "".join(streamed(tokenizer, tokens))

        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(check, range(40)))

    def test_a_first_use_by_many_threads_is_no_clash(self, default_model_dir: Path) -> None:
        fresh = MlxTokenizer.load(default_model_dir)
        with ThreadPoolExecutor(8) as threads:
            assert len(set(threads.map(fresh.encode, ["hello"] * 16))) == 1

    def test_render_opens_the_assistants_turn(self, tokenizer: Tokenizer) -> None:
        text = tokenizer.render(Conversation((ChatMessage(Role.USER, "Hello <b>&amp;</b> 世界"),)))
        assert "Hello <b>&amp;</b> 世界" in text
        assert text.endswith("<|im_start|>assistant\n")

    def test_render_grows_with_the_conversation(self, tokenizer: Tokenizer) -> None:
        first = [ChatMessage(Role.SYSTEM, "Be brief."), ChatMessage(Role.USER, "Hi")]
        more = [ChatMessage(Role.ASSISTANT, "Hello."), ChatMessage(Role.USER, "Bye")]
        assert tokenizer.render(Conversation((*first, *more))).startswith(
            tokenizer.render(Conversation(tuple(first)))
        )

    def test_markers_become_single_tokens_that_leave_no_text(self, tokenizer: Tokenizer) -> None:
        marker = tokenizer.encode("<|im_end|>")
        assert len(marker) == 1
        assert tokenizer.decode(marker) == "<|im_end|>"
        assert streamed(tokenizer, marker) == ["", ""]

    def test_the_end_of_a_turn_stops(self, tokenizer: Tokenizer) -> None:
        assert set(tokenizer.encode("<|im_end|>")) <= tokenizer.stop_tokens


def test_a_result_is_told_though_the_template_refuses_it(tmp_path: Path) -> None:
    text = of_bytes(tmp_path, tmp_path).render(Conversation((ChatMessage(Role.TOOL, "42"),)))
    assert "<tool_response>\n42\n</tool_response>" in text
