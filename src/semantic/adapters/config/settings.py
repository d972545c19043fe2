"""Every setting, its type and its range.

Defaults live in `config/default.toml` alone, so no field has one here; `sources` says which of
several values wins. A value outside its range, or a key that does not exist, is an error.
"""

from pathlib import Path
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

from platformdirs import user_cache_path, user_data_path
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from semantic.domain.errors import SemanticError
from semantic.domain.stable_prompt import Rule

APP_NAME = "semantic"
ENV_PREFIX = "SEMANTIC_"
ENV_DELIMITER = "__"

Count = Annotated[int, Field(ge=1)]
Bytes = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Milliseconds = Annotated[float, Field(ge=0)]
Seconds = Annotated[float, Field(gt=0)]
Text = Annotated[str, Field(min_length=1)]
Level = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
    BeforeValidator(lambda level: level.upper() if isinstance(level, str) else level),
]


def _absolute(folder: str) -> Path:
    """A folder wherever the process goes.

    Raises:
        ValueError: if there can be none of that name.
    """
    if "\0" in folder:
        raise ValueError("a path has no NUL characters")
    try:
        return Path(folder).expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"{folder} begins with a user who is not known here") from error


def _may_be_a_folder(text: str) -> str:
    _absolute(text)
    return text


def _as_number(bits: object) -> object:
    return int(bits) if isinstance(bits, str) and bits.isdecimal() else bits


def _listed(text: str) -> tuple[str, ...]:
    """What stands between commas."""
    return tuple(part for part in (part.strip() for part in text.split(",")) if part)


def _may_be_origins(text: str) -> str:
    for origin in _listed(text):
        found = urlsplit(origin)
        if origin != "*" and (not found.hostname or origin != f"{found.scheme}://{found.netloc}"):
            raise ValueError(f"{origin} is no origin, such as https://example.org or *")
    return text


def _may_be_hints(text: str) -> str:
    for hint in _listed(text):
        if hint not in get_args(Hint):
            raise ValueError(f"{hint} is none of {', '.join(get_args(Hint))}")
    return text


Hint = Literal[
    "claude-code",
    "codex",
    "session-id",
    "session-affinity",
    "open-webui",
    "prompt-cache-key",
    "metadata-session",
    "user",
]
"""What an agent may be named by, besides our own header."""

Origins = Annotated[str, AfterValidator(_may_be_origins)]
Hints = Annotated[str, AfterValidator(_may_be_hints)]
Folder = Annotated[str, AfterValidator(_may_be_a_folder)]
# A variable in the environment is text, a number in a TOML file is one.
KVBits = Annotated[Literal["none", 8, 4], BeforeValidator(_as_number)]


class SettingsError(SemanticError):
    """A setting cannot be used; the message names its key and where its value came from."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ServerSettings(_Section):
    """The HTTP server. Port 0 takes any free port. Several hosts or origins stand with commas."""

    host: Text
    port: Annotated[int, Field(ge=0, le=65535)]
    allow_open: bool
    allowed_hosts: str
    cors_origins: Origins
    max_connections: Count
    max_header_bytes: Annotated[int, Field(ge=1024)]
    max_body_bytes: Count
    request_timeout_s: Seconds
    ping_interval_s: Seconds
    shutdown_timeout_s: Seconds

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names by which the server is called, besides its addresses and `localhost`."""
        return (self.host, *_listed(self.allowed_hosts))

    @property
    def origins(self) -> tuple[str, ...]:
        """Of web pages that may talk to the server."""
        return _listed(self.cors_origins)

    @property
    def cut_off_s(self) -> float:
        """When a stopping server waits no more for answers that it has ended half way to that."""
        return 2 * self.shutdown_timeout_s


class ModelSettings(_Section):
    """What is served, and by which names. An empty `cache_dir` means the user's cache folder."""

    id: Text
    aliases: str
    cache_dir: Folder

    @property
    def names(self) -> tuple[str, ...]:
        """What the model answers to besides its own name."""
        return _listed(self.aliases)

    @property
    def cache_path(self) -> Path:
        """Where converted models are kept."""
        return _absolute(self.cache_dir) if self.cache_dir else user_cache_path(APP_NAME)


