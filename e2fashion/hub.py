"""Folders and names of the Hugging Face hub: which of them a text is, where a stored one is, and a silent hub.

The network is used only for a hub name that a person wrote. A path never turns into such a name.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from e2fashion.disk import real_path
from e2fashion.types import E2FashionError

logger = logging.getLogger(__name__)

#: First parts of the relative paths that this package's commands and documentation write to.
USUAL_FOLDERS = ("runs", "models", "exports", "catalogues", "indexes", "checkpoints")
#: Seconds within which the hub has to answer one request before anything is fetched; `HF_HUB_ETAG_TIMEOUT`, the hub's
#: variable for such requests, replaces it.
ANSWER_WITHIN = 2.0
#: Seconds for which an answer, or none, counts: the files of one model cost one request.
COUNTS_FOR = 60.0
answers: dict[str, tuple[float, str | None]] = {}
from_cache: set[str] = set()
OFFLINE_REMEDY = "Give a folder that holds it (model.checkpoint=<folder>, or model=<folder> of a verb)"


def checked_hub_name(name: str | Path, what: str) -> str:
    """A name that can only be meant for the hub; errors call it ``what``.

    Raises:
        E2FashionError: it looks like a path: absolute, with more than one ``/``, or below a folder that exists or that
            runs and models are usually in.
    """
    text = str(name)
    path = Path(text).expanduser()
    first = path.parts[0] if path.parts else text
    hub_name = isinstance(name, str) and text.count("/") <= 1 and not text.startswith((".", "/", "~"))
    in_folder = "/" in text and (Path(first).is_dir() or first in USUAL_FOLDERS)
    if path.exists() or not text or "\\" in text or not hub_name or in_folder:
        raise E2FashionError(f"{what} {text!r} is not a folder; give a model's folder or a name on the hub")
    return text


def hub_options(
    name: str, kept: str = "config.json", what: str = "", cache: str | Path | None = None
) -> dict[str, Any]:
    """Options of ``from_pretrained`` for a hub name: whether the hub is used, or only its cache.

    One request comes first, which the hub has to answer within :data:`ANSWER_WITHIN` seconds: its client would repeat
    it for a minute. Without an answer, or with ``HF_HUB_OFFLINE``, the cache is used; ``kept`` is the file whose
    presence in it counts. Errors call the name ``what``.

    Raises:
        E2FashionError: no answer, and nothing in the cache.
    """
    from huggingface_hub import is_offline_mode, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = isinstance(try_to_load_from_cache(name, kept, cache_dir=cache), str)
    except HFValidationError as error:
        raise E2FashionError(
            f"{what or repr(name)} is not a folder, and '{name}' cannot be a name on the hub. {OFFLINE_REMEDY}"
        ) from error
    if not is_offline_mode():
        silence = silence_of_hub(name, kept, "model")
        if silence is None:
            return {"local_files_only": False}
    else:
        silence = "HF_HUB_OFFLINE is set"
    if not cached:
        raise E2FashionError(
            f"{what or repr(name)} is not a folder, so it was taken for a hub name, and the hub does not answer "
            f"({silence}). {OFFLINE_REMEDY}"
        )
    if name not in from_cache:
        from_cache.add(name)
        logger.warning("%s: the hub does not answer (%s); its cache is used", name, silence)
    return {"local_files_only": True}


def fetch(name: str, cache: str | Path) -> str:
    """The folder of a hub model below ``cache``, where it is fetched to unless it is there.

    Raises:
        E2FashionError: as :func:`checked_hub_name` and :func:`hub_options`, or the hub has no such model.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    options = hub_options(checked_hub_name(name, "model"), cache=cache)
    try:
        patterns = ["*.json", "*.txt", "spiece.model", "*.safetensors"]
        return snapshot_download(name, cache_dir=cache, allow_patterns=patterns, **options)
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise E2FashionError(f"'{name}' cannot be fetched from the hub: {str(error).splitlines()[0]}") from error


def source_options(source: str | Path, kept: str = "config.json", what: str = "") -> dict[str, Any]:
    """:func:`hub_options` of a name, and nothing for a folder, which never reaches the network."""
    return {"local_files_only": True} if Path(source).is_dir() else hub_options(str(source), kept, what)


