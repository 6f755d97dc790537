# SPDX-License-Identifier: Apache-2.0
"""Checks a release as a stock TensorFlow Serving would meet it, without TensorFlow.

    python -m trainer.check_release MODELS/NAME[/VERSION] [--server URL]

    ops         only those a stock server has, none that needs XLA or a device
    load        through TensorFlow's C API, XLA switched off
    answers     equal to those the trainer gave when it exported (assets/lineage.json),
                by `generate` and by slots: prefill, insert and decode
    law of ids  ids in the graph = ids of `tokenizers`, on texts chosen to break it
    warm-up     the requests the server will replay can be read and answered

With `--server` a running server is asked instead: answers but for slots, whose states
are no JSON, and the law of ids.

This process never imports TensorFlow's Python; quern-export --check runs it apart.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

# The answers to compare with were computed on a CPU.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np

from preprocessing.claims.scratch import scratch_directory
from preprocessing.contracts import releases
from preprocessing.contracts.signatures import SIGNATURES
from preprocessing.foundation import storage
from preprocessing.foundation.commands import CommandParser, WorkError, run
from preprocessing.foundation.terminal import quiet_libraries
from preprocessing.tokenizer.tokenizer import Tokenizer
from trainer.release.c_api import Session, TensorFlowLibrary
from trainer.release.op_lint import lint, read_graph
from trainer.release.served import ServedSession
from trainer.release.session_slots import slot_differences
from trainer.release.warmup_requests import Request, read_requests
from trainer.serving.id_law import difference

# One machine sums in another order than the next; ids and texts must be equal anyway.
_RELATIVE_TOLERANCE = 1e-4
# More rows a server with deploy/serving/batching.config refuses.
_BATCH = 16
# Signatures that choose no id, so that nothing can go another way.
_COMPUTED = ("score", "score_continuation", "embed", "detokenize")


def main(argv: Sequence[str]) -> None:
    """Checks the release that `argv` names and prints one line per finding."""
    parser = CommandParser(
        "python -m trainer.check_release",
        "Loads a release through TensorFlow's C API as a stock TensorFlow Serving "
        "would and compares what it answers with what the trainer answered.",
    )
    parser.add_argument("release", metavar="MODELS/NAME[/VERSION]")
    parser.add_argument(
        "--server",
        metavar="URL",
        help="ask a TensorFlow Serving that serves it, http://HOST:8501/v1/models/NAME",
    )
    arguments = parser.parse_args(argv)
    release = releases.find_release(arguments.release)
    if arguments.server:
        return check_served(release, arguments.server)
    if not storage.is_cloud(release):
        return check(release)
    with scratch_directory() as copy:
        releases.copy_tree(release, copy)
        check(copy)


def check(release: str) -> None:
    """Checks a release in a local directory.

    Raises:
        WorkError: it differs from what it should be; the message names how.
    """
    quiet_libraries()
    library = TensorFlowLibrary()
    saved_model = storage.read_bytes(storage.join(release, releases.SAVED_MODEL_NAME))
    graph = read_graph(saved_model)
    complaints = lint(graph, library.core_ops, library.has_cpu_kernel)
    if complaints:
        raise WorkError(
            f"wanted a graph that a stock TensorFlow Serving runs, found: "
            f"{'; '.join(complaints)}. Change the model's ops"
        )
    session = Session(library, release)
    _check_signatures(session)
    print(f"loads with XLA off under TensorFlow {library.version}")
    lineage = releases.read_lineage(release)
    data = storage.read_bytes(storage.join(release, releases.WARMUP_NAME))
    requests = read_requests(data)
    tokenizer = _tokenizer(release, lineage)
    _check_answers(session, lineage, library.version, requests, tokenizer)
    _check_ids(session, tokenizer)
    _check_warmup(session, requests)


def check_served(release: str, url: str) -> None:
    """Checks that a server answers as the trainer did; it serves the release's version.

    Raises:
        WorkError: it does not answer, or otherwise; the message names how.
    """
    session = ServedSession(url, os.path.basename(release.rstrip("/")))
    _check_signatures(session)
    lineage = releases.read_lineage(release)
    differences, rows = _expected_differences(session, lineage)
    _judge(differences, rows, lineage, version="")
    _check_ids(session, _tokenizer(release, lineage))


def _check_signatures(session: Session | ServedSession) -> None:
    """Raises `WorkError` unless a release has every signature with all its inputs."""
    for name, signature in SIGNATURES.items():
        wanted = [each.name for each in signature.inputs]
        taken = session.signatures[name].inputs if name in session.signatures else {}
        if not set(wanted) <= set(taken):
            raise WorkError(
                f"wanted the signature {name} of {', '.join(wanted)}, found "
                f"{', '.join(sorted(taken)) or 'none'}: the release is of another "
                "version of Quern. Check it with that, or export again"
            )


def _check_answers(
    session: Session,
    lineage: releases.Lineage,
    version: str,
    requests: Sequence[Request],
    tokenizer: Tokenizer,
) -> None:
    """Compares the answers to every expected request, and those of slots."""
    differences, rows = _expected_differences(session, lineage)
    found, count = slot_differences(session, lineage, requests, tokenizer)
    _judge(differences + found, rows + count, lineage, version)


def _expected_differences(
    session: Session | ServedSession, lineage: releases.Lineage
) -> tuple[list[str], int]:
    """Returns a sentence for each row that is answered otherwise, of how many rows.

    Raises:
        WorkError: a score, vector or text of ids is.
    """
    differences, rows = [], 0
    for name, answer in lineage.expected.items():
        found = _differences(session, name, answer["inputs"], answer["outputs"])
        rows += len(next(iter(answer["inputs"].values())))
        if found and name in _COMPUTED:
            raise WorkError(found[0])
        differences += found
    return differences, rows


def _judge(
    differences: Sequence[str], rows: int, lineage: releases.Lineage, version: str
) -> None:
    """Raises `WorkError` where too many rows differ.

    Under the TensorFlow that exported, all must be equal. Another version may round
    two nearly equal logits the other way, after which a row goes its own way: there
    half the rows must be equal, and every score and vector.
    """
    exported = lineage.versions["tensorflow"]
    if differences and (version == exported or 2 * len(differences) > rows):
        raise WorkError(differences[0])
    print(f"answers {rows - len(differences)} of {rows} requests as the trainer did")
    if differences:
        print(f"the rest round differently than under TensorFlow {exported}")


def _differences(
    session: Session | ServedSession,
    signature: str,
    inputs: Mapping[str, list[Any]],
    outputs: Mapping[str, list[Any]],
) -> list[str]:
    """Returns one sentence for each row that a signature answers otherwise."""
    answers = session.run(signature, SIGNATURES[signature].fed(inputs))
    found = {name: _plain(answers[name]) for name in outputs}
    sentences = []
    for row, request in enumerate(next(iter(inputs.values()))):
        for name, wanted in outputs.items():
            if not _same(wanted[row], found[name][row]):
                sentences.append(
                    f"wanted {signature}'s {name} for {request[:40]!r} to be the "
                    f"trainer's {wanted[row]!r}, found {found[name][row]!r}. Report it "
                    "with the release"
                )
                break
    return sentences


def _plain(values: np.ndarray | list[bytes]) -> list[Any]:
    if isinstance(values, list):
        return [text.decode() for text in values]
    return values.tolist()


def _same(wish: Any, fact: Any) -> bool:
    if isinstance(wish, list):
        return len(wish) == len(fact) and all(map(_same, wish, fact))
    if isinstance(wish, float):
        return abs(wish - fact) <= _RELATIVE_TOLERANCE * max(1.0, abs(wish))
    return wish == fact


def _tokenizer(release: str, lineage: releases.Lineage) -> Tokenizer:
    tokenizer = Tokenizer.restore(
        storage.join(release, releases.TOKENIZER_ASSET),
        bos_id=lineage.bos_id,
        eos_id=lineage.eos_id,
        pad_id=lineage.pad_id,
    )
    if tokenizer.sha256 != lineage.tokenizer_sha256:
        raise WorkError(
            f"wanted the tokenizer of the dataset in {releases.TOKENIZER_ASSET}, found "
            "another. Export again"
        )
    return tokenizer


def _check_ids(session: Session | ServedSession, tokenizer: Tokenizer) -> None:
    def encode(texts: list[str]) -> list[list[int]]:
        ids = []
        for start in range(0, len(texts), _BATCH):
            batch = {"text": texts[start : start + _BATCH]}
            found = session.run("tokenize", SIGNATURES["tokenize"].fed(batch))
            pairs = zip(found["token_ids"], found["num_tokens"], strict=True)
            ids += [row[:n].tolist() for row, n in pairs]
        return ids

    count, complaint = difference(tokenizer, encode)
    if complaint:
        raise WorkError(complaint)
    print(f"encodes {count} texts as `tokenizers` does")


def _check_warmup(session: Session, requests: Sequence[Request]) -> None:
    for request in requests:
        session.run(request.signature, request.inputs)
    print(f"answers its {len(requests)} warm-up requests")


def cli() -> NoReturn:
    """Runs the command on the process's arguments."""
    run(main)


if __name__ == "__main__":
    if "tensorflow" in sys.modules:
        raise RuntimeError("the release check must not import TensorFlow's Python")
    cli()