class StoreSettings(_Section):
    """The store and its threads. An empty `dir` means the user's data folder."""

    dir: Folder
    max_bytes: Bytes
    max_disk_share: Share
    high_watermark: Share
    low_watermark: Share
    min_free_bytes: Bytes
    daily_write_bytes: Bytes
    writes: bool
    recheck_s: Seconds
    kv_bits: KVBits
    hot_bytes: Bytes
    queue_bytes: Bytes
    state_interval: Count
    resume_points: Annotated[int, Field(ge=2)]
    restore: Literal["auto", "always"]
    reader_threads: Annotated[int, Field(ge=1, le=64)]
    read_timeout_s: Seconds
    durability: Literal["relaxed", "full"]
    commit_timeout_s: Seconds

    @property
    def quantized_bits(self) -> int | None:
        """Bits of an element of KV that is kept; None: as the model computes it."""
        return None if self.kv_bits == "none" else self.kv_bits

    @property
    def path(self) -> Path:
        """Where memory is kept."""
        return _absolute(self.dir) if self.dir else user_data_path(APP_NAME)


class EngineSettings(_Section):
    """How much is worked on at once."""

    max_batch: Count
    max_waiting: Annotated[int, Field(ge=0)]
    chunk_tokens_cpu: Count
    chunk_tokens_gpu: Count
    chunk_tokens_shared: Count
    decode_stall_ms_cpu: Milliseconds
    decode_stall_ms_gpu: Milliseconds
    kv_bytes: Bytes
    step_timeout_s: Seconds
    blas_threads: Annotated[int, Field(ge=0, le=1024)]


class GenerationSettings(_Section):
    """What a request gets where it does not say."""

    default_max_tokens: Count


class AuthSettings(_Section):
    """What may be asked with an API key that has no limits of its own; 0: no limit."""

    requests_per_minute: Annotated[int, Field(ge=0)]
    concurrent: Annotated[int, Field(ge=0)]


class AgentSettings(_Section):
    """What is remembered of an agent, and what names one besides our own header."""

    max_branches: Count
    recent_turns: Annotated[int, Field(ge=0)]
    named_by: Hints

    @property
    def hints(self) -> tuple[str, ...]:
        """What names an agent, the strongest first."""
        return _listed(self.named_by)


class ResponseSettings(_Section):
    """Responses that clients may ask for again. With `max_bytes` 0 none is kept."""

    max_count: Count
    max_bytes: Bytes
    max_age_s: Seconds


class PromptSettings(_Section):
    """What of a conversation is taken out or written alike, each by a rule of that name."""

    billing_header: bool
    token_reminders: bool
    tool_schemas: bool
    call_arguments: bool
    answer_ends: bool

    @property
    def rules(self) -> frozenset[Rule]:
        """Those that are in force."""
        chosen = {
            Rule.BILLING_HEADER: self.billing_header,
            Rule.TOKEN_REMINDERS: self.token_reminders,
            Rule.TOOL_SCHEMAS: self.tool_schemas,
            Rule.CALL_ARGUMENTS: self.call_arguments,
            Rule.ANSWER_ENDS: self.answer_ends,
        }
        return frozenset(rule for rule, wanted in chosen.items() if wanted)


class LoggingSettings(_Section):
    """What is logged, and how it looks."""

    level: Level
    format: Literal["console", "json"]


class Settings(BaseSettings):
    """All settings. Built by `sources.load_settings`, which merges every source beforehand."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=ENV_DELIMITER,
    )

    server: ServerSettings
    auth: AuthSettings
    model: ModelSettings
    store: StoreSettings
    engine: EngineSettings
    generation: GenerationSettings
    agents: AgentSettings
    responses: ResponseSettings
    prompt: PromptSettings
    logging: LoggingSettings

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the library's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what is passed in, and nothing behind the caller's back."""
        return (init_settings,)
