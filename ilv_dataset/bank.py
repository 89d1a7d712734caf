"""The bank: pictures of objects by name, from other episodes and from outside, and the mix of both.

Knows what a bank holds, how an object is named in it, and which picture a span shows; how one is
made is in `bank_building.py`.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ilv_dataset.errors import ConfigError, StorageError
from ilv_dataset.formats import files
from ilv_dataset.formats.parquet import IMAGE, describe_schema
from ilv_dataset.matching import load_synonyms, parse_name
from ilv_dataset.outputs import PARQUET_ERRORS

SOURCES = ("own", "bank", "outside", "text")  # of an instruction image, as a mix has them
# The file that each kind of picture is in, below the bank's folder.
BANK_FILES = {"bank": "bank.parquet", "outside": "outside.parquet"}
# What a reader holds at most, encoded. Source: ours; a crop of the demo takes 9 kB, so 120,000.
BANK_BYTES_MAX = 1 << 30

BANK_SCHEMA = describe_schema(
    pa.schema(
        [
            ("name", pa.string()),
            ("image", IMAGE),
            ("kind", pa.string()),
            ("phrase", pa.string()),
            ("dataset", pa.string()),
            ("episode_id", pa.string()),
            ("span", pa.int32()),
            ("box_score", pa.float32()),
            ("digest", pa.string()),
        ]
    )
)

_POSSESSIVE = re.compile(r"['\u2019]s\b")
# Where the picture that was drawn is missing; the episode's own crop is always there.
_FALLBACKS = {"bank": ("bank", "outside"), "outside": ("outside", "bank"), "own": (), "text": ()}


@dataclass(frozen=True, slots=True)
class BankImage:
    """One picture of the bank, and where it is from."""

    name: str  # as `object_name` has it
    jpeg: bytes  # 224 x 224 RGB
    path: str  # below the folder that was added, or as the episodes table has it
    kind: str  # "bank": a crop of an episode; "outside": any other picture
    phrase: str  # what the instruction, the folder or the file calls the object
    dataset: str | None  # this and the next three: of a crop
    episode_id: str | None
    span: int | None
    box_score: float | None  # 0..1, the detector's
    digest: str  # SHA-256, hexadecimal; the order within a name, which says what is kept


@dataclass(frozen=True)
class ImageMix:
    """How often an instruction image comes from each source: shares, which need not add up to 1.

    own: the episode's own crop; bank: a crop of the same object from another episode; outside: a
    picture from elsewhere; text: none, the phrase's words stand there.

    >>> ImageMix.parse("own=0.5, bank=0.3, outside=0.2").shares["bank"]
    0.3

    Raises: ConfigError for a share that is negative or not finite, or where all are 0.
    """

    own: float = 1.0
    bank: float = 0.0
    outside: float = 0.0
    text: float = 0.0

    def __post_init__(self) -> None:
        for source, share in self._given.items():
            if not (math.isfinite(share) and share >= 0):
                raise ConfigError(f"the share of {source} images must be 0 or more, got {share:g}")
        if not 0 < sum(self._given.values()) < math.inf:
            raise ConfigError("the mix of images is empty: one share at least must be above 0")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads "own=0.5,bank=0.3,outside=0.2"; a source that is not named has no share.

        Raises: ConfigError.
        """
        shares = dict.fromkeys(SOURCES, 0.0)
        named = set()
        for part in text.split(","):
            source, _, share = (piece.strip() for piece in part.partition("="))
            if source not in shares:
                near = difflib.get_close_matches(source, SOURCES, n=1)
                hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(SOURCES)}"
                raise ConfigError(f"no source of images {source!r}; {hint}")
            if source in named:
                raise ConfigError(f"the mix of images names {source} twice: {text!r}")
            named.add(source)
            try:
                shares[source] = float(share)
            except ValueError as error:
                expected = "expected own=0.5,bank=0.5, say"
                raise ConfigError(f"{part.strip()!r} is no share of images; {expected}") from error
        return cls(**shares)

    def __str__(self) -> str:
        """What `parse` reads."""
        return ",".join(f"{name}={share!r}" for name, share in self._given.items() if share)

    @property
    def shares(self) -> dict[str, float]:
        """Source -> how often, 0..1; they add up to 1."""
        total = sum(self._given.values())
        return {source: share / total for source, share in self._given.items()}

    @property
    def _given(self) -> dict[str, float]:
        return {source: getattr(self, source) for source in SOURCES}

    @property
    def needs_bank(self) -> bool:
        """Whether a picture may come from a bank."""
        return bool(self.bank or self.outside)


