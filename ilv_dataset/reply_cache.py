"""Replies of models, kept one by one in a folder that several runs, and gs://, can share."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ilv_dataset.formats import files
from ilv_dataset.prompts import Prompt


@dataclass(frozen=True)
class ReplyCache:
    """Small files that never change, one for each thing that was asked.

    What was asked together makes no difference: the key is the model, the prompt, the schema of
    the reply, the parameters, and the text or picture.
    """

    folder: str
    model: str
    prompt: Prompt
    parameters: Mapping[str, Any]
    passing: dict[str, dict[str, Any]] = field(default_factory=dict)  # answers of this run alone

    def path(self, asked: str) -> str:
        """The file of one answer; `asked` is the text, or the digest of a picture and its text."""
        key = json.dumps([self.model, self.prompt.digest, dict(self.parameters), asked])
        digest = hashlib.sha256(key.encode()).hexdigest()
        return files.join_path(self.folder, self.prompt.name, digest[:2], f"{digest}.json")

    def read(self, asked: str) -> dict[str, Any] | None:
        """What was answered; None where it was not, or where the file is damaged.

        Raises: StorageError.
        """
        if asked in self.passing:
            return self.passing[asked]
        path = self.path(asked)
        if not files.exists(path):
            return None
        try:
            answer = json.loads(files.read_bytes(path))
        except (ValueError, RecursionError):
            return None
        return answer if isinstance(answer, dict) else None

    def write_all(self, answers: Mapping[str, Mapping[str, Any]]) -> None:
        """Keeps answers, by what was asked.

        Raises: StorageError.
        """
        files.map_files(lambda one: self.write(*one), answers.items(), root=self.folder)

    def write(self, asked: str, answer: Mapping[str, Any]) -> None:
        """Keeps an answer; what a killed process leaves half-written is never seen.

        Raises: StorageError.
        """
        path = self.path(asked)
        # What a model says may hold half of a surrogate pair, which UTF-8 does not know.
        content = json.dumps(answer, ensure_ascii=False).encode(errors="replace")
        with files.naming_path(path):
            if files.is_remote(path):
                with files.create_remote(path) as file:
                    file.write(content)
                return
            target = Path(path)
            # Not synced: a power cut may cost a few answers, which are asked again.
            temporary = target.with_name(f".{uuid.uuid4().hex}")
            try:
                _write_below(temporary, content)
                os.replace(temporary, target)  # noqa: PTH105
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise


def _write_below(path: Path, content: bytes) -> None:
    """Writes a file, and makes its folder where that is missing: mostly it is there."""
    try:
        path.write_bytes(content)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
