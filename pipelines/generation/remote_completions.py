# SPDX-License-Identifier: Apache-2.0
"""A model behind `/v1/completions`, as OpenAI, vLLM, llama.cpp, TGI and others have it.

    GET  /v1/models          which models there are
    POST /v1/completions     {"model", "prompt", "max_tokens", …} -> {"choices": […]}

A request is one prompt: its seed is the request's, and such servers put together what
they compute themselves.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from pipelines.generation.remote_requests import JsonClient, Refused
from preprocessing.contracts.generation_config import GenerationConfig
from preprocessing.foundation.commands import UsageError, WorkError

# What a setting is called there. Sent only where it says something: `top_k`, `min_p`
# and `repetition_penalty` are not OpenAI's, but vLLM's and others'.
_NAMES: Mapping[str, str] = {
    "max_new_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "stop": "stop",
}
_ALWAYS = frozenset({"max_new_tokens", "temperature"})
# llama.cpp reads a seed as 32 bits of which the last one is for "any"; 31 suit all.
_SEEDS = 2**31


@dataclass(frozen=True)
class CompletionModel:
    """A model on a server.

    Attributes:
        url: of the interface, `http://HOST:8000/v1`.
        model: its name there.
    """

    url: str
    model: str

    def check(self, config: GenerationConfig) -> None:
        """Raises `UsageError` where a setting cannot be asked for there."""
        for name in config.asked():
            if name not in _NAMES:
                raise UsageError(
                    f"wanted settings that {self.url}/completions takes, found "
                    f"--{name}. Leave it out"
                )

    def complete(
        self, client: JsonClient, prompt: str, seed: int, config: GenerationConfig
    ) -> dict[str, Any]:
        """Continues a prompt.

        Returns:
            {text, num_tokens, finish_reason}; num_tokens only where the server tells.

        Raises:
            Refused: the server refuses the prompt, or answers something else.
            WorkError: see `JsonClient`.
        """
        plain = GenerationConfig()
        body: dict[str, Any] = {"model": self.model, "prompt": prompt}
        for name in (each.name for each in fields(config) if each.name in _NAMES):
            value = getattr(config, name)
            if name in _ALWAYS or value != getattr(plain, name):
                body[_NAMES[name]] = list(value) if isinstance(value, tuple) else value
        if config.temperature > 0:
            body["seed"] = seed % _SEEDS
        answer = client.post(f"{self.url}/completions", body)
        try:
            choice = answer["choices"][0]
            found = {"text": choice["text"]}
            if not isinstance(found["text"], str):
                raise TypeError("a text that is none")
            used = (answer.get("usage") or {}).get("completion_tokens")
            if used is not None:
                found["num_tokens"] = int(used)
            return {**found, "finish_reason": choice.get("finish_reason")}
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            raise Refused(
                f"{self.url} answered no completion: {type(error).__name__} {error}"
            ) from None


def find_completions(
    client: JsonClient, url: str, model: str | None
) -> CompletionModel:
    """Asks a server for its models.

    Args:
        client: asks.
        url: of the server, of its `/v1`, or of its `/v1/completions`.
        model: one of its models; None takes the only one.

    Raises:
        WorkError: the server does not answer.
        UsageError: it has no such model, or several and none is named.
    """
    place = url.rstrip("/").removesuffix("/completions")
    if "/" not in place.partition("://")[2]:
        place += "/v1"
    try:
        names = [each["id"] for each in client.get(f"{place}/models")["data"]]
    except (Refused, KeyError, TypeError) as error:
        raise WorkError(
            f"wanted a list of models at {place}/models, found: {error}. Check the "
            "address: /v1/models/NAME is TensorFlow Serving's, others are OpenAI's"
        ) from None
    if model is None and len(names) == 1:
        model = names[0]
    if model is None or model not in names:
        raise UsageError(
            f"wanted --model to name one of {', '.join(names) or 'no models'} at "
            f"{place}, found {model or 'none'}. Name it"
        )
    return CompletionModel(place, model)