@dataclass(frozen=True, slots=True)
class Picked:
    """The picture that stands for a phrase."""

    source: str  # one of SOURCES: where it is from in the end
    jpeg: bytes | None  # 224 x 224 RGB; None where the words stay


class Bank:
    """A bank that was opened; the pictures stay encoded, in memory that forked workers share."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self._jpegs = pc.struct_field(table["image"], "bytes")
        rows: dict[tuple[str, str], list[tuple[int, str | None]]] = {}
        columns = (table[name].to_pylist() for name in ("name", "kind", "episode_id"))
        for row, (name, kind, episode_id) in enumerate(zip(*columns, strict=True)):
            rows.setdefault((name, kind), []).append((row, episode_id))
        self._rows = {key: tuple(found) for key, found in rows.items()}

    @classmethod
    def open(cls, folder: str, *, max_bytes: int = BANK_BYTES_MAX) -> Self:
        """Reads the bank in `folder`, local or behind a scheme, and keeps the encoded pictures.

        A picture takes what its JPEG does, 9 kB in the demo and 20 kB where much is to be seen,
        and a row group of 16 MB a few times more meanwhile.

        Raises: ConfigError where there is none, or one of more than `max_bytes`; StorageError.
        """
        paths = [files.join_path(folder, name) for name in BANK_FILES.values()]
        sizes = {path: size for path in paths if (size := files.file_size(path)) is not None}
        if not sizes:
            raise ConfigError(f"{folder}: no bank there; make one with ilv bank build or add")
        if sum(sizes.values()) > max_bytes:
            raise ConfigError(
                f"{folder}: a bank of {sum(sizes.values()) >> 20:,} MB, and {max_bytes >> 20:,} MB "
                "are held at most; build it with a lower --max-per-name"
            )
        return cls(pa.concat_tables([read_bank_table(path) for path in sizes]))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all objects, sorted."""
        return tuple(sorted({name for name, _ in self._rows}))

    @property
    def num_bytes(self) -> int:
        """What it takes in memory."""
        return int(self._table.nbytes)

    @property
    def fingerprint(self) -> str:
        """SHA-256, hexadecimal, of which pictures there are, and of each: nothing else is shown."""
        found = hashlib.sha256(repr(sorted(self._rows.items())).encode())
        for jpeg in self._jpegs:
            found.update(hashlib.sha256(jpeg.as_py()).digest())
        return found.hexdigest()

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def count(self, name: str, kind: str) -> int:
        """How many pictures of `kind` an object has."""
        return len(self._rows.get((object_name(name), kind), ()))

    def images(self, name: str) -> tuple[BankImage, ...]:
        """All pictures of an object, in a fixed order; none where it is not known.

        Args:
            name: a phrase; it is looked up as `object_name` has it.
        """
        rows = [row for kind in BANK_FILES for row in self.rows(name, kind, episode_id=None)]
        return tuple(decode_bank_image(self._table.slice(row, 1).to_pylist()[0]) for row in rows)

    def rows(self, name: str, kind: str, *, episode_id: str | None) -> tuple[int, ...]:
        """Numbers of an object's pictures of one kind, without those of an episode."""
        found = self._rows.get((object_name(name), kind), ())
        return tuple(row for row, taken in found if taken is None or taken != episode_id)

    def jpeg(self, row: int) -> bytes:
        """The picture of a number of `rows`."""
        content: bytes = self._jpegs[row].as_py()
        return content


