# SPDX-License-Identifier: Apache-2.0
"""Servers of models on the loopback, which take and answer what the official ones do.

TensorFlow Serving's half follows its `api_rest.md` and `json_tensor.cc`: what that
refuses is refused here, and what it tells of itself is made of the messages of
tensorflow-serving-api. OpenAI's half follows its reference of `/v1/completions`.
"""

import base64
import itertools
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf import json_format
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse

from preprocessing.contracts.signatures import SIGNATURES

MODEL = re.compile(
    r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?(/metadata|:predict)?"
)
TYPES = {"int32": int, "int64": int, "float32": (int, float), "string": str}
NUMBERS = {"float32": 1, "int32": 3, "string": 7, "int64": 9, "bool": 10}


@dataclass
class Asked:
    """What a server was asked, in its order."""

    paths: list = field(default_factory=list)
    bodies: list = field(default_factory=list)
    headers: list = field(default_factory=list)


@contextmanager
def serving(answer):
    """Serves `answer(path, body or None) -> (status, headers, value)`.

    Yields (address, what was asked).
    """
    asked, lock = Asked(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.reply(None)

        def do_POST(self):
            size = int(self.headers["Content-Length"])
            self.reply(json.loads(self.rfile.read(size)))

        def reply(self, body):
            with lock:
                asked.paths.append(self.path)
                asked.bodies.append(body)
                asked.headers.append(dict(self.headers))
            status, headers, value = answer(self.path, body)
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            for name, text in {"Content-Length": len(data), **headers}.items():
                self.send_header(name, str(text))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *words):
            """Nothing: pytest shows what is wrong."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Invalid(Exception):
    """What TensorFlow Serving answers with 400."""


def tensorflow_serving(compute, versions=None, labels=None, signatures=SIGNATURES):
    """Returns what answers as TensorFlow Serving does.

    Args:
        compute: (signature, name -> values) -> name -> values; raises `Invalid`.
        versions: number -> state, of the model "quern".
        labels: label -> number.
        signatures: those of the model.
    """
    versions = {1: "AVAILABLE"} if versions is None else versions

    def answer(path, body):
        found = MODEL.fullmatch(path)
        if found is None:
            return 404, {}, {"error": f"Malformed request: {path}"}
        name, number, label, action = found.groups()
        if label is not None:
            number = (labels or {}).get(label)
        known = [n for n in versions if number is None or n == int(number)]
        if name != "quern" or not known:
            wanted = f"Could not find any versions of model {name}"
            return 404, {}, {"error": wanted}
        if action is None:
            return 200, {}, status_of({n: versions[n] for n in known})
        if action == "/metadata":
            return 200, {}, metadata_of(signatures)
        try:
            return 200, {}, predict(compute, signatures, body)
        except Invalid as error:
            return 400, {}, {"error": str(error)}

    return answer


def status_of(versions):
    response = GetModelStatusResponse()
    for number, state in versions.items():
        response.model_version_status.add(version=number, state=state)
    return json.loads(json_format.MessageToJson(response))


def metadata_of(signatures):
    found = SignatureDefMap()
    for name, signature in signatures.items():
        entry = found.signature_def[name]
        for each in signature.inputs:
            entry.inputs[each.name].dtype = NUMBERS[each.dtype]
        for each in signature.outputs:
            entry.outputs[each.name].dtype = NUMBERS[each.dtype]
    printed = json_format.MessageToJson(found, preserving_proto_field_name=True)
    return {"metadata": {"signature_def": json.loads(printed)}}


def predict(compute, signatures, body):
    name = body.get("signature_name", "serving_default")
    if name not in signatures:
        raise Invalid(f'Serving signature name: "{name}" not found in signature def')
    signature = signatures[name]
    if ("instances" in body) == ("inputs" in body):
        raise Invalid("Missing 'inputs' or 'instances' key")
    columns = columns_of(signature, body)
    for each in signature.inputs:
        values = columns[each.name]
        for value in itertools.chain(*values) if each.shape else values:
            kind = TYPES[each.dtype]
            if not isinstance(value, kind) or isinstance(value, bool):
                raise Invalid(f"JSON Value: {value} is not of expected type")
    outputs = compute(name, columns)
    encoded = {k: [as_json(k, x) for x in values] for k, values in outputs.items()}
    if "inputs" in body:
        one = next(iter(encoded.values()))
        return {"outputs": encoded if len(encoded) > 1 else one}
    if len(encoded) == 1:
        return {"predictions": next(iter(encoded.values()))}
    columns = zip(*encoded.values(), strict=True)
    rows = [dict(zip(encoded, row, strict=True)) for row in columns]
    return {"predictions": rows}


def columns_of(signature, body):
    names = {each.name for each in signature.inputs}
    if "inputs" in body:
        inputs = body["inputs"]
        if not isinstance(inputs, dict):
            inputs = dict.fromkeys(names, inputs)
        if names - inputs.keys():
            raise Invalid(f"Missing named input: {names - inputs.keys()}")
        return {name: inputs[name] for name in names}
    if not body["instances"]:
        raise Invalid("No values in 'instances' array")
    rows = body["instances"]
    if not isinstance(rows[0], dict):
        if len(names) > 1:
            raise Invalid("instances is a plain list, but expecting list of objects")
        rows = [dict.fromkeys(names, row) for row in rows]
    if any(row.keys() != names for row in rows):
        raise Invalid(f"JSON object: must only have keys: {','.join(sorted(names))}")
    return {name: [row[name] for row in rows] for name in names}


def as_json(name, value):
    """Returns a value as the server prints it: binary only where the name says so."""
    if isinstance(value, bytes) and name.endswith("_bytes"):
        return {"b64": base64.b64encode(value).decode()}
    return value.decode() if isinstance(value, bytes) else value


def completions(complete, models=("quern",)):
    """Returns what answers as `/v1/completions` does.

    `complete(body)` returns (text, finish_reason), or raises `Invalid`.
    """

    def answer(path, body):
        if path == "/v1/models":
            listed = [
                {"id": name, "object": "model", "created": 0, "owned_by": "us"}
                for name in models
            ]
            return 200, {}, {"object": "list", "data": listed}
        if path != "/v1/completions":
            return 404, {}, {"error": {"message": f"Unknown request URL: {path}"}}
        try:
            text, reason = complete(body)
        except Invalid as error:
            kind = "invalid_request_error"
            told = {"message": str(error), "type": kind, "param": None, "code": None}
            return 400, {}, {"error": told}
        choice = {
            "text": text,
            "index": 0,
            "logprobs": None,
            "finish_reason": reason,
        }
        usage = {"prompt_tokens": 1, "completion_tokens": len(text)}
        return (
            200,
            {},
            {
                "id": "cmpl-1",
                "object": "text_completion",
                "created": 0,
                "model": body["model"],
                "choices": [choice],
                "usage": {**usage, "total_tokens": sum(usage.values())},
            },
        )

    return answer
