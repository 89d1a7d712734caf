import copy
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest

from ilv_dataset.errors import ConfigError
from ilv_dataset.layout import Layout
from ilv_dataset.step_streams import Consumer, StepStream, begin, make_streams, mix_streams

COLUMNS = ("camera", "action")
ALONE = Consumer(0, 1)
Step = tuple[str, int, int]  # shard, span, step


@dataclass(frozen=True)
class MadeShard:
    """A shard of spans of so many steps; text_only where the number is below zero."""

    name: str
    lengths: tuple[int, ...]
    checksum: str = ""

    @property
    def layout(self) -> Layout:
        return Layout("out", self.name.split("-")[0], "1.0.0")

    def written_spans(self, *, is_light: bool) -> Iterator[Any]:
        for length in self.lengths:
            status = "interleaved" if length > 0 else "text_only"
            yield SimpleNamespace(step_start=3, step_end=3 + abs(length), status=status)

    def read_steps(self, columns: Any, *, first: int, last: int) -> Iterator[tuple[Any, Any]]:
        assert columns == COLUMNS
        for number in range(first, last):
            yield number, abs(self.lengths[number])


def shards_of(lengths: dict[str, tuple[int, ...]]) -> tuple[MadeShard, ...]:
    return tuple(MadeShard(name, found) for name, found in lengths.items())


def stream_of(shards: Any, *, seed: int = 0, buffer_size: int = 5, text_only: bool = True) -> Any:
    columns = {shard.layout: COLUMNS for shard in shards}
    return StepStream("", tuple(shards), columns, seed, buffer_size, text_only)


def name_steps(shard: Any, epoch: int, row: int, num_steps: int) -> list[Step]:
    return [(shard.name, row, step) for step in range(num_steps)]


def items(stream: StepStream, epoch: int = 0, consumer: Consumer = ALONE, skip: int = 0) -> Any:
    return list(stream.items(epoch, consumer, name_steps, skip=skip))


FOUR = shards_of({"a-0": (3, 2), "a-1": (4,), "a-2": (1, -2, 1), "a-3": (2, 2, 2)})
STEPS = {
    *(("a-0", 0, n) for n in range(3)), *(("a-0", 1, n) for n in range(2)),
    *(("a-1", 0, n) for n in range(4)),
    ("a-2", 0, 0), ("a-2", 1, 0), ("a-2", 1, 1), ("a-2", 2, 0),
    *(("a-3", span, n) for span in range(3) for n in range(2)),
}  # fmt: skip


def test_epoch_has_every_step_once_when_there_is_one_consumer():
    found = items(stream_of(FOUR))
    assert len(found) == 19
    assert set(found) == STEPS


@pytest.mark.parametrize("total", [2, 3, 7])
def test_consumers_are_disjoint_and_complete_together(total):
    found = [items(stream_of(FOUR), epoch=1, consumer=Consumer(n, total)) for n in range(total)]
    counts = Counter(step for one in found for step in one)
    assert counts == Counter(STEPS)
    assert sum(1 for one in found if one) > 1


def test_order_is_another_each_epoch_and_seed_and_the_same_for_the_same():
    first = items(stream_of(FOUR))
    assert items(stream_of(FOUR)) == first
    assert items(stream_of(FOUR), epoch=1) != first
    assert items(stream_of(FOUR, seed=1)) != first


def test_steps_keep_their_order_when_the_buffer_holds_one():
    one = stream_of(shards_of({"a-0": (1, 1, 1)}), buffer_size=1)
    assert items(one) == [("a-0", 0, 0), ("a-0", 1, 0), ("a-0", 2, 0)]


def test_text_only_spans_are_left_out_when_they_are_not_wanted():
    found = items(stream_of(FOUR, text_only=False))
    assert set(found) == STEPS - {("a-2", 1, 0), ("a-2", 1, 1)}


def test_items_go_on_where_some_were_skipped():
    for consumer in (ALONE, Consumer(1, 2)):
        whole = items(stream_of(FOUR), consumer=consumer)
        for skip in range(len(whole) + 1):
            assert items(stream_of(FOUR), consumer=consumer, skip=skip) == whole[skip:]


def test_what_is_behind_is_not_read_again():
    read: list[Step] = []

    def take_down(shard: Any, epoch: int, row: int, num_steps: int) -> list[Step]:
        read.append((shard.name, row, num_steps))
        return name_steps(shard, epoch, row, num_steps)

    many = stream_of(shards_of({f"a-{n}": (2, 2) for n in range(50)}), buffer_size=3)
    rest = list(many.items(0, ALONE, take_down, skip=190))
    assert len(rest) == 10
    assert len(read) < 12


