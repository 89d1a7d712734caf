"""The order in which the steps of many shards come: split, shuffled, mixed, and resumed in it.

An order follows from seed, epoch and consumer alone, and is cheap to run through without reading
a frame: that is how a stream goes on where it was left. What a step becomes is its caller's matter.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, islice
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa

from ilv_dataset.dataset_reader import ConvertedShard
from ilv_dataset.errors import ConfigError
from ilv_dataset.formats.tables import EpisodeRow
from ilv_dataset.layout import Layout

# A consumer gets at least so many pieces of shards an epoch, so that all get about as many steps.
_PIECES_MIN = 4
_DRAWS = 1024  # of a stream that are made at a time
T = TypeVar("T")
# (shard, epoch, span, its steps) -> one item a step.
MakeItems = Callable[[ConvertedShard, int, EpisodeRow, pa.Table], Sequence[T]]


class Consumer(NamedTuple):
    """One of `total` readers that share the steps of an epoch: disjoint, and complete together."""

    number: int
    total: int


@dataclass(frozen=True)
class StepStream:
    """Shards whose steps are shuffled together, epoch after epoch.

    In memory are `buffer_size` items, those of at most one span more, and what a shard's
    `read_steps` holds.
    """

    name: str
    shards: tuple[ConvertedShard, ...]
    columns: Mapping[Layout, Sequence[str]]
    seed: int
    buffer_size: int
    has_text_only: bool

    def items(
        self, epoch: int, consumer: Consumer, make: MakeItems[T], *, skip: int = 0
    ) -> Iterator[T]:
        """One item a step that this consumer gets in an epoch, behind the first `skip`.

        Those that are skipped are not read; only what was waiting in the buffer is read again.
        """
        key = f"{self.seed}/{self.name}/{epoch}"
        pieces = self._pieces(key, consumer)
        rng = random.Random(f"{key}/{consumer.number}/{consumer.total}")
        lengths = (steps for piece in pieces for steps in self._lengths(piece).values())
        places = _Shuffle(lengths, self.buffer_size, rng)
        for _ in islice(places, skip):
            pass
        waiting, num_behind = set(places.waiting), places.num_spans
        spans = self._read(pieces, min((span for span, _ in waiting), default=num_behind))
        held: dict[tuple[int, int], T] = {}
        for place in places:
            while place not in held:
                span, shard, row, table = next(spans)
                for step, item in enumerate(make(shard, epoch, row, table)):
                    if span >= num_behind or (span, step) in waiting:
                        held[span, step] = item
            yield held.pop(place)

    def repeat(
        self, at: list[int], consumer: Consumer, make: MakeItems[T], epochs: int | None
    ) -> Iterator[T]:
        """Items of one epoch after another; `at` is kept up to date: epoch, items of it so far."""
        while epochs is None or at[0] < epochs:
            for item in self.items(at[0], consumer, make, skip=at[1]):
                at[1] += 1
                yield item
            at[:] = [at[0] + 1, 0]

    def has_steps(self) -> bool:
        """Whether there is anything to read."""
        return any(self._lengths(_Piece(shard, 0, 1)) for shard in self.shards)

    def _pieces(self, key: str, consumer: Consumer) -> list[_Piece]:
        """What a consumer reads in an epoch, in order."""
        num_parts = -(-_PIECES_MIN * consumer.total // len(self.shards))
        num_parts = num_parts if consumer.total > 1 else 1
        pieces = [_Piece(shard, n, num_parts) for shard in self.shards for n in range(num_parts)]
        random.Random(key).shuffle(pieces)
        return pieces[consumer.number :: consumer.total]

    def _lengths(self, piece: _Piece) -> dict[int, int]:
        """Number among the shard's written spans -> steps, of the piece's spans that are used."""
        written = _written_lengths(piece.shard, piece.shard.checksum)
        first, last = (len(written) * n // piece.num_parts for n in (piece.part, piece.part + 1))
        return {
            number: steps
            for number, (steps, is_pictured) in enumerate(written)
            if first <= number < last and (is_pictured or self.has_text_only)
        }

    def _read(
        self, pieces: Sequence[_Piece], first: int
    ) -> Iterator[tuple[int, ConvertedShard, EpisodeRow, pa.Table]]:
        """The spans of some pieces from number `first` on, with their numbers."""
        begin = 0
        for piece in pieces:
            numbers = list(self._lengths(piece))
            wanted = {n: at for at, n in enumerate(numbers, begin) if at >= first}
            begin += len(numbers)
            if not wanted:
                continue
            start, stop = min(wanted), max(wanted) + 1
            columns = self.columns[piece.shard.layout]
            steps = piece.shard.read_steps(columns, first=start, last=stop)
            for number, (row, table) in enumerate(steps, start):
                if number in wanted:
                    yield wanted[number], piece.shard, row, table


class _Piece(NamedTuple):
    """One of `num_parts` parts of a shard's spans: what a consumer reads in one go."""

    shard: ConvertedShard
    part: int
    num_parts: int


