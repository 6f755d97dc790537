# SPDX-License-Identifier: Apache-2.0
"""A release on a running TensorFlow Serving, for the release check to ask.

It answers as `c_api.Session` does, through the server's REST interface: what is between
a client and the graph is looked at too, JSON, merged requests and the server's ops.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import urllib3

from preprocessing.contracts.signatures import SIGNATURES, STRING
from preprocessing.foundation import strict_json
from preprocessing.foundation.commands import WorkError
from trainer.release.warmup_requests import Inputs

# A first request may wait for memory and thread pools.
_SECONDS = 120.0


class ServedSession:
    """A version of a model on a server.

    Attributes:
        signatures: the inputs of each by name.
    """

    def __init__(self, url: str, version: str) -> None:
        """Asks what it takes.

        Args:
            url: `http://HOST:8501/v1/models/NAME`.
            version: which of them is asked.

        Raises:
            WorkError: it is not served there.
        """
        self._url = f"{url.rstrip('/')}/versions/{version}"
        self._pool = urllib3.PoolManager(timeout=_SECONDS, retries=False)
        found = self._asked("GET", "/metadata")
        kinds = found["metadata"]["signature_def"]["signature_def"]
        self.signatures = {
            name: _Inputs(each["inputs"])
            for name, each in kinds.items()
            if not name.startswith("__")  # __saved_model_init_op
        }

    def run(
        self, signature: str, inputs: Inputs
    ) -> dict[str, np.ndarray | list[bytes]]:
        """Answers one request.

        Args:
            signature: a name of the table.
            inputs: name -> array, or for strings a list of bytes.

        Returns:
            Name -> array, or a list of bytes for strings.

        Raises:
            WorkError: the server refused it, with its message.
        """
        values = {name: _listed(value) for name, value in inputs.items()}
        body = {"signature_name": signature, "inputs": values}
        answers = self._asked("POST", ":predict", body)["outputs"]
        outputs = SIGNATURES[signature].outputs
        if len(outputs) == 1:  # as the server has it then
            answers = {outputs[0].name: answers}
        return {
            each.name: [text.encode() for text in answers[each.name]]
            if each.dtype == STRING
            else np.array(answers[each.name], each.dtype)
            for each in outputs
        }

    def _asked(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else strict_json.dumps(body).encode()
        try:
            reply = self._pool.request(method, f"{self._url}{path}", body=data)
            told = reply.data.decode(errors="strict")
            if reply.status == 200:
                return strict_json.loads(told)
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            told = str(error)
        raise WorkError(
            f"wanted an answer of {self._url}, found: {told[:500]}. Check the address, "
            "and that it serves this version"
        )


class _Inputs:
    """What a signature takes, as `c_api.Session` tells of it."""

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        self.inputs = inputs


def _listed(value: np.ndarray | list[bytes]) -> list[Any]:
    if isinstance(value, list):
        return [text.decode() for text in value]
    return value.tolist()
