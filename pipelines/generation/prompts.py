# SPDX-License-Identifier: Apache-2.0
"""Prompts: records of the input, judged one by one.

    {"id": 7, "prompt": "Once"}  ->  Prompt   id 7, text "Once"
    {"text": "The cat"}          ->  Prompt   id "prompts.jsonl:2", text "The cat"
    {"id": 7, "prompt": 3}       ->  Prompt   id "prompts.jsonl:3", what is wrong

Every id comes once: a record without one, or with another's, has its file and line.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.generation.prompt_files import Record, formats_of, read_records
from preprocessing.foundation import strict_json
from preprocessing.foundation.storage import InputFile
from preprocessing.reading.documents import tells_apart
from preprocessing.reading.foreign_bytes import is_unicode, listed

PROMPT_NAMES = ("prompt", "text")


@dataclass(frozen=True)
class Prompt:
    """One record of input.

    Attributes:
        id: its own, a string or a whole number; else its place.
        text: what is to be continued; None where it has none.
        error: what is wrong with it then.
        kept: further fields that answers carry.
        continuation: what is scored behind it; None where there is none.
    """

    id: str | int
    text: str | None
    error: str | None = None
    kept: Mapping[str, Any] = field(default_factory=dict)
    continuation: str | None = None


@dataclass(frozen=True)
class PromptFields:
    """Which fields of a record hold what.

    Attributes:
        prompts: the first of these that there is holds the text.
        id: the id, a string or a whole number.
        keep: what answers carry of a record.
        continuation: what follows the text; "" where none is read.
    """

    prompts: tuple[str, ...] = PROMPT_NAMES
    id: str = "id"
    keep: tuple[str, ...] = ()
    continuation: str = ""


class PromptReader:
    """The prompts of files in their order; may be gone through again and again.

    Args:
        files: the files.
        chosen: their format, or "auto".
        fields: where a record has what.

    Raises:
        UsageError: a file's format is not one that is read here.

    Attributes:
        doubles: records in which several fields could be the prompt.
    """

    def __init__(
        self, files: Sequence[InputFile], chosen: str, fields: PromptFields
    ) -> None:
        self.files, self.fields, self.doubles = files, fields, 0
        self._formats = formats_of(files, chosen)

    def __iter__(self) -> Iterator[Prompt]:
        """Yields a prompt for each record; a repeated id is an error of the later one.

        Raises:
            UsageError: a file is damaged.
        """
        # 16 bytes an id, some 100 of memory: a million ids take 100 MB of the driver.
        seen: set[bytes] = set()
        self.doubles = 0
        for record in self._records():
            prompt = judged(record, self.fields)
            key = _key(prompt.id)
            if key in seen:
                error = prompt.error or f"repeated id {prompt.id} at {record.place}"
                name = record.place
                while (key := _key(name)) in seen:
                    name += "*"  # an earlier record calls itself so
                prompt = Prompt(name, None, error, prompt.kept)
            seen.add(key)
            self.doubles += len(_there(record, self.fields)) > 1
            yield prompt

    def _records(self) -> Iterator[Record]:
        names, optional = self.fields.prompts, (self.fields.id, *self.fields.keep)
        if self.fields.continuation:
            optional += (self.fields.continuation,)
        for file, kind in zip(self.files, self._formats, strict=True):
            yield from read_records(file, kind, names, optional)


def judged(record: Record, fields: PromptFields) -> Prompt:
    """Returns what a record says, or what is wrong with it."""
    place = record.place
    if record.fault:
        return Prompt(place, None, f"{record.fault} at {place}")
    kept = {name: _plain(record.fields.get(name)) for name in fields.keep}
    name = _decoded(record.fields.get(fields.id))
    given = not (name is None or (isinstance(name, str) and not tells_apart(name)))
    if given and not _is_id(name):
        error = f"field {fields.id} not a string or whole number at {place}"
        return Prompt(place, None, error, kept)
    own = name if given else place
    found = _there(record, fields)
    if not found:
        wish = " or ".join(fields.prompts)
        told = [x if v is not None else f"{x} (null)" for x, v in record.fields.items()]
        error = f"no field {wish} at {place}, found {listed(told)}"
        return Prompt(own, None, error, kept)
    texts, names = [], found[:1]
    if record.fields.get(fields.continuation) is not None:
        names.append(fields.continuation)
    for each in names:
        text, fault = _text(record, each)
        if fault:
            return Prompt(own, None, f"{fault} at {place}", kept)
        texts.append(text)
    return Prompt(own, texts[0], None, kept, *texts[1:])


def _text(record: Record, name: str) -> tuple[str, str]:
    """Returns a field's text, and what is wrong with it if anything is."""
    text = _decoded(record.fields[name])
    if isinstance(text, bytes):
        return "", f"field {name} not UTF-8"
    if not isinstance(text, str):
        return "", f"field {name} not a string"
    return text, "" if is_unicode(text) else "half of a surrogate pair"


def _there(record: Record, fields: PromptFields) -> list[str]:
    """Returns which of the fields that may hold the prompt hold something."""
    return [each for each in fields.prompts if record.fields.get(each) is not None]


def row_seed(seed: int, name: Any) -> int:
    """Returns the int64 seed of a prompt, from the job's seed and the prompt's id."""
    # 7 and "7" have different seeds.
    text = f"{seed}:{strict_json.dumps(name)}".encode()
    digest = hashlib.blake2b(text, digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _is_id(name: Any) -> bool:
    if isinstance(name, bool):
        return False
    return isinstance(name, int) or (isinstance(name, str) and is_unicode(name))


def _decoded(value: Any) -> Any:
    """Returns bytes, which Examples and binary columns hold, as text if they are."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _plain(value: Any) -> Any:
    """Returns a value as JSON can have it: a date or a decimal is spelled out."""
    value = _decoded(value)
    try:
        spelled = strict_json.dumps(value, default=str, ensure_ascii=False)
    except ValueError:  # NaN or infinite, somewhere in it
        spelled = strict_json.dumps(str(value), ensure_ascii=False)
    return strict_json.loads(spelled.encode(errors="replace"))


def _key(name: str | int) -> bytes:
    """7 and "7" are one id: in a table they could not be told apart."""
    text = str(name).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).digest()