class _Shuffle(Iterator[tuple[int, int]]):
    """(span, step) in the order in which they leave a buffer; the order alone, nothing is read."""

    def __init__(self, lengths: Iterator[int], size: int, rng: random.Random) -> None:
        self._lengths, self._size, self._rng = lengths, size, rng
        self.waiting: list[tuple[int, int]] = []
        self.num_spans = 0

    def __next__(self) -> tuple[int, int]:
        while len(self.waiting) < max(1, self._size):
            if (length := next(self._lengths, None)) is None:
                break
            self.waiting += [(self.num_spans, step) for step in range(length)]
            self.num_spans += 1
        if not self.waiting:
            raise StopIteration
        chosen = self._rng.randrange(len(self.waiting))
        self.waiting[chosen], self.waiting[-1] = self.waiting[-1], self.waiting[chosen]
        return self.waiting.pop()


@lru_cache(256)
def _written_lengths(shard: ConvertedShard, _: str) -> tuple[tuple[int, bool], ...]:
    """(steps, whether it is interleaved) of every span that was written, as of this checksum."""
    rows = shard.written_spans(is_light=True)
    return tuple((row.step_end - row.step_start, row.status == "interleaved") for row in rows)


def make_streams(
    shards: Sequence[ConvertedShard],
    columns: Mapping[Layout, Sequence[str]],
    weights: Mapping[str, float],
    seed: int,
    buffer_size: int,
    has_text_only: bool,
) -> list[StepStream]:
    """One stream of all shards; with weights, one for each dataset that they name.

    Args:
        buffer_size: of all streams together, in equal parts.

    Raises: ConfigError where weights and datasets do not fit, or no span is left.
    """
    names = sorted({shard.layout.dataset for shard in shards})
    if weights and sorted(weights) != names:
        there = ", ".join(names)
        raise ConfigError(f"weights are for {', '.join(sorted(weights))}; the datasets are {there}")
    buffer_size = max(1, buffer_size // (len(names) if weights else 1))
    streams = [
        StepStream(
            name,
            tuple(shard for shard in shards if not name or shard.layout.dataset == name),
            columns, seed, buffer_size, has_text_only,
        )
        for name in (names if weights else [""])
    ]  # fmt: skip
    for stream in streams:
        if not stream.has_steps():
            raise ConfigError(f"no span of {stream.name or ', '.join(names)} can be read")
    return streams


def begin(streams: Sequence[StepStream]) -> dict[str, Any]:
    """The position of a consumer that has had nothing yet, for `mix_streams`."""
    return {"drawn": 0, "at": [[0, 0] for _ in streams]}


def mix_streams(
    streams: Sequence[StepStream],
    weights: Sequence[float],
    consumer: Consumer,
    make: MakeItems[T],
    *,
    position: dict[str, Any],
    epochs: int | None = None,
) -> Iterator[T]:
    """Items of all streams, drawn by their weights, each stream in its own order and epochs.

    Args:
        position: what `begin` gives or a copy of an earlier one; kept up to date, plain values.
        epochs: of each stream; None never ends.
    """
    ways = [
        stream.repeat(at, consumer, make, epochs)
        for stream, at in zip(streams, position["at"], strict=True)
    ]
    ended: set[int] = set()
    key = f"{streams[0].seed}/{consumer.number}/{consumer.total}"
    for drawn in _draw(key, weights, position["drawn"]):
        position["drawn"] += 1
        if drawn not in ended:
            for item in islice(ways[drawn], 1):
                yield item
                break
            else:
                ended.add(drawn)
        if len(ended) == len(ways):
            return


def _draw(key: str, weights: Sequence[float], first: int) -> Iterator[int]:
    """Which stream is next, from draw number `first` on."""
    drawn: list[int] = []
    for number in count(first):
        block, place = divmod(number, _DRAWS)
        if place == 0 or not drawn:
            rng = random.Random(f"{key}/draws/{block}")
            drawn = rng.choices(range(len(weights)), weights, k=_DRAWS)
        yield drawn[place]
