"""Making a bank: crops of converted datasets, and pictures from a folder.

A bank keeps a few pictures a name, those whose SHA-256 is lowest, so that it does not depend on
the order in which they come; what it holds of them while it looks is their place in a temporary
file, 1 kB each.
"""

from __future__ import annotations

import bisect
import collections
import contextlib
import hashlib
import itertools
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from ilv_dataset.bank import (
    BANK_FILES,
    BANK_SCHEMA,
    BankImage,
    decode_bank_image,
    encode_bank_image,
    object_name,
)
from ilv_dataset.crops import CROP_SIZE_PX, decode_image
from ilv_dataset.errors import ConfigError, RecordError, StorageError
from ilv_dataset.fields import UNVERIFIED
from ilv_dataset.formats import files
from ilv_dataset.formats.atomic import TEMPORARY_FOLDER, locked_output
from ilv_dataset.formats.parquet import write_rows
from ilv_dataset.formats.tables import EpisodeRow, GroundedObject, decode_episode
from ilv_dataset.layout import Layout
from ilv_dataset.messages import shorten_list
from ilv_dataset.outputs import find_outputs, list_shards, list_unfinished, read_dicts
from ilv_dataset.outside_images import FILE_BYTES_MAX, encode_outside
from ilv_dataset.records import ShardKey

# Source: ours; enough for a look from each of some episodes, and 7 thousand names fit a reader.
MAX_PER_NAME = 16

Note = Callable[[str, int, int], None]  # what is read, how many are done, of how many

_MATCH = "match"
_NUMBER = re.compile(r"(?:[\s_\-]+\d+|[\s_\-]*\(\d+\))$")  # "cup 2", "cup_02", "cup (2)"


@dataclass(frozen=True)
class BankReport:
    """What became of the pictures that were looked at."""

    num_seen: int  # pictures that could be kept
    num_kept: int  # pictures of this kind in the bank now
    num_names: int  # with a picture of this kind
    left_out: tuple[str, ...]  # what could not be kept, and why
    unfinished: tuple[str, ...] = ()  # converted datasets without run.json


def build_bank(
    path: str,
    bank: str,
    *,
    max_per_name: int = MAX_PER_NAME,
    splits: Sequence[str] = (),
    overwrite: bool = False,
    note: Note = lambda label, done, total: None,
) -> BankReport:
    """Writes the crops of the converted datasets at `path` into a bank; outside pictures stay.

    Only a crop with the verdict "match" counts, and of an episode one a name. The same datasets
    give the same bytes.

    Args:
        splits: only of these; empty takes all.

    Raises: ConfigError where the bank has crops already and `overwrite` is not set, where a
        split is unknown, or where there is no crop; StorageError.
    """
    target = files.join_path(bank, BANK_FILES["bank"])
    layouts = find_outputs(path)
    shards = [(layout, shard) for layout in layouts for shard in list_shards(layout)]
    chosen = [(layout, shard) for layout, shard in shards if not splits or shard.split in splits]
    missing = sorted(set(splits) - {shard.split for _, shard in shards})
    if missing:
        known = ", ".join(sorted({shard.split for _, shard in shards}))
        raise ConfigError(f"{path}: no split {missing[0]!r}; there is {known}")
    if not overwrite and files.exists(target):
        raise ConfigError(f"{bank}: there are crops in this bank; --overwrite replaces them")
    refused: collections.Counter[str] = collections.Counter()
    with _keeping(bank, max_per_name) as keeper:
        for number, (layout, shard) in enumerate(chosen):
            for crop in _shard_crops(layout, shard, refused):
                keeper.offer(crop)
            note("shards", number, len(chosen))
        if not keeper.num_seen:
            raise ConfigError(f"{path}: no crop for a bank; {_why_none(refused)}")
        _write(keeper, target, bank)
    unfinished = tuple(list_unfinished(layouts))
    left_out = tuple(f"{count:,} {verdict}" for verdict, count in sorted(refused.items()))
    return BankReport(keeper.num_seen, keeper.num_kept, keeper.num_names, left_out, unfinished)