def test_never_more_than_the_buffer_and_a_span_is_held():
    made = taken = most = 0

    def count(shard: Any, epoch: int, row: int, num_steps: int) -> list[Step]:
        nonlocal made
        made += num_steps
        return name_steps(shard, epoch, row, num_steps)

    stream = stream_of(shards_of({f"a-{n}": (4,) * 10 for n in range(10)}), buffer_size=16)
    for _ in stream.items(0, ALONE, count):
        most = max(most, made - taken)
        taken += 1
    assert (made, taken) == (400, 400)
    assert 16 <= most <= 19


def test_weights_decide_how_often_a_dataset_is_drawn():
    shards = shards_of({"a-0": (5,), "b-0": (50,)})
    streams = [stream_of([shard]) for shard in shards]
    drawn = mix_streams(streams, [3.0, 1.0], ALONE, name_steps, position=begin(streams))
    counts = Counter(name for name, _, _ in islice(drawn, 4000))
    assert counts["a-0"] == pytest.approx(3000, abs=120)


def test_mixture_goes_on_bit_by_bit_from_a_position_that_went_through_json():
    streams = [stream_of([shard]) for shard in FOUR[:3]]
    weights = [1.0, 2.0, 0.5]
    whole_position = begin(streams)
    whole = mix_streams(streams, weights, ALONE, name_steps, position=whole_position)
    # 1,024 draws are made at a time: on both sides of that.
    for num_before in (0, 1, 7, 1023, 1024, 1025, 1500):
        position = begin(streams)
        before = mix_streams(streams, weights, ALONE, name_steps, position=position)
        first = list(islice(before, num_before))
        restored = json.loads(json.dumps(position))
        after = mix_streams(streams, weights, ALONE, name_steps, position=restored)
        expected = list(islice(copy_of(streams, weights), num_before + 30))
        assert first + list(islice(after, 30)) == expected
    assert next(whole) == next(copy_of(streams, weights))


def copy_of(streams: Any, weights: Any) -> Iterator[Step]:
    position = copy.deepcopy(begin(streams))
    return mix_streams(streams, weights, ALONE, name_steps, position=position)


def test_mixture_ends_when_every_stream_had_its_epochs():
    streams = [stream_of([shard]) for shard in FOUR[:2]]
    position = begin(streams)
    found = list(mix_streams(streams, [1, 9], ALONE, name_steps, position=position, epochs=2))
    expected = {step: 2 for step in STEPS if step[0] in ("a-0", "a-1")}
    assert Counter(found) == Counter(expected)
    assert position["at"] == [[2, 0], [2, 0]]


def make(shards: Any, **options: Any) -> list[StepStream]:
    columns = {shard.layout: COLUMNS for shard in shards}
    given = {"weights": {}, "seed": 0, "buffer_size": 1, "has_text_only": False}
    return make_streams(shards, columns, **given | options)


def test_one_stream_of_all_shards_or_one_a_dataset_when_there_are_weights():
    shards = shards_of({"rt1-0": (1,), "bridge-0": (1,), "rt1-1": (1,)})
    (together,) = make(shards)
    assert together.shards == shards
    bridge, rt1 = make(shards, weights={"rt1": 1.0, "bridge": 2.0})
    assert (bridge.name, bridge.shards) == ("bridge", shards[1:2])
    assert (rt1.name, rt1.shards) == ("rt1", (shards[0], shards[2]))


@pytest.mark.parametrize(("size", "each"), [(9, 4), (1, 1)])
def test_streams_share_the_buffer(size, each):
    shards = shards_of({"rt1-0": (1,), "bridge-0": (1,)})
    shared = make(shards, weights={"rt1": 1.0, "bridge": 2.0}, buffer_size=size)
    assert [stream.buffer_size for stream in shared] == [each, each]
    (together,) = make(shards, buffer_size=size)
    assert together.buffer_size == size


def test_error_names_the_datasets_when_weights_are_for_others():
    shards = shards_of({"rt1-0": (1,), "bridge-0": (1,)})
    with pytest.raises(ConfigError, match=r"weights are for bridge; the datasets are bridge, rt1"):
        make(shards, weights={"bridge": 1.0})


def test_error_when_no_span_is_left():
    with pytest.raises(ConfigError, match="no span of demo can be read"):
        make(shards_of({"demo-0": (-2,)}))
