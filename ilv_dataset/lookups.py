"""Finds spans by the names that users give them: whole ids, ends of ids, SPLIT:SHARD:RECORD."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ilv_dataset.errors import ConfigError
from ilv_dataset.formats.markers import peek_marker
from ilv_dataset.formats.tables import EpisodeRow, decode_episode
from ilv_dataset.layout import Layout
from ilv_dataset.outputs import list_shards, read_dicts
from ilv_dataset.records import ShardKey

FIRST = "first"  # in place of an episode_id: the first interleaved span
_SHORT_ID = re.compile(r"(.+):(\d{1,9}):(\d{1,9})")
_FULL_ID = re.compile(r"(\d{5,9})-of-(\d{5,9})__(\d{1,9})")
_NEAR = 3


@dataclass(frozen=True)
class FoundSpan:
    """One span, the shard it is in, and the numbers of all spans of its episode."""

    layout: Layout
    shard: ShardKey
    row: EpisodeRow
    num_spans: int


@dataclass(frozen=True)
class _Hit:
    layout: Layout
    shard: ShardKey
    episode_id: str
    spans: tuple[tuple[int, str], ...]  # (number, status)


def find_span(outputs: Sequence[Layout], name: str) -> FoundSpan:
    """The span that a user names: an episode_id or the end of one, SPLIT:SHARD:RECORD, or `first`.

    `#N` names a span of the episode; without it, its first interleaved span, else its first.

    Raises: ConfigError with the nearest names; StorageError.
    """
    text, _, number = name.partition("#")
    if text == FIRST:
        return _first_interleaved(outputs)
    if number and not number.isdigit():
        raise ConfigError(f"{name!r}: a span is a number, such as {text}#0")
    hits = list(_find_episodes(outputs, text))
    exact = [hit for hit in hits if hit.episode_id == text] or hits
    if not exact:
        raise ConfigError(f"no episode {text!r}{_near_names(outputs, text)}")
    if len(exact) > 1:
        some = ", ".join(hit.episode_id for hit in exact[:_NEAR])
        raise ConfigError(f"{text!r} fits {len(exact)} episodes, such as {some}")
    (hit,) = exact
    numbers = [span for span, _ in hit.spans]
    interleaved = [span for span, status in hit.spans if status == "interleaved"]
    wanted = int(number) if number else (interleaved or numbers)[0]
    if wanted not in numbers:
        spans = ", ".join(f"#{span}" for span in numbers)
        raise ConfigError(f"{hit.episode_id} has no span #{wanted}; spans: {spans}")
    for row in read_dicts(hit.layout.episodes(hit.shard)):
        if (row["episode_id"], row["span"]) == (hit.episode_id, wanted):
            return FoundSpan(hit.layout, hit.shard, decode_episode(row), len(numbers))
    raise ConfigError(f"{hit.episode_id} has gone while it was read")


def interleaved_spans(outputs: Iterable[Layout], *, limit: int) -> Iterator[FoundSpan]:
    """The first interleaved spans, `limit` of them, in the order of shards.

    Raises: StorageError.
    """
    num_found = 0
    for layout in outputs:
        for shard in list_shards(layout):
            for row in interleaved_rows(layout, shard):
                if num_found == limit:
                    return
                num_found += 1
                yield FoundSpan(layout, shard, row, num_spans=1)


def interleaved_rows(layout: Layout, shard: ShardKey) -> Iterator[EpisodeRow]:
    """Interleaved rows of a shard; one whose marker counts none is not opened."""
    marker = peek_marker(layout, "ground", shard)
    if marker is not None and not marker.counts.get("interleaved", 1):
        return
    for row in read_dicts(layout.episodes(shard)):
        if row["status"] == "interleaved":
            yield decode_episode(row)


def _first_interleaved(outputs: Sequence[Layout]) -> FoundSpan:
    for found in interleaved_spans(outputs, limit=1):
        return found
    raise ConfigError("no span is interleaved; `ilv stats` says why")


def _find_episodes(outputs: Sequence[Layout], text: str) -> Iterator[_Hit]:
    """Episodes of this name; other shards are searched only where the likely ones hold none."""
    short, full = _SHORT_ID.fullmatch(text), _FULL_ID.search(text)
    places = [(layout, shard) for layout in outputs for shard in list_shards(layout)]
    if short is not None:
        for layout, shard in places:
            if (shard.split, shard.index) == (short[1], int(short[2])):
                yield from _episodes_of(layout, shard, text, int(short[3]))
        return
    numbers = (int(full[1]), int(full[2])) if full is not None else None
    likely = [place for place in places if (place[1].index, place[1].num_shards) == numbers]
    hits = [hit for layout, shard in likely for hit in _episodes_of(layout, shard, text, None)]
    yield from hits
    if not hits:
        for layout, shard in places:
            yield from _episodes_of(layout, shard, text, None)


def _episodes_of(layout: Layout, shard: ShardKey, text: str, record: int | None) -> Iterator[_Hit]:
    """Episodes of a shard: of this record, or else whose id ends so."""
    columns = ["episode_id", "record_index", "span", "status"]
    spans: dict[str, list[tuple[int, str]]] = {}
    for row in read_dicts(layout.episodes(shard), columns):
        name = str(row["episode_id"])
        fits = name.endswith(text) if record is None else row["record_index"] == record
        if fits and (name == text or record is not None or _is_whole_end(name, text)):
            spans.setdefault(name, []).append((row["span"], row["status"]))
    for name, numbers in spans.items():
        yield _Hit(layout, shard, name, tuple(numbers))


def _is_whole_end(name: str, text: str) -> bool:
    """Whether an end of a name begins between two numbers: 3 is no end of __13."""
    return not (name[-len(text) - 1].isdigit() and text[:1].isdigit())


def _near_names(outputs: Sequence[Layout], text: str) -> str:
    """`; near it: ...` with names that there are."""
    places = [(layout, shard) for layout in outputs for shard in list_shards(layout)]
    if not places:
        return "; no shard is committed yet"
    short = _SHORT_ID.fullmatch(text)
    stem, _, record = text.rpartition(":" if short else "__")

    def distance(place: tuple[Layout, ShardKey]) -> tuple[float, int]:
        layout, shard = place
        if short is not None:
            return _difference(shard.split, short[1]), abs(shard.index - int(short[2]))
        return _difference(f"{layout.dataset}-{shard.name}", stem or text), 0

    layout, shard = min(places, key=distance)
    rows = list(read_dicts(layout.episodes(shard), ["episode_id", "record_index"]))
    wanted = int(record) if record.isdigit() else 0
    rows.sort(key=lambda row: abs(row["record_index"] - wanted))
    names = list(dict.fromkeys(str(row["episode_id"]) for row in rows))[:_NEAR]
    return f"; near it: {', '.join(names)}" if names else ""


def _difference(one: str, other: str) -> float:
    return 1 - difflib.SequenceMatcher(None, one, other).ratio()
