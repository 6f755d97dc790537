# SPDX-License-Identifier: Apache-2.0
"""Waits until servers have loaded a version, so that a label may move to it.

TensorFlow Serving moves a label that is in use to nothing but a version that is loaded.
It looks at labels before it loads what the same file asks for, and where one cannot
move takes nothing of the file (`ServerCore::ReloadConfig` in its server_core.cc).
"""

import time
from dataclasses import dataclass
from urllib.parse import quote

import urllib3

from preprocessing.foundation import strict_json
from preprocessing.foundation.commands import UsageError, WorkError, note

_LOOK_SECONDS = 0.5
_ANSWER_SECONDS = 10.0
_AVAILABLE, _FINE = "AVAILABLE", "OK"
_FAILED = "END, "  # with an error; without one it was unloaded


@dataclass(frozen=True)
class Servers:
    """Servers that read a tree's `models.config`.

    Attributes:
        urls: of their REST interface, as http://localhost:8501.
        seconds: how long they may take to load a version; they look at the file every
            `--model_config_file_poll_wait_seconds`.
    """

    urls: tuple[str, ...] = ()
    seconds: float = 600.0


NO_SERVERS = Servers()


def wait_until_loaded(servers: Servers, name: str, version: int) -> None:
    """Waits until all servers have loaded a version of a model.

    Raises:
        UsageError: a URL is none.
        WorkError: a server failed to load it, or did not in time.
    """
    until = time.monotonic() + servers.seconds
    note(f"waiting until version {version} of {name} is loaded by the servers named")
    for url in servers.urls:
        first = state = _state(url, name, version)
        while state != _AVAILABLE:
            # At first it may tell of an earlier end.
            failed = state.startswith(_FAILED) and state != first
            if failed or time.monotonic() > until:
                raise WorkError(
                    f"wanted {url} to load version {version} of {name}, found: "
                    f"{state}. The label stays where it was; see the server's log"
                )
            time.sleep(_LOOK_SECONDS)
            state = _state(url, name, version)


def _state(url: str, name: str, version: int) -> str:
    """Returns what a server says of a version: its state, or why there is none."""
    place = f"{url.rstrip('/')}/v1/models/{quote(name, safe='')}/versions/{version}"
    try:
        answer = urllib3.request(
            "GET", place, timeout=_ANSWER_SECONDS, retries=urllib3.Retry(0)
        )
    except urllib3.exceptions.LocationValueError as error:
        raise UsageError(
            f"wanted --server as http://localhost:8501, found {url}: {error}. Correct "
            "it"
        ) from None
    except urllib3.exceptions.HTTPError as error:
        return f"no answer ({error})"
    try:
        found = strict_json.loads(answer.data)
        (status,) = found.get("model_version_status") or [{}]
        state = str(status.get("state") or found.get("error") or answer.status)
        wrong = status.get("status") or {}
        if wrong.get("error_code", _FINE) == _FINE:
            return state
        return f"{state}, {wrong['error_code']}: {wrong.get('error_message')}"
    except (ValueError, AttributeError, TypeError):
        return f"an answer that is none of the server's (status {answer.status})"