def add_images(
    folder: Path,
    bank: str,
    *,
    max_per_name: int = MAX_PER_NAME,
    overwrite: bool = False,
    note: Note = lambda label, done, total: None,
) -> BankReport:
    """Adds pictures from outside to a bank, or begins one; a picture that is there stays once.

    Args:
        folder: one folder of pictures a name, or files called so: `cup/photo.jpg`, `cup 2.png`.
        overwrite: forget the outside pictures that the bank has.

    Raises: ConfigError where the folder holds no picture; StorageError.
    """
    target = files.join_path(bank, BANK_FILES["outside"])
    with files.naming_path(str(folder)):
        found, left_out = _list_pictures(folder)
    num_new = 0
    with _keeping(bank, max_per_name) as keeper:
        if not overwrite and files.exists(target):
            for row in read_dicts(target):
                keeper.offer(decode_bank_image(row))
        for number, (path, name) in enumerate(found):
            try:
                keeper.offer(_read_outside(path, name, folder))
                num_new += 1
            except RecordError as error:
                left_out.append(f"{_readable(path, folder)} ({error})")
            note("files", number, len(found))
        if not num_new:
            raise ConfigError(f"{folder}: no picture to add{_named(left_out)}")
        _write(keeper, target, bank)
    return BankReport(num_new, keeper.num_kept, keeper.num_names, tuple(left_out))


@dataclass(frozen=True, slots=True)
class _Kept:
    image: BankImage  # its bytes are in the temporary file
    offset: int
    length: int


class _Keeper:
    """Keeps the `limit` pictures of lowest digest of each name."""

    def __init__(self, spool: BinaryIO, limit: int) -> None:
        self._spool, self._limit = spool, limit
        self._kept: dict[str, list[_Kept]] = {}
        self._end = 0
        self.num_seen = 0

    @property
    def num_kept(self) -> int:
        return sum(map(len, self._kept.values()))

    @property
    def num_names(self) -> int:
        return len(self._kept)

    def offer(self, image: BankImage) -> None:
        """Keeps a picture, unless there are enough better ones, or it is there."""
        self.num_seen += 1
        kept = self._kept.setdefault(image.name, [])
        place = bisect.bisect_left(kept, image.digest, key=lambda one: one.image.digest)
        is_there = place < len(kept) and kept[place].image.digest == image.digest
        if is_there or place >= self._limit:
            return
        self._spool.write(image.jpeg)
        kept.insert(place, _Kept(replace(image, jpeg=b""), self._end, len(image.jpeg)))
        self._end += len(image.jpeg)
        del kept[self._limit :]

    def images(self) -> Iterator[BankImage]:
        """What is kept, by name and digest."""
        for _, kept in sorted(self._kept.items()):
            for one in kept:
                self._spool.seek(one.offset)
                yield replace(one.image, jpeg=self._spool.read(one.length))


@contextlib.contextmanager
def _keeping(bank: str, limit: int) -> Iterator[_Keeper]:
    """A keeper whose temporary file lies beside the bank, which is locked meanwhile."""
    folder = None if files.is_remote(bank) else Path(bank, TEMPORARY_FOLDER)
    with locked_output(bank):
        with files.naming_path(bank):
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            spool = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115, closed below
        with spool, files.naming_path(bank):
            yield _Keeper(spool, limit)


def _write(keeper: _Keeper, target: str, bank: str) -> None:
    rows = (encode_bank_image(_checked(image)) for image in keeper.images())
    write_rows(target, rows, BANK_SCHEMA, root=bank, out=bank)


def _shard_crops(
    layout: Layout, shard: ShardKey, refused: collections.Counter[str]
) -> Iterator[BankImage]:
    """The crops of a shard that may be kept: of an episode one a name, that of lowest digest."""
    rows = map(decode_episode, read_dicts(layout.episodes(shard)))
    for _, spans in itertools.groupby(rows, key=lambda row: row.record_index):
        best: dict[str, BankImage] = {}
        for crop in _episode_crops(spans, refused):
            if crop.name not in best or crop.digest < best[crop.name].digest:
                best[crop.name] = crop
        yield from best.values()


