# SPDX-License-Identifier: Apache-2.0
"""Requests to a server of models: JSON over HTTP, tried again, and told in its words.

    no connection            tried again, then the end of the job: nobody is there
    401, 403, 404, 405       the end of the job: every request would be refused
    429, 5xx, no answer in   tried again, then `Refused`: the requests at fault can be
    time, one broken off     found by halving
    any other of 400 or more `Refused` at once

Waits double from one try to the next, less a part that follows from seed and request,
so that clients that failed together do not come back together; a server's Retry-After
goes before.
"""

import hashlib
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    InvalidHeader,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from preprocessing.foundation import strict_json
from preprocessing.foundation.commands import WorkError, count_of

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0
_LONGEST_RETRY_AFTER = 600
_CONNECT_SECONDS = 10.0
# Enough of a server's message to see what it is about.
_QUOTED = 300
_HOPELESS = frozenset({401, 403, 404, 405})
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class RequestRules:
    """How a server is asked.

    Attributes:
        concurrency: requests at a time, of a process.
        retries: further tries of a request.
        seconds: how long a server may leave one without an answer.
        key_variable: of the environment where requests are made, holds the key that is
            sent as a bearer token; without it none is sent.
        seed: of the waits.
    """

    concurrency: int = 8
    retries: int = 7
    seconds: float = 600.0
    key_variable: str = "OPENAI_API_KEY"
    seed: int = 0


class Refused(Exception):
    """A server did not do what it was asked for; the message quotes it."""


class JsonClient:
    """Asks servers for JSON; safe to use from several threads at a time."""

    def __init__(self, rules: RequestRules) -> None:
        self._rules = rules
        self._pools: dict[str, urllib3.PoolManager] = {}
        self._lock = threading.Lock()
        # However many of Beam's threads a process has, and each of those its own.
        self._room = threading.BoundedSemaphore(rules.concurrency)
        self._failing = False

    def get(self, url: str) -> Any:
        """Returns what a server holds; raises as `post` does."""
        return self._ask("GET", url, None)

    def post(self, url: str, body: Mapping[str, Any]) -> Any:
        """Returns what a server makes of a request.

        Raises:
            Refused: it refuses this request, or does not answer it in time.
            WorkError: nobody is there, or every request would be refused.
        """
        return self._ask("POST", url, strict_json.dumps(body).encode())

    def _ask(self, method: str, url: str, body: bytes | None) -> Any:
        # While nothing succeeds, further requests need not wait as long as the first.
        retries = min(self._rules.retries, 1) if self._failing else self._rules.retries
        started, tried = time.monotonic(), 0
        while True:
            tried += 1
            try:
                with self._room:
                    answer = self._send(method, url, body)
            except (NewConnectionError, ConnectTimeoutError, SSLError) as error:
                failure: Exception = _nobody(url, error, tried, started)
                wait = None
            except HTTPError as error:
                failure, wait = _broken_off(error, self._rules.seconds), None
            else:
                if answer.status not in _PASSING:
                    self._failing = False
                    return _read(answer, url)
                failure, wait = _refusal(answer, url), _retry_after(answer)
            if tried > retries:
                self._failing = True
                raise failure
            if wait is None:
                wait = pause(tried, url.encode() + (body or b""), self._rules.seed)
            time.sleep(wait)

    def _send(
        self, method: str, url: str, body: bytes | None
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Accept": "application/json", "User-Agent": "quern-generate"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        key = os.environ.get(self._rules.key_variable, "")
        if key:
            headers["Authorization"] = f"Bearer {key}"
        return self._pool(url).request(
            method,
            url,
            body=body,
            headers=headers,
            retries=False,
            timeout=urllib3.Timeout(
                connect=min(_CONNECT_SECONDS, self._rules.seconds),
                read=self._rules.seconds,
            ),
        )

    def _pool(self, url: str) -> urllib3.PoolManager:
        """Returns the connections of a server, through the environment's proxy."""
        parts = urlsplit(url)
        with self._lock:
            if parts.netloc not in self._pools:
                proxy = getproxies().get(parts.scheme)
                if proxy is None or proxy_bypass(parts.netloc):
                    pool = urllib3.PoolManager(maxsize=self._rules.concurrency)
                else:
                    size = self._rules.concurrency
                    pool = urllib3.ProxyManager(proxy, maxsize=size)
                self._pools[parts.netloc] = pool
            return self._pools[parts.netloc]


def pause(tried: int, request: bytes, seed: int) -> float:
    """Returns the seconds before another try of a request, after so many.

    They double from try to try, less up to half of them. `random` would do, but for a
    job that has to wait alike when it is looked into.
    """
    name = f"{seed}:{tried}:".encode() + request
    digest = hashlib.blake2b(name, digest_size=4).digest()
    share = int.from_bytes(digest, "little") / 2**32
    whole = min(_FIRST_WAIT * 2.0 ** (tried - 1), _LONGEST_WAIT)
    return whole * (1 + share) / 2


def _read(answer: urllib3.BaseHTTPResponse, url: str) -> Any:
    """Returns what an answer holds.

    Raises:
        Refused: it is an error, or no JSON.
        WorkError: it is an error that every request would meet.
    """
    if answer.status in _HOPELESS:
        raise WorkError(
            f"wanted an answer of {url}, found: {_refusal(answer, url)}. Mend it, and "
            "run the same command again"
        )
    if answer.status >= 300:
        raise _refusal(answer, url)
    try:
        return strict_json.loads(answer.data)
    except ValueError as error:
        raise Refused(f"{_place(url)} answered no JSON: {error}") from None


def _refusal(answer: urllib3.BaseHTTPResponse, url: str) -> Refused:
    status = f"{answer.status} {answer.reason or ''}".strip()
    return Refused(f"{_place(url)} answered {status}: {_message(answer.data)}")


def _message(data: bytes) -> str:
    """Returns what a server says is wrong, on one line.

    {"error": text} is TensorFlow Serving's, {"error": {"message": text}} OpenAI's,
    {"message": text} an older vLLM's, and {"detail": …} FastAPI's.
    """
    text = data.decode(errors="replace")
    try:
        found = strict_json.loads(text)
    except ValueError:
        found = None
    for key in ("error", "message", "detail"):
        if isinstance(found, dict) and found.get(key):
            found = found[key]
    if found is not None:
        text = found if isinstance(found, str) else strict_json.dumps(found)
    line = " ".join(text.split())
    return line[:_QUOTED] + ("…" if len(line) > _QUOTED else "") or "nothing"


def _retry_after(answer: urllib3.BaseHTTPResponse) -> float | None:
    """Returns the seconds a server asks to wait, None where it asks for none."""
    try:
        seconds = urllib3.Retry().get_retry_after(answer)
    except InvalidHeader:
        return None
    return None if seconds is None else min(seconds, _LONGEST_RETRY_AFTER)


def _nobody(url: str, error: Exception, tried: int, started: float) -> WorkError:
    what = str(error).rpartition(": ")[2] or type(error).__name__
    seconds = time.monotonic() - started
    return WorkError(
        f"wanted an answer of {_place(url)}, found nobody there ({what}), in "
        f"{count_of(tried, 'attempt')} over {seconds:.0f} s. Start the server, and "
        "run the same command again"
    )


def _broken_off(error: Exception, seconds: float) -> Refused:
    if isinstance(error, ReadTimeoutError):
        return Refused(f"no answer within {seconds:g} s")
    what = str(error).strip().splitlines() or [type(error).__name__]
    return Refused(f"the server broke off: {what[0]}")


def _place(url: str) -> str:
    return urlsplit(url).netloc
