"""Settings of the server. Flags override the environment (`NEWSIE_*`), which overrides the defaults.

Every limit has a default, and the default a reason.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from newsie.cores import count_cores
from newsie.errors import InputError

__all__ = ["Settings", "find_slips", "read_settings"]

MIN_KEY_CHARACTERS = 16
"""The minimum length of a key. A shorter key could be guessed."""

LIKE = 0.8
"""The similarity (difflib's ratio) to a setting from which a name counts as a typing error."""

OTHERS = ("NEWSIE_DATA", "NEWSIE_WORKERS_DIR")
"""Variables of Newsie that look like a setting of the server and are none."""

_KEY = re.compile(r"[!-~]+")

AllowedHost = Annotated[str, Field(pattern=r"^(\*|(\*\.)?[A-Za-z0-9_.:\[\]-]{1,253})$")]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Settings(BaseSettings):
    """The settings of a server. `NEWSIE_PORT=80` sets `port`, and so on.

    Attributes:
        host: the address to listen at; this machine only, unless told otherwise.
        port: the port; 0 takes a free one. `AIP_HTTP_PORT` (Vertex AI) and `SAGEMAKER_BIND_TO_PORT`
            set it too.
        model: directory of a bundle, or owner/name on the Hugging Face hub; None is the bundled one.
        models_dir: the directory whose bundles `POST /admin/model` may load by name; None: nothing
            can be loaded that way.
        task: the task that dialects with one answer a text give when none is asked for; None is the
            model's first.
        workers: processes that share the port.
        threads: threads that compute in each process; None is `OMP_NUM_THREADS`, or else all cores
            this process may use, divided among the workers.
        allowed_hosts: names that clients may reach the server by, beside those that need no naming
            (see "Hosts"); separated by commas. `*.example.org` allows all names below that one, `*` any.
        api_key: the key that clients must send, or several, separated by blanks; None lets everybody in.
        api_key_file: a file that holds the key, or several, one a line.
        vertex_health_route: `AIP_HEALTH_ROUTE`, set by Vertex AI.
        vertex_predict_route: `AIP_PREDICT_ROUTE`, likewise.
        auto_truncate: whether texts longer than the model reads are cut in text-embeddings-inference's
            dialect where a request does not say; all other dialects always cut.

        max_connections: open connections. Each costs a file descriptor; systems allow 1,024 or more.
        max_header_bytes: request line and headers. As Node.js; nginx has 8 kB a line.
        max_body_bytes: body of a request, as sent and as unpacked. As text-embeddings-inference.
        max_body_chunks: pieces in which a body may come. 2 MB make 200 bytes a piece.
        max_held_bytes: bodies of all requests together, so that slow or large ones cannot fill memory.
        max_file_bytes: body of `POST /v1/read`, the file that the page sends.
        max_file_rows: rows of that file.
        max_json_depth: nesting of a body. No format here needs more than 5.
        max_articles: articles of a request. 8 kB each fill `max_body_bytes`.
        max_article_characters: of headline and body together. The model reads the
            first few hundred words.
        max_concurrent_requests: requests that are worked on. As text-embeddings-inference.
        max_queue_articles: articles that wait. Before that, whatever would have to wait longer than half
            of `request_timeout_seconds`, as fast as the last batches were, is refused.
        max_queue_tokens: tokens that wait: 64 for each of these articles.
        max_batch_tokens: tokens of a batch, padding included. More make no article cheaper, and what comes
            next waits for them: it is begun when a batch ends.
        max_explain_passes: passes of the model for one explanation.
        cache_articles: answers that are kept for articles that come again word for word; 0 is none.
        header_timeout_seconds: from the first byte of a request to the end of its headers, and from
            the opening of a connection to its first request.
        body_timeout_seconds: from the end of the headers to the end of the body. 2 MB at 0.5 Mbit/s.
        keep_alive_seconds: how long a connection may idle. Longer than balancers keep theirs (60 s), so
            that they close first.
        request_timeout_seconds: from the whole request to its answer. Half of it may be spent waiting: an
            estimate may be wrong by a factor of two, and an answer that comes too late is work for nobody.
        load_timeout_seconds: from the first byte of a model to its readiness. A download may take minutes;
            a model that is still not ready is given up, at the start with the whole server.
        send_timeout_seconds: how long an answer may wait for its client to read it.
        drain_seconds: after SIGTERM, how long requests are still taken, while `/health/ready` says no.
        shutdown_timeout_seconds: after that, how long answers under way may take; who has none
            by then is told 503.
        failures_until_unready: batches that fail in a row until `/health/ready` says no.
        probe_seconds: how often a model that fails is tried again.
    """

    model_config = SettingsConfigDict(
        env_prefix="NEWSIE_", frozen=True, extra="forbid", populate_by_name=True
    )

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"  # an empty one means every network
    port: int = Field(
        default=8_000,
        ge=0,
        le=65_535,
        validation_alias=AliasChoices("NEWSIE_PORT", "AIP_HTTP_PORT", "SAGEMAKER_BIND_TO_PORT"),
    )
    model: str | None = None
    models_dir: Path | None = None
    task: str | None = None
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    threads: Count | None = None
    allowed_hosts: Annotated[tuple[AllowedHost, ...], NoDecode] = ()
    api_key: SecretStr | None = None
    api_key_file: Path | None = None
    auto_truncate: bool = True
    vertex_health_route: str | None = Field(default=None, validation_alias="AIP_HEALTH_ROUTE")
    vertex_predict_route: str | None = Field(default=None, validation_alias="AIP_PREDICT_ROUTE")

    max_connections: Count = 1_024
    max_header_bytes: Count = 16_384
    max_body_bytes: Count = 2_000_000
    max_body_chunks: Count = 10_000
    max_held_bytes: Count = 64_000_000
    max_file_bytes: Count = 16_000_000
    max_file_rows: Count = 100_000
    max_json_depth: Count = 32
    max_articles: Count = 256
    max_article_characters: Count = 100_000
    max_concurrent_requests: Count = 512
    max_queue_articles: Count = 4_096
    max_queue_tokens: Count = 262_144
    max_batch_tokens: Count = 1_024
    max_explain_passes: Annotated[int, Field(ge=2)] = 128
    cache_articles: Annotated[int, Field(ge=0)] = 0
    header_timeout_seconds: Seconds = 10
    body_timeout_seconds: Seconds = 30
    keep_alive_seconds: Seconds = 75
    request_timeout_seconds: Seconds = 10
    load_timeout_seconds: Seconds = 600
    send_timeout_seconds: Seconds = 30
    drain_seconds: Annotated[float, Field(ge=0)] = 1
    shutdown_timeout_seconds: Seconds = 30
    failures_until_unready: Count = 3
    probe_seconds: Seconds = 5

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split(cls, given: object) -> object:
        return given.replace(",", " ").split() if isinstance(given, str) else given

    @model_validator(mode="after")
    def _one_key(self) -> Settings:
        if self.api_key is not None and self.api_key_file is not None:
            raise ValueError("api_key and api_key_file are both given; give one of them")
        return self

    def read_keys(self) -> tuple[str, ...]:
        """Return the valid keys. Clients must send one, unless there are none.

        Raises:
            InputError: the file cannot be read or holds no key, or a key is too short or cannot be sent.
        """
        if self.api_key is not None:
            text = self.api_key.get_secret_value()
        elif self.api_key_file is not None:
            try:
                text = self.api_key_file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"api_key_file {self.api_key_file}: {error}") from error
        else:
            return ()
        keys = tuple(text.split())
        if not keys or any(
            len(key) < MIN_KEY_CHARACTERS or not _KEY.fullmatch(key) for key in keys
        ):
            raise InputError(
                f"a key needs at least {MIN_KEY_CHARACTERS} printable ASCII characters without "
                "blanks; make one with  openssl rand -hex 32"
            )
        return keys

    def threads_of_a_worker(self) -> int:
        """Return the threads of each process: as set, or the available cores divided among the workers."""
        if self.threads is not None:
            return self.threads
        given = os.environ.get("OMP_NUM_THREADS", "")
        if given.isdecimal() and int(given):
            return int(given)
        return max(1, count_cores() // self.workers)


def find_slips(names: Iterable[str]) -> dict[str, str]:
    """Return variables that look like a misspelt setting, such as NEWSIE_APIKEY -> NEWSIE_API_KEY.

    Such an error would leave a server open whose owner believes it is locked. Other variables named
    NEWSIE_... are allowed: Kubernetes, for one, adds the services of its cluster to the environment.
    """
    settings = [f"NEWSIE_{name.upper()}" for name in Settings.model_fields]
    slips = {}
    for name in names:
        if name.upper().startswith("NEWSIE_") and name.upper() not in (*settings, *OTHERS):
            for meant in get_close_matches(name.upper(), settings, 1, LIKE):
                slips[name] = meant
    return slips


def read_settings(flags: Mapping[str, Any]) -> Settings:
    """Read settings from flags, then from the environment.

    Raises:
        InputError: a value is not allowed.
    """
    try:
        return Settings(**flags)
    except ValidationError as error:
        wrong = [
            f"{'.'.join(map(str, item['loc'])) or 'settings'}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False)
        ]
        raise InputError("settings: " + "; ".join(wrong)) from error
