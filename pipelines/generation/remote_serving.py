# SPDX-License-Identifier: Apache-2.0
"""A release that TensorFlow Serving serves, asked through its REST interface.

    GET  /v1/models/NAME[/versions/N|/labels/L]     which version is served
    GET  /v1/models/NAME/versions/N/metadata        what its signatures take
    POST /v1/models/NAME/versions/N:predict         {"instances": [row, …]}
                                                    -> {"predictions": [row, …]}

The version is found once and then asked for by its number: one that is loaded while
a job runs answers none of its prompts.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.generation.remote_requests import JsonClient, Refused
from preprocessing.contracts.generation_config import GenerationConfig
from preprocessing.contracts.signatures import SIGNATURES
from preprocessing.foundation.commands import UsageError, WorkError

_ADDRESS = re.compile(
    r"(?P<server>https?://.*?)/v1/models/(?P<name>[^/:]+)"
    r"(?P<which>/versions/\d+|/labels/[^/:]+)?(:predict)?/?"
)


@dataclass(frozen=True)
class ServedRelease:
    """A version of a model on a server.

    Attributes:
        url: of the version.
        inputs: signature -> the names of its inputs.
    """

    url: str
    inputs: Mapping[str, Sequence[str]]

    def check(self, signature: str, config: GenerationConfig) -> None:
        """Checks that the server can do what is asked for.

        Raises:
            UsageError: it has no such signature, or one without a setting that is not
                as it would be left out.
        """
        wanted = [each.name for each in SIGNATURES[signature].inputs]
        found = self.inputs.get(signature, ())
        if not found or not set(found) <= set(wanted):
            raise UsageError(
                f"wanted the signature {signature} of {', '.join(wanted)} at "
                f"{self.url}, found {', '.join(found or sorted(self.inputs))}. Serve a "
                "release of this version of Quern"
            )
        if signature != "generate":
            return
        for name in config.asked():
            if name not in found:
                raise UsageError(
                    f"wanted settings that the signature {signature} at {self.url} "
                    f"takes, found --{name}. Leave it out"
                )

    def predict(
        self,
        client: JsonClient,
        signature: str,
        columns: Mapping[str, Sequence[Any]],
        names: Sequence[str],
    ) -> list[dict[str, Any]]:
        """Returns the answer to each row: name of an output -> value.

        Args:
            client: asks.
            signature: which is asked.
            columns: values of inputs, of which those are sent that it takes.
            names: of outputs; an older release has not all.

        Raises:
            Refused: the server refuses the rows, or answers something else.
            WorkError: see `JsonClient`.
        """
        taken = {name: columns[name] for name in self.inputs[signature]}
        rows = [
            dict(zip(taken, row, strict=True))
            for row in zip(*taken.values(), strict=True)
        ]
        body = {"signature_name": signature, "instances": rows}
        answer = client.post(f"{self.url}:predict", body)
        found = answer.get("predictions") if isinstance(answer, dict) else None
        if (
            not isinstance(found, list)
            or len(found) != len(rows)
            or not all(isinstance(x, dict) and set(names) <= x.keys() for x in found)
        ):
            raise Refused(
                f"{self.url} answered other than {len(rows)} predictions of "
                f"{', '.join(sorted(names))}"
            )
        return [{name: row[name] for name in names} for row in found]


def is_serving(url: str) -> bool:
    """Tells whether an address is that of a model of TensorFlow Serving."""
    return _ADDRESS.fullmatch(url) is not None


def find_served(client: JsonClient, url: str) -> ServedRelease:
    """Asks a server which version of a model it serves, and what that takes.

    Args:
        client: asks.
        url: `http://HOST:8501/v1/models/NAME`, with /versions/N or /labels/L behind
            it where that matters.

    Raises:
        WorkError: the server does not answer.
        UsageError: it serves no such model.
    """
    parts = _ADDRESS.fullmatch(url)
    assert parts is not None, url
    model = f"{parts['server']}/v1/models/{parts['name']}"
    try:
        status = client.get(f"{model}{parts['which'] or ''}")
        states = {
            int(each["version"]): each["state"]
            for each in status["model_version_status"]
        }
        served = [number for number, state in states.items() if state == "AVAILABLE"]
        if not served:
            raise UsageError(
                f"wanted a version that is served at {url}, found "
                f"{', '.join(f'{n} {s}' for n, s in states.items()) or 'none'}. Wait "
                "until it is loaded"
            )
        version = f"{model}/versions/{max(served)}"
        metadata = client.get(f"{version}/metadata")["metadata"]
        signatures = metadata["signature_def"]["signature_def"]
        inputs = {name: list(each["inputs"]) for name, each in signatures.items()}
    except (Refused, KeyError, TypeError, ValueError) as error:
        raise WorkError(
            f"wanted a model of TensorFlow Serving at {url}, found: {error}. Check the "
            "address"
        ) from None
    return ServedRelease(version, inputs)
