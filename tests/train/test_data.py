import functools
import json
import shutil
import tempfile
from atexit import register
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import DATASET, convert, make_episode, scene_jpeg, write_tfds_folder
from converted import ROOT, change_json, rewrite_rows, run_ilv

from ilv_dataset.errors import ConfigError, RecordError, StorageError
from ilv_dataset.formats.frames import decode_square
from ilv_dataset.instruction_tokens import encode_words
from ilv_dataset.train.data import DataConfig, open_batches

torch.set_num_threads(1)
SMALL = DataConfig(image_px=24, crop_px=12, chunk=3, window=2, batch=4, shuffle_buffer=8)
# Two shards: spans of 4, 5 and 6 steps, then 2 (text_only) and 3.
STEPS = [(0, 4), (10, 5), (20, 6), (30, 2), (40, 3)]  # seed, which is state - step; steps


@functools.cache
def converted() -> Path:
    """OUT with both formats and text_only spans; not to be changed."""
    folder = Path(tempfile.mkdtemp(prefix="ilv-test-batches-"))
    register(shutil.rmtree, folder, ignore_errors=True)
    texts = {30: "pick up the banana"}
    episodes = [
        make_episode(steps, seed=seed, instruction=texts.get(seed, "put the carrot on the plate"))
        for seed, steps in STEPS
    ]
    source = write_tfds_folder(folder / "source", {"train": [episodes[:3], episodes[3:]]})
    done = convert(
        source, folder / "out", "--formats", "parquet,rlds", "--include", "text_only"
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    return folder / "out"


def change(**changes: object) -> DataConfig:
    return DataConfig(**{**SMALL.to_json(), **changes})


def all_batches(config: DataConfig = SMALL, path: Path | None = None, **options: object):
    given = {"epochs": 1, **options}
    return list(open_batches(str(path or converted()), config, **given))


def states_of(batches, statistics) -> list[float]:
    """Seed + step of every sample: the first number of its last state, in the dataset's units."""
    found = torch.cat([batch["state"][:, -1, 0] for batch in batches])
    scaled = found.double() * statistics.state_std[0] + statistics.state_mean[0]
    return scaled.round().int().tolist()


EVERY = sorted(float(seed + step) for seed, steps in STEPS for step in range(steps))


def one(seed: int, step: int, config: DataConfig = SMALL, **options: object):
    """The sample of one step, as a dict of arrays, and the statistics."""
    batches = open_batches(str(converted()), config, epochs=1, **options)
    (statistics,) = batches.statistics.values()
    for batch in batches:
        for row, value in enumerate(states_of([batch], statistics)):
            if value == seed + step:
                return {name: values[row].numpy() for name, values in batch.items()}, statistics
    raise AssertionError(f"no sample of {seed} + {step}")


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("form", ["parquet", "rlds"])
def test_batch_has_the_tensors_that_a_policy_reads(form):
    (batch, *_) = all_batches(change(format=form))
    described = {name: (tuple(values.shape), values.dtype) for name, values in batch.items()}
    assert described == {
        "frames": ((4, 2, 3, 24, 24), torch.uint8),
        "state": ((4, 2, 7), torch.float32),
        "actions": ((4, 3, 7), torch.float32),
        "action_mask": ((4, 3), torch.bool),
        "tokens": ((4, 24), torch.int64),
        "images": ((4, 2, 3, 12, 12), torch.uint8),
        "image_mask": ((4, 2), torch.bool),
    }


def test_both_formats_give_the_same_batches():
    parquet, rlds = all_batches(change(format="parquet")), all_batches(change(format="rlds"))
    assert len(parquet) == len(rlds) == 5
    assert all(map(same, parquet, rlds))


@pytest.mark.parametrize("workers", [0, 2])
def test_kept_frames_give_the_same_batches(tmp_path, workers):
    shutil.copytree(converted(), tmp_path, dirs_exist_ok=True)
    config = change(keep_frames=True)
    for _ in range(2):  # the second time they are there
        kept = all_batches(config, tmp_path, workers=workers)
        assert all(map(same, kept, all_batches(workers=workers)))
    assert len(kept) == (5 if workers == 0 else 6)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kept", [False, True])
def test_error_names_the_frame_that_does_not_decode(tmp_path, workers, kept):
    shutil.copytree(converted(), tmp_path, dirs_exist_ok=True)

    def spoil(rows):  # of the second span, which begins behind four steps
        rows[6]["observation/image"] = {"bytes": b"cut", "path": None}

    rewrite_rows(tmp_path / ROOT, "steps/train-00000-of-00002.parquet", spoil)
    place = "observation/image of .*-00000-of-00002__1#0, step 2"
    message = f"^{tmp_path / ROOT}: {place}: image of 3 bytes does not decode$"
    with pytest.raises(RecordError, match=message) as caught:
        all_batches(change(keep_frames=kept), tmp_path, workers=workers)
    assert caught.value.reason == "undecodable-image"


def test_error_names_the_span_whose_picture_does_not_decode(tmp_path):
    shutil.copytree(converted(), tmp_path, dirs_exist_ok=True)
    spoil = lambda rows: rows[1]["images"][1].update(bytes=b"cut")  # noqa: E731
    rewrite_rows(tmp_path / ROOT, "episodes/train-00000-of-00002.parquet", spoil)
    place = "picture in the instruction of .*-00000-of-00002__1#0"
    with pytest.raises(RecordError, match=f"{ROOT}: {place}: image of 3 bytes does not decode"):
        all_batches(path=tmp_path)


@pytest.mark.parametrize("workers", [0, 2])
def test_error_of_a_worker_is_one_line(tmp_path, workers):
    shutil.copytree(converted(), tmp_path, dirs_exist_ok=True)
    batches = open_batches(str(tmp_path), SMALL, workers=workers, epochs=1)
    for path in (tmp_path / ROOT / "steps").iterdir():
        path.write_bytes(b"PAR1")
    with pytest.raises(StorageError, match=r"^.*parquet: not a readable Parquet file: .*$"):
        list(batches)


def test_every_step_comes_once_an_epoch():
    batches = open_batches(str(converted()), SMALL, epochs=1)
    (statistics,) = batches.statistics.values()
    found = states_of(batches, statistics)
    assert sorted(found) == EVERY
    assert found != sorted(found)


def test_windows_and_chunks_end_where_the_span_does():
    sample, statistics = one(10, 4)  # the last of five
    assert sample["action_mask"].tolist() == [True, False, False]
    actions = statistics.denormalize_actions(sample["actions"])
    assert actions[0, 0] == pytest.approx(0.5)  # step / 8
    assert sample["actions"][1:].tolist() == [[0.0] * 7] * 2
    sample, statistics = one(10, 0)
    assert sample["action_mask"].tolist() == [True, True, True]
    actions = statistics.denormalize_actions(sample["actions"])
    assert actions[:, 0].tolist() == pytest.approx([0, 0.125, 0.25], abs=1e-6)
    assert (sample["state"][0] == sample["state"][1]).all()  # the first step is repeated
    assert (sample["frames"][0] == sample["frames"][1]).all()


def test_frames_are_those_of_the_step_and_the_one_before():
    sample, statistics = one(20, 3)
    for position, step in enumerate((2, 3)):
        expected = decode_square(scene_jpeg(20 + step), 24).transpose(2, 0, 1)
        assert (sample["frames"][position] == expected).all()
    states = sample["state"][:, 0] * statistics.state_std[0] + statistics.state_mean[0]
    assert states.tolist() == pytest.approx([22, 23], abs=1e-4)


def test_instruction_has_its_own_crops_in_the_order_of_its_tokens():
    sample, _ = one(10, 2)
    put, on = encode_words("put on")
    assert sample["tokens"].tolist() == [put, 1, on, 1] + [0] * 20
    assert sample["image_mask"].tolist() == [True, True]
    carrot, plate = sample["images"][:, :, 6, 6].astype(int)
    assert carrot[0] - carrot[2] > 150  # orange
    assert plate.min() > 200  # white
    text, _ = one(10, 2, change(instruction="text"))
    assert text["tokens"].tolist()[:6] == encode_words("put the carrot on the plate")
    assert not text["image_mask"].any()


def test_pictures_come_from_the_bank_when_the_mix_says_so(tmp_path):
    done = run_ilv("bank", "build", converted(), "--out", tmp_path)
    assert done.exit_code == 0, done.stderr
    own, _ = one(10, 2)
    config = change(mix="bank=1", bank=str(tmp_path))
    picked = [one(10, step, config)[0]["images"] for step in (0, 4)]
    assert (picked[0] == picked[1]).all()  # one choice for a span in an epoch
    assert (picked[0] != own["images"]).any()  # the background is that of another episode
    others = [one(seed, 2, change())[0]["images"][0] for seed in (0, 20, 40)]
    assert any((picked[0][0] == other).all() for other in others)


def test_text_only_spans_are_read_as_text_or_left_out():
    sample, _ = one(30, 1)
    assert sample["tokens"].tolist()[:4] == encode_words("pick up the banana")
    assert not sample["image_mask"].any()
    found = all_batches(change(include_text_only=False))
    assert sum(len(batch["tokens"]) for batch in found) == len(EVERY) - 2


def test_statistics_are_of_the_spans_that_are_read():
    whole, pictured = (
        open_batches(str(converted()), change(include_text_only=wanted)).statistics[DATASET]
        for wanted in (True, False)
    )
    states = [seed + step for seed, steps in STEPS if seed != 30 for step in range(steps)]
    assert (whole.num_steps, pictured.num_steps) == (20, 18)
    assert pictured.state_mean[0] == pytest.approx(sum(states) / 18)


def test_words_of_a_mix_are_those_of_the_text():
    mixed, told = (
        one(10, 2, change(**way))[0] for way in ({"mix": "text=1"}, {"instruction": "text"})
    )
    assert mixed["tokens"].tolist() == told["tokens"].tolist()


def test_normalized_numbers_have_mean_0_and_spread_1():
    batches = all_batches(change(window=1, chunk=1))
    for name in ("state", "actions"):
        numbers = torch.cat([batch[name][:, 0] for batch in batches]).double()
        assert numbers.mean(dim=0).tolist() == pytest.approx([0] * 7, abs=1e-6)
        assert numbers.std(dim=0, correction=0).tolist() == pytest.approx([1] * 7, abs=1e-6)


def test_batches_are_the_same_for_a_seed_and_others_in_the_next_epoch():
    first, again = (all_batches(change(batch=20), epochs=2) for _ in range(2))
    assert all(map(same, first, again))
    assert not same(first[0], first[1])
    assert not same(first[0], all_batches(change(batch=20, seed=1))[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_go_on_bit_by_bit_when_the_state_is_restored(workers):
    config = change(batch=3)
    opened = open_batches(str(converted()), config, workers=workers)
    expected, states = [], []
    for batch in islice(opened, 24):  # over three epochs
        expected.append(batch)
        states.append(json.loads(json.dumps(opened.state())))
    for taken in (1, 2, 7, 13):
        restored = open_batches(str(converted()), config, workers=workers, state=states[taken - 1])
        following = list(islice(restored, 6))
        assert all(map(same, following, expected[taken : taken + 6]))
    assert len(json.dumps(states[-1])) < 300


def test_iterating_again_goes_on():
    opened = open_batches(str(converted()), SMALL, epochs=1)
    first = next(iter(opened))
    rest = list(opened)
    assert all(map(same, [first, *rest], all_batches()))


def test_ranks_and_workers_are_disjoint_and_complete():
    found = []
    for rank in range(2):
        opened = open_batches(str(converted()), SMALL, rank=rank, world=2, workers=2, epochs=1)
        (statistics,) = opened.statistics.values()
        found.append(states_of(opened, statistics))
    assert min(map(len, found)) > 0
    assert sorted(found[0] + found[1]) == EVERY


def test_mixture_draws_by_weight_and_normalizes_each_dataset_by_its_own(tmp_path):
    shutil.copytree(converted() / DATASET, tmp_path / "other")
    paths = [str(converted()), str(tmp_path)]
    config = change(weights={DATASET: 1.0, "other": 3.0}, window=1)
    opened = open_batches(paths, config)
    assert list(opened.statistics) == [DATASET, "other"]
    taken = list(islice(opened, 100))
    state = opened.state()
    drawn = state["positions"][0]
    assert drawn["drawn"] == 400
    epochs = [at[0] for at in drawn["at"]]  # of 20 samples each
    assert epochs == [pytest.approx(5, abs=2), pytest.approx(15, abs=2)]
    following = open_batches(paths, config, state=state)
    assert same(next(iter(following)), next(iter(opened)))
    assert len(taken) == 100
    with pytest.raises(ConfigError, match=f"weights are for other; the datasets are {DATASET}"):
        open_batches(str(converted()), change(weights={"other": 1.0}))


def test_error_when_the_state_is_of_another_run():
    state = open_batches(str(converted()), SMALL).state()
    for options, message in (
        ({"world": 2}, "the state is of world 1, and here it is 2"),
        ({"workers": 1}, "the state is of workers 0, and here it is 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            open_batches(str(converted()), SMALL, state=state, **options)
    with pytest.raises(ConfigError, match="the state is of data"):
        open_batches(str(converted()), change(seed=3), state=state)


def test_error_when_the_state_is_of_other_pictures(tmp_path):
    bank, out = tmp_path / "bank", tmp_path / "out"
    shutil.copytree(converted(), out)
    assert run_ilv("bank", "build", out, "--out", bank).exit_code == 0
    config = change(mix="bank=1", bank=str(bank))
    state = open_batches(str(out), config).state()
    assert open_batches(str(out), config, state=state).state() == state
    again = ("--out", bank, "--max-per-name", 1, "--overwrite")
    assert run_ilv("bank", "build", out, *again).exit_code == 0
    with pytest.raises(ConfigError, match="the state is of data"):
        open_batches(str(out), config, state=state)
    state = open_batches(str(out), SMALL).state()
    marker = next(out.glob("*/*/.state/ground/*.json"))
    change_json(marker, lambda made: made["files"][0].update(crc32c="00000000"))
    with pytest.raises(ConfigError, match="the state is of data"):
        open_batches(str(out), SMALL, state=state)


def test_state_goes_with_weights_in_any_order(tmp_path):
    shutil.copytree(converted() / DATASET, tmp_path / "other")
    paths = [str(converted()), str(tmp_path)]
    weights = {DATASET: 1.0, "other": 3.0}
    state = open_batches(paths, change(weights=weights)).state()
    turned = change(weights=dict(reversed(weights.items())))
    assert open_batches(paths, turned, state=state).state() == state


@pytest.mark.parametrize(
    ("rank", "world", "workers"), [(2, 2, 0), (-1, 2, 0), (0, 0, 0), (0, 1, -1)]
)
def test_error_when_there_is_no_such_rank(rank, world, workers):
    with pytest.raises(ConfigError, match=rf"no rank {rank} of {world}.*: {workers}"):
        open_batches(str(converted()), SMALL, rank=rank, world=world, workers=workers)


def test_config_goes_through_json():
    config = change(weights={"a": 2.0}, mix="own=1,text=1")
    assert DataConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert DataConfig.from_json({}) == DataConfig()
    with pytest.raises(ConfigError, match="unknown settings of data: chunks"):
        DataConfig.from_json({"chunks": 2})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"instruction": "image"}, "instruction is interleaved or text, got 'image'"),
        ({"chunk": 0}, "chunk must be 1 or more, got 0"),
        ({"weights": {"a": 0}}, "weights above 0"),
        ({"mix": "bnk=1"}, "did you mean bank"),
        ({"action_key": " , "}, "no actions: action_key names no column"),
        ({"bank": "b"}, "the mix 'own=1': needs no bank"),
        ({"mix": "outside=1"}, "the mix 'outside=1': no bank is named: ilv bank build"),
    ],
)
def test_error_when_a_setting_is_wrong(changes, message):
    with pytest.raises(ConfigError, match=message):
        change(**changes)


def test_error_when_a_column_or_a_bank_is_missing(tmp_path):
    with pytest.raises(ConfigError, match="has no camera 'front'"):
        open_batches(str(converted()), change(camera="front"))
    with pytest.raises(ConfigError, match="has no state_key 'pose'"):
        open_batches(str(converted()), change(state_key="pose"))
    with pytest.raises(ConfigError, match="no bank there"):
        open_batches(str(converted()), change(mix="bank=1", bank=str(tmp_path)))


def test_a_column_that_is_named_twice_is_there_twice():
    named = {"state_key": "action", "action_key": "action,reward,action"}
    (batch, *_) = all_batches(change(**named, window=1))
    assert batch["state"].shape == (4, 1, 7)
    assert batch["actions"].shape == (4, 3, 15)
    assert torch.equal(batch["actions"][..., :7], batch["actions"][..., 8:])
    assert torch.equal(batch["state"][:, 0], batch["actions"][:, 0, :7])


def test_other_columns_are_read_when_they_are_named():
    (batch, *_) = all_batches(change(state_key="", action_key="action,reward"))
    assert batch["state"].shape == (4, 2, 0)
    assert batch["actions"].shape == (4, 3, 8)
    assert np.isfinite(batch["actions"].numpy()).all()