def _episode_crops(
    spans: Iterable[EpisodeRow], refused: collections.Counter[str]
) -> Iterator[BankImage]:
    for row in spans:
        grounded = [found for found in row.objects if found.grounded]
        if len(grounded) != len(row.images):
            raise StorageError(
                f"{row.span_id}: {len(row.images)} pictures of {len(grounded)} objects; "
                "see ilv validate"
            )
        for position, (found, jpeg) in enumerate(zip(grounded, row.images, strict=True)):
            if found.verdict == _MATCH:
                yield _make_crop(row, position, found, jpeg)
            else:
                refused[found.verdict or UNVERIFIED] += 1


def _make_crop(row: EpisodeRow, position: int, found: GroundedObject, jpeg: bytes) -> BankImage:
    return BankImage(
        name=object_name(found.phrase),
        jpeg=jpeg,
        path=f"{row.span_id}-{position}.jpg",
        kind="bank",
        phrase=found.phrase,
        dataset=row.dataset,
        episode_id=row.episode_id,
        span=row.span,
        box_score=found.box_score,
        digest=hashlib.sha256(f"{row.span_id}/{position}".encode()).hexdigest(),
    )


def _checked(image: BankImage) -> BankImage:
    """The picture, which a reader can decode: a bad one would stop its training half-way."""
    try:
        shape = decode_image(image.jpeg).shape
    except RecordError as error:
        raise StorageError(f"{image.path}: {error}; see ilv validate") from error
    if shape != (CROP_SIZE_PX, CROP_SIZE_PX, 3):
        raise StorageError(f"{image.path}: a crop of {shape}, expected 224 x 224; see ilv validate")
    return image


def _why_none(refused: collections.Counter[str]) -> str:
    if not refused:
        return "nothing there has a picture"
    counts = ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(refused.items()))
    hint = "; convert it with a --verifier" if refused[UNVERIFIED] else ""
    return f"only those with the verdict match count, and there are {counts}{hint}"


def _list_pictures(folder: Path) -> tuple[list[tuple[Path, str]], list[str]]:
    """Files with the names that they stand for, and what cannot stand for any."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder")
    found: list[tuple[Path, str]] = []
    left_out: list[str] = []
    for entry in _visible(folder):
        if not entry.is_dir():
            found.append((entry, _NUMBER.sub("", entry.stem)))
            continue
        for path in _visible(entry):
            if path.is_dir():
                left_out.append(f"{_readable(path, folder)} (a folder in a folder)")
            else:
                found.append((path, entry.name))
    return found, left_out


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _read_outside(path: Path, phrase: str, folder: Path) -> BankImage:
    """Raises: RecordError where the file is no picture, or has no name."""
    phrase = phrase.encode(errors="replace").decode()
    name = object_name(phrase)
    if not name:
        raise RecordError("undecodable-image", "its name says nothing")
    try:
        if not path.is_file():
            raise RecordError("undecodable-image", "not a file")
        if path.stat().st_size > FILE_BYTES_MAX:
            limit = f"more than {FILE_BYTES_MAX >> 20} MB"
            raise RecordError("undecodable-image", limit)
        content = path.read_bytes()
    except OSError as error:
        raise RecordError("undecodable-image", str(error.strerror)) from error
    return BankImage(
        name=name,
        jpeg=encode_outside(content),
        path=_readable(path, folder),
        kind="outside",
        phrase=phrase,
        dataset=None,
        episode_id=None,
        span=None,
        box_score=None,
        digest=hashlib.sha256(content).hexdigest(),
    )


def _readable(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix().encode(errors="replace").decode()


def _named(left_out: Sequence[str]) -> str:
    return f": {shorten_list(left_out)}" if left_out else ""