def silence_of_hub(name: str, file: str, kind: str) -> str | None:
    """Why the hub does not answer a request for a ``file`` of a repository; None where it does, whatever the answer.

    ``kind`` of the repository is ``model`` or ``dataset``. The request is made in a separate thread, because the lookup
    of a host's name has no time limit. An answer counts for :data:`COUNTS_FOR` seconds.
    """
    from huggingface_hub import constants, get_session, hf_hub_url

    time_of_answer, answer = answers.get(constants.ENDPOINT, (float("-inf"), None))
    if time.monotonic() - time_of_answer < COUNTS_FOR:
        return answer
    within = float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or ANSWER_WITHIN)
    results: list[str | None] = []

    def request() -> None:
        try:
            url = hf_hub_url(name, file, repo_type=None if kind == "model" else kind)
            get_session().head(url, timeout=within)
            results.append(None)
        except Exception as error:  # of the hub's HTTP client, whichever its version has
            results.append(str(error).splitlines()[0] if str(error) else type(error).__name__)

    thread = threading.Thread(target=request, daemon=True, name="ask-hub")
    thread.start()
    thread.join(within)
    answer = results[0] if results else f"no answer within {within:g} s"
    answers[constants.ENDPOINT] = time.monotonic(), answer
    return answer


@dataclass(frozen=True)
class StoredSource:
    """Where the model of something that is stored is.

    Attributes:
        source: a folder, absolute, or a hub name; in older files whatever the person wrote.
        relative: the folder relative to the one that stores this, for where both were moved together.
        hub: whether ``source`` is a hub name that a person wrote.
    """

    source: str
    relative: str = ""
    hub: bool = False

    @classmethod
    def of(cls, name_or_folder: str | Path, stored_in: str | Path | None) -> StoredSource:
        """That of a model that was just loaded, to be stored in the folder ``stored_in``; None: in no folder."""
        folder = Path(name_or_folder).expanduser()
        if not str(name_or_folder):
            return cls("")
        if not folder.is_dir():
            return cls(str(name_or_folder), hub=True)
        absolute = real_path(folder)
        return cls(str(absolute), os.path.relpath(absolute, real_path(stored_in)) if stored_in is not None else "")

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> StoredSource:
        """That in a stored mapping of this version or an older one."""
        return cls(str(values.get("source", "")), str(values.get("relative", "")), values.get("hub") is True)

    @classmethod
    def remembered(cls, written: str, stored_in: str | Path, source: str | None = None) -> dict[str, Any]:
        """What a record keeps for :meth:`recall` of what is ``written`` in a configuration.

        ``source`` is where it is; None: as it is written.
        """
        return {"written": written, **asdict(cls.of(source or written, stored_in))}

    @classmethod
    def recall(cls, written: str, record: Mapping[str, Any] | None, stored_in: str | Path, what: str) -> str:
        """Where ``written`` is according to a record, or as it is written where the record is of something else.

        Raises:
            E2FashionError: as :meth:`find`.
        """
        if not isinstance(record, Mapping) or record.get("written") != written:
            return written
        try:
            return cls.read(record).find(stored_in, what, "Give another folder.")
        except E2FashionError:
            if Path(written).expanduser().is_dir():
                return written
            raise

    def find(self, stored_in: str | Path | None, what: str, remedy: str) -> str:
        """The folder, or the hub name that a person wrote; ``stored_in`` is the folder of :meth:`of`.

        An older file does not say which of the two it holds: what is not a folder is a hub name only if the hub's cache
        holds it.

        Raises:
            E2FashionError: it is not there; the message names the folders that were tried, and ``remedy``.
        """
        if self.hub:
            return self.source
        tried = {Path(self.source).expanduser().absolute(): None}
        if stored_in is not None:
            tried[Path(os.path.normpath(Path(stored_in).absolute() / (self.relative or self.source)))] = None
        for folder in tried:
            if folder.is_dir():
                return str(folder)
        if not self.relative and _in_cache(self.source):
            return self.source
        raise E2FashionError(f"{what} is not where it was: tried {' and '.join(map(str, tried))}. {remedy}")


def _in_cache(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return isinstance(try_to_load_from_cache(name, "config.json"), str)
    except HFValidationError:
        return False
