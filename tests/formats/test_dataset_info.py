import json
from pathlib import Path

import pytest

from ilv_dataset.errors import ConfigError
from ilv_dataset.formats.dataset_info import SplitInfo, decode_dataset_info

RLDS = Path(__file__).resolve().parents[3] / "shared" / "data" / "rlds"
TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


def info_json(*splits, **rest):
    return json.dumps({"name": "toy", "version": "1.0.0", "splits": list(splits), **rest})


def split(name="train", lengths=("2", "3"), **rest):
    return {"name": name, "shardLengths": list(lengths), **rest}


def test_decode_dataset_info():
    info = decode_dataset_info(
        info_json(
            split(numBytes="123", filepathTemplate=TEMPLATE),
            split("val", ()),
            fileFormat="tfrecord",
            citation="@misc{toy}",
            configName="small",
            redistributionInfo={"license": "CC-BY-4.0"},
        )
    )
    assert (info.name, info.config_name, info.version) == ("toy", "small", "1.0.0")
    assert (info.citation, info.license) == ("@misc{toy}", "CC-BY-4.0")
    assert info.splits == (
        SplitInfo("train", (2, 3), 123, TEMPLATE),
        SplitInfo("val", (), 0, ""),
    )
    assert (info.splits[0].num_shards, info.splits[0].num_records) == (2, 5)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("", "toy-train.tfrecord-00001-of-00002"),
        (TEMPLATE, "toy-train.tfrecord-00001-of-00002"),
        ("{SPLIT}/data.{FILEFORMAT}-{SHARD_INDEX}", "train/data.tfrecord-00001"),
        ("{DATASET}_{SHARD_INDEX}_{NUM_SHARDS}", "toy_00001_00002"),
    ],
)
def test_shard_file_name(template, expected):
    info = decode_dataset_info(info_json(split(filepathTemplate=template)))
    assert info.shard_file_name("train", 1) == expected


def test_shard_file_name_when_there_are_over_99999_shards():
    info = decode_dataset_info(info_json(split(lengths=["1"] * 100_000)))
    assert info.shard_file_name("train", 12) == "toy-train.tfrecord-000012-of-100000"


def test_shard_file_name_when_there_is_no_such_shard():
    info = decode_dataset_info(info_json(split()))
    with pytest.raises(ValueError, match="shards 0 to 1, not 2"):
        info.shard_file_name("train", 2)


def test_find_split_when_there_is_none():
    info = decode_dataset_info(info_json(split(), split("val")))
    with pytest.raises(ConfigError, match=r"no split 'test' in toy 1.0.0; splits: train, val"):
        info.find_split("test")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no", "not JSON"),
        ("7", "not a JSON object but int"),
        (info_json(fileFormat="riegeli"), "'riegeli'; only tfrecord is read"),
        (info_json(split(lengths=["-1"])), "'-1' is no shard length of split train"),
        (info_json(split(lengths=["many"])), "'many' is no shard length"),
        (info_json(split(lengths=[str(2**60)])), "is no shard length"),
        (
            info_json(split() | {"shardLengths": "12"}),
            "'shardLengths' of split train is not a list",
        ),
        (info_json(split(numBytes="-5")), "'-5' is no size of split train"),
        (info_json({"name": "train", "numShards": "4"}), "does not say how many records"),
        (info_json("train"), "'splits' is not a list of objects"),
        (info_json(split(), split()), "a split twice: train, train"),
        (info_json(split("../train")), "'../train' is no name of a dataset or split"),
        (info_json(split(""), name="toy"), "'' is no name"),
        (info_json(name="/etc"), "'/etc' is no name"),
        (info_json(version="../1"), "'../1' is no version"),
        (info_json(name=7), "'name' is not a text but int"),
        (info_json(split(filepathTemplate="{HOME}-{SHARD_X_OF_Y}")), "does not name each"),
        (info_json(split(filepathTemplate="{SPLIT}.tfrecord")), "does not name each shard's file"),
        (info_json(split(filepathTemplate="../{SHARD_X_OF_Y}")), "leads out of the dataset's"),
        (info_json(split(filepathTemplate="/{SHARD_X_OF_Y}")), "leads out of the dataset's"),
    ],
)
def test_what_cannot_be_trusted_says_why(text, message):
    with pytest.raises(ConfigError, match=message):
        decode_dataset_info(text)


@pytest.mark.skipif(not RLDS.is_dir(), reason="the development data is not beside the repository")
@pytest.mark.parametrize(
    ("folder", "lengths"),
    [
        ("bridge_dataset/1.0.0", {"train": (25,), "val": (25,)}),
        ("bridge/0.1.0", {"train": (2, 2)}),
        ("fractal20220817_data/0.1.0", {"train": (5, 4)}),
    ],
)
def test_decode_dataset_info_of_real_datasets(folder, lengths):
    info = decode_dataset_info((RLDS / folder / "dataset_info.json").read_text())
    assert {found.name: found.shard_lengths for found in info.splits} == lengths
    for name, shards in lengths.items():
        for index in range(len(shards)):
            assert (RLDS / folder / info.shard_file_name(name, index)).is_file()