def pick_image(
    mix: ImageMix,
    bank: Bank | None,
    *,
    seed: int,
    epoch: int,
    span_id: str,
    episode_id: str,
    slot: int,
    name: str,
    own: bytes,
) -> Picked:
    """Chooses the picture of one object of a span, by SHA-256 of seed, epoch, span and slot.

    Where the source that was drawn has no picture of that name, the other of bank and outside is
    taken if the mix has it, and else the episode's own crop. A crop of the episode itself is
    never taken from the bank.

    Args:
        bank: None where the mix does not need one.
        slot: which of the span's objects, from 0.
        name: the object's phrase.
        own: the episode's own crop.

    Raises: ConfigError where the mix needs a bank.
    """
    if bank is None and mix.needs_bank:
        raise ConfigError(f"the mix of images {mix} takes pictures from a bank, and none is named")
    digest = hashlib.sha256(f"{seed}/{epoch}/{span_id}/{slot}".encode()).digest()
    drawn = _draw_source(mix, int.from_bytes(digest[:7]) / (1 << 56))
    if drawn == "text":
        return Picked("text", None)
    for source in _FALLBACKS[drawn]:
        if bank is None or not getattr(mix, source):
            continue
        rows = bank.rows(name, source, episode_id=episode_id)
        if rows:
            return Picked(source, bank.jpeg(rows[int.from_bytes(digest[8:16]) % len(rows)]))
    return Picked("own", own)


@functools.lru_cache(maxsize=1 << 14)
def object_name(phrase: str) -> str:
    """The name by which pictures of an object are kept: equal for what is the same thing.

    Lower case and singular, without articles and places, synonyms and spellings as synonyms.toml
    has them, the words in a fixed order; "" where nothing is left.

    >>> object_name("the big gray Mugs"), object_name("bag of chips"), object_name("left cup")
    ('big grey cup', 'chip bag', 'cup')
    """
    text = " ".join(re.sub("[_-]", " ", _POSSESSIVE.sub("", phrase)).lower().split())
    if not text.isascii():  # the rules are for English
        return text
    name = parse_name(text)
    kept = name.modifiers
    noun: tuple[str, ...] = (name.head,)
    for words, usual in _usual_nouns():
        if words[-1] == name.head and set(words[:-1]) <= name.modifiers:
            kept, noun = name.modifiers - set(words[:-1]), usual
            break
    return " ".join((*sorted(kept), *noun)).strip()


@functools.cache
def _usual_nouns() -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
    """(words of a noun, words of the shortest of its synonyms), those of most words first."""
    groups = [sorted(map(_noun_words, group)) for group in load_synonyms().groups]
    pairs = [(noun, min(group, key=len)) for group in groups for noun in group]
    return tuple(sorted(pairs, key=lambda pair: -len(pair[0])))


def _noun_words(noun: str) -> tuple[str, ...]:
    name = parse_name(noun)
    return (*sorted(name.modifiers), name.head)


def _draw_source(mix: ImageMix, place: float) -> str:
    """The source whose part of the line from 0 to 1 holds `place`."""
    end = 0.0
    shares = {source: share for source, share in mix.shares.items() if share}
    for source, share in shares.items():
        end += share
        if place < end:
            return source
    return source


def read_bank_table(path: str) -> pa.Table:
    """One file of a bank.

    Raises: StorageError where it is missing, or another file.
    """
    with files.open_read(path) as file:
        try:
            # A row group at a time takes 0.7 GB for 0.6 GB of pictures, all at once 1.3 GB.
            reader = pq.ParquetFile(file, pre_buffer=False)
            groups = range(reader.num_row_groups)
            tables = [reader.read_row_group(group, use_threads=False) for group in groups]
            table = pa.concat_tables([reader.schema_arrow.empty_table(), *tables])
        except PARQUET_ERRORS as error:
            raise StorageError(f"{path}: not a readable Parquet file: {error}") from error
    if not table.schema.equals(BANK_SCHEMA):
        raise StorageError(
            f"{path}: not a file of a bank, for its columns are {table.schema.names}"
        )
    return table


def encode_bank_image(image: BankImage) -> dict[str, object]:
    """A row of a bank's file."""
    row = asdict(image)
    picture = {"bytes": row.pop("jpeg"), "path": row.pop("path")}
    return {**row, "image": picture}


def decode_bank_image(row: Mapping[str, Any]) -> BankImage:
    """Inverse of `encode_bank_image`."""
    values = dict(row)
    picture = values.pop("image")
    return BankImage(jpeg=picture["bytes"], path=picture["path"], **values)
