"""The bank: which pictures it keeps, how they are named, and which of them a span shows."""

import dataclasses
import io
import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from builders import DATASET, VERSION, decode, encode, make_object, make_row, read_table
from converted import converted_once, only_error, run_ilv
from PIL import Image

from ilv_dataset.bank import (
    BANK_SCHEMA,
    Bank,
    BankImage,
    ImageMix,
    decode_bank_image,
    encode_bank_image,
    object_name,
    pick_image,
)
from ilv_dataset.bank_building import add_images, build_bank
from ilv_dataset.errors import ConfigError, StorageError
from ilv_dataset.formats.parquet import write_rows
from ilv_dataset.formats.tables import EPISODES_SCHEMA, EpisodeRow, encode_episode
from ilv_dataset.outside_images import encode_outside

RED, GREEN, BLUE, WHITE = (200, 30, 30), (30, 160, 30), (30, 30, 200), (255, 255, 255)


def crop(colour: tuple[int, int, int] = RED, side: int = 224) -> bytes:
    return encode(np.full((side, side, 3), colour, np.uint8), "JPEG")


def episode(record: int, *names: str, verdict: str = "match", **changes: Any) -> EpisodeRow:
    """A span with a picture of each name; those of different episodes and names differ."""
    objects = tuple(make_object(name, verdict=verdict, box_score=0.75) for name in names)
    pictures = tuple(crop((9 * record, 7 * len(name), 50)) for name in names)
    row = make_row(episode_id=f"e{record}", record_index=record, objects=objects, images=pictures)
    return dataclasses.replace(row, **changes)


def write_output(folder: Path, shards: Mapping[str, Sequence[EpisodeRow]]) -> Path:
    """A converted dataset below OUT with the rows of each shard; returns OUT."""
    root = folder / DATASET / VERSION
    for name, rows in shards.items():
        path = root / "episodes" / f"{name}.parquet"
        encoded = map(encode_episode, rows)
        write_rows(str(path), encoded, EPISODES_SCHEMA, root=str(root), out=str(folder))
    for name in ("plan.json", "run.json"):
        (root / name).write_text(json.dumps({"ilv_dataset": "0"}))
    return folder


def one_shard(folder: Path, *rows: EpisodeRow) -> str:
    return str(write_output(folder, {"train-00000-of-00001": rows}))


def make_bank(*images: tuple[str, str, str | None, bytes]) -> Bank:
    """A bank of (name, kind, episode, picture)."""
    import pyarrow as pa

    rows = [
        encode_bank_image(
            BankImage(name, jpeg, f"{number}.jpg", kind, name, None, episode_id, 0, None, "")
        )
        for number, (name, kind, episode_id, jpeg) in enumerate(images)
    ]
    return Bank(pa.Table.from_pylist(rows, schema=BANK_SCHEMA))


def pick(mix: ImageMix, bank: Bank | None, **changes: Any) -> tuple[str, bytes | None]:
    values = {"seed": 0, "epoch": 0, "span_id": "e0#0", "episode_id": "e0", "slot": 0}
    picked = pick_image(mix, bank, **{**values, "name": "the cup", "own": b"own", **changes})
    return picked.source, picked.jpeg


@pytest.mark.parametrize(
    ("phrase", "name"),
    [
        ("The Carrot", "carrot"),
        ("the big gray mugs", "big grey cup"),
        ("gray big cup", "big grey cup"),
        ("the other cup", "cup"),
        ("left potatoes", "potato"),
        ("Green cube", "green block"),
        ("coke can", "coke can"),
        ("trash can", "dustbin"),
        ("black rubbish bin", "black dustbin"),
        ("bag of chips", "chip bag"),
        ("crisp_packet", "chip bag"),
        ("dog\u2019s bowl", "dog bowl"),
        ("T-shirt", "t shirt"),
        ("t_shirt", "t shirt"),
        ("Красная  чашка", "красная чашка"),
        ("", ""),
        (" _-", ""),
    ],
)
def test_object_name_is_equal_for_one_thing(phrase: str, name: str) -> None:
    assert object_name(phrase) == name


def test_object_name_keeps_apart_what_looks_different() -> None:
    names = ["red cup", "blue cup", "cup", "small cup", "can", "coke can", "trash can", "teacup"]
    assert len(set(map(object_name, names))) == len(names)


def test_mix_reads_shares_and_writes_them_back() -> None:
    mix = ImageMix.parse(" own=0.5, bank=0.3,outside=0.2")
    assert mix == ImageMix(own=0.5, bank=0.3, outside=0.2, text=0.0)
    assert str(mix) == "own=0.5,bank=0.3,outside=0.2"
    assert ImageMix.parse("bank=1") == ImageMix(own=0.0, bank=1.0)
    assert ImageMix() == ImageMix.parse("own=1")
    assert ImageMix.parse(str(ImageMix.parse("own=1e-17,text=2"))) == ImageMix(own=1e-17, text=2)


def test_mix_scales_its_shares_to_one() -> None:
    assert ImageMix(own=1, text=3).shares == {"own": 0.25, "bank": 0, "outside": 0, "text": 0.75}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("onw=1", "no source of images 'onw'; did you mean own"),
        ("zebra=1", "one of own, bank, outside, text"),
        ("", "no source of images ''"),
        ("own", "'own' is no share"),
        ("own=half", "'own=half' is no share"),
        ("own=1,own=2", "names own twice"),
        ("own=-0.5,bank=1", "share of own images must be 0 or more, got -0.5"),
        ("own=nan", "got nan"),
        ("own=inf", "got inf"),
        ("own=0", "the mix of images is empty"),
        ("own=1e308,bank=1e308", "the mix of images is empty"),
    ],
)
def test_mix_refuses_what_is_no_mix(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ImageMix.parse(text)


def test_pick_shows_the_own_crop_where_nothing_else_is_asked_for() -> None:
    assert pick(ImageMix(), None) == ("own", b"own")


def test_pick_leaves_the_words_where_text_is_drawn() -> None:
    assert pick(ImageMix.parse("text=1"), None) == ("text", None)


def test_pick_takes_the_bank_by_the_name_that_a_phrase_has() -> None:
    bank = make_bank(("cup", "bank", "e1", b"cup"), ("plate", "bank", "e1", b"plate"))
    mix = ImageMix.parse("bank=1")
    assert pick(mix, bank) == ("bank", b"cup")
    assert pick(mix, bank, name="Mugs") == ("bank", b"cup")
    assert pick(mix, bank, name="red cup") == ("own", b"own")


def test_pick_never_takes_a_crop_of_the_episode_itself() -> None:
    mix = ImageMix.parse("bank=1")
    images = [("cup", "bank", episode_id, episode_id.encode()) for episode_id in ("e0", "e1")]
    taken = {
        pick(mix, make_bank(*images), span_id=f"{own}#{span}", episode_id=own)
        for own, span in itertools.product(("e0", "e1"), range(50))
    }
    assert taken == {("bank", b"e1"), ("bank", b"e0")}
    assert {pick(mix, make_bank(*images), epoch=epoch) for epoch in range(50)} == {("bank", b"e1")}
    assert pick(mix, make_bank(images[0])) == ("own", b"own")


@pytest.mark.parametrize(
    ("mix", "kinds", "expected"),
    [
        ("bank=1,outside=1e-9", ["outside"], "outside"),
        ("outside=1,bank=1e-9", ["bank"], "bank"),
        ("bank=1", ["outside"], "own"),
        ("outside=1", ["bank"], "own"),
        ("outside=1,text=1e-9", [], "own"),
        ("bank=1,outside=1e-9", ["bank", "outside"], "bank"),
        ("outside=1,bank=1e-9", ["bank", "outside"], "outside"),
    ],
)
def test_pick_falls_back_on_the_other_source_of_the_mix_then_on_the_own_crop(
    mix: str, kinds: list[str], expected: str
) -> None:
    bank = make_bank(*(("cup", kind, None, kind.encode()) for kind in kinds))
    assert pick(ImageMix.parse(mix), bank) == (expected, expected.encode())


def test_pick_follows_the_sha256_of_seed_epoch_span_and_slot() -> None:
    # sha256("3/1/e7#2/0") begins with 655b, and 0x655b / 0x10000 = 0.3959; its bytes 8 to 15 end
    # with 0x15, and of four pictures 0x15 % 4 = 1.
    bank = make_bank(*(("cup", "outside", None, bytes([number])) for number in range(4)))
    place = {"seed": 3, "epoch": 1, "span_id": "e7#2", "slot": 0}
    assert pick(ImageMix(own=0.40, outside=0.60), bank, **place) == ("own", b"own")
    assert pick(ImageMix(own=0.39, outside=0.61), bank, **place) == ("outside", bytes([1]))


def test_pick_keeps_the_shares_and_changes_with_each_part_of_the_key() -> None:
    bank = make_bank(("cup", "bank", "x", b"bank"), ("cup", "outside", None, b"outside"))
    mix = ImageMix.parse("own=0.4,bank=0.3,outside=0.2,text=0.1")
    spans = [f"e{number}#0" for number in range(4000)]
    drawn = [pick(mix, bank, span_id=span)[0] for span in spans]
    shares = {source: count / 4000 for source, count in Counter(drawn).items()}
    assert shares == pytest.approx(mix.shares, abs=0.025)
    assert drawn == [pick(mix, bank, span_id=span)[0] for span in spans]
    for change in ({"seed": 1}, {"epoch": 1}, {"slot": 1}):
        others = [pick(mix, bank, span_id=span, **change)[0] for span in spans]
        equal = sum(one == other for one, other in zip(drawn, others, strict=True)) / 4000
        # of two independent draws 0.4^2 + 0.3^2 + 0.2^2 + 0.1^2 = 0.30 are equal
        assert equal == pytest.approx(0.30, abs=0.03)


def test_pick_needs_a_bank_where_the_mix_does() -> None:
    assert not ImageMix(own=1, text=1).needs_bank
    for mix in (ImageMix(bank=0.1), ImageMix(outside=0.1)):
        assert mix.needs_bank
        with pytest.raises(ConfigError, match="takes pictures from a bank, and none is named"):
            pick(mix, None)


def test_build_keeps_crops_with_a_match_and_where_they_are_from(tmp_path: Path) -> None:
    out = one_shard(
        tmp_path / "out",
        episode(0, "the mug", "plate", span=4),
        episode(1, "cup", verdict="unsure"),
        episode(2, "cup", verdict="unverified"),
        episode(3, objects=(make_object("cup", grounded=False),), images=()),
    )
    report = build_bank(out, str(tmp_path / "bank"))
    assert (report.num_seen, report.num_kept, report.num_names) == (2, 2, 2)
    assert report.left_out == ("1 unsure", "1 unverified")
    bank = Bank.open(str(tmp_path / "bank"))
    assert bank.names == ("cup", "plate")
    assert bank.images("Cup") == (
        BankImage(
            name="cup", jpeg=crop((0, 49, 50)), path="e0#4-0.jpg", kind="bank", phrase="the mug",
            dataset=DATASET, episode_id="e0", span=4, box_score=0.75,
            # sha256("e0#4/0")
            digest="f2fa94eb00e332048f9fdd8ed025d1d50bc2c3ab5e751203800ea3a52a858352",
        ),
    )  # fmt: skip
    assert bank.images("spoon") == ()


def test_build_keeps_one_crop_of_an_episode_a_name(tmp_path: Path) -> None:
    spans = [episode(0, "cup", "mug", "plate", span=number) for number in range(20)]
    build_bank(one_shard(tmp_path / "out", *spans, episode(1, "cup")), str(tmp_path / "bank"))
    bank = Bank.open(str(tmp_path / "bank"))
    assert [image.episode_id for image in bank.images("cup")].count("e0") == 1
    assert (bank.count("cup", "bank"), bank.count("plate", "bank"), len(bank)) == (2, 1, 3)


def test_build_caps_a_name_by_hash_whatever_the_order(tmp_path: Path) -> None:
    rows = [episode(number, "cup", "plate") for number in range(30)]
    splits = [rows[:10], rows[10:15], rows[15:]]
    keys = [f"train-{number:05d}-of-00003" for number in range(3)]
    files = []
    for name, order in (("a", splits), ("b", splits[::-1])):
        out = write_output(tmp_path / name, dict(zip(keys, order, strict=True)))
        build_bank(str(out), str(tmp_path / f"bank-{name}"), max_per_name=4)
        files.append((tmp_path / f"bank-{name}" / "bank.parquet").read_bytes())
    assert files[0] == files[1]
    bank = Bank.open(str(tmp_path / "bank-a"))
    assert [bank.count(name, "bank") for name in bank.names] == [4, 4]
    assert bank.fingerprint == Bank.open(str(tmp_path / "bank-b")).fingerprint
    lowest = [image.digest for image in bank.images("cup")]
    build_bank(str(tmp_path / "a"), str(tmp_path / "all"), max_per_name=1000)
    assert Bank.open(str(tmp_path / "all")).fingerprint != bank.fingerprint
    every = Bank.open(str(tmp_path / "all")).images("cup")
    assert len(every) == 30
    assert lowest == sorted(image.digest for image in every)[:4]


def test_fingerprint_changes_with_a_picture() -> None:
    red, green = (make_bank(("cup", "bank", "e0", crop(colour))) for colour in (RED, GREEN))
    assert red.fingerprint == make_bank(("cup", "bank", "e0", crop(RED))).fingerprint
    assert red.fingerprint != green.fingerprint


def test_build_takes_the_splits_that_are_asked_for(tmp_path: Path) -> None:
    shards = {
        "train-00000-of-00001": [episode(0, "cup")],
        "val-00000-of-00001": [episode(1, "cup")],
    }
    out = str(write_output(tmp_path / "out", shards))
    build_bank(out, str(tmp_path / "bank"), splits=["train"])
    (image,) = Bank.open(str(tmp_path / "bank")).images("cup")
    assert image.episode_id == "e0"
    with pytest.raises(ConfigError, match="no split 'test'; there is train, val"):
        build_bank(out, str(tmp_path / "other"), splits=["train", "test"])


def test_build_overwrites_only_when_told_and_leaves_outside_pictures(tmp_path: Path) -> None:
    bank = str(tmp_path / "bank")
    write_pictures(tmp_path / "sketches", {"spoon.png": crop(GREEN)})
    add_images(tmp_path / "sketches", bank)
    build_bank(one_shard(tmp_path / "one", episode(0, "cup")), bank)
    with pytest.raises(ConfigError, match="crops in this bank; --overwrite replaces them"):
        build_bank(one_shard(tmp_path / "two", episode(1, "plate")), bank)
    assert Bank.open(bank).names == ("cup", "spoon")
    build_bank(str(tmp_path / "two"), bank, overwrite=True)
    assert Bank.open(bank).names == ("plate", "spoon")
    assert sorted(path.name for path in Path(bank).iterdir()) == [
        ".lock",
        "bank.parquet",
        "outside.parquet",
    ]


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (b"\xff\xd8\xff no", "e1#0-0.jpg: image of 6 bytes does not decode"),
        (crop(side=64), r"e1#0-0.jpg: a crop of \(64, 64, 3\), expected 224 x 224"),
    ],
)
def test_build_that_meets_a_broken_picture_leaves_the_bank_as_it_was(
    tmp_path: Path, picture: bytes, message: str
) -> None:
    bank = tmp_path / "bank"
    build_bank(one_shard(tmp_path / "one", episode(0, "cup")), str(bank))
    before = (bank / "bank.parquet").read_bytes()
    broken = one_shard(tmp_path / "two", episode(0, "cup"), episode(1, "cup", images=(picture,)))
    with pytest.raises(StorageError, match=message):
        build_bank(broken, str(bank), overwrite=True)
    assert (bank / "bank.parquet").read_bytes() == before


def test_build_says_why_there_is_nothing_to_keep(tmp_path: Path) -> None:
    unverified = one_shard(tmp_path / "one", episode(0, "cup", "can", verdict="unverified"))
    with pytest.raises(ConfigError, match="there are 2 unverified; convert it with a --verifier"):
        build_bank(unverified, str(tmp_path / "bank"))
    empty = one_shard(tmp_path / "two", make_row(images=(), objects=()))
    with pytest.raises(ConfigError, match="no crop for a bank; nothing there has a picture"):
        build_bank(empty, str(tmp_path / "bank"))
    with pytest.raises(StorageError, match="e0#0: 1 pictures of 2 objects; see ilv validate"):
        build_bank(
            one_shard(tmp_path / "three", episode(0, "cup", "can", images=(crop(),))),
            str(tmp_path / "bank"),
        )


def write_pictures(folder: Path, contents: Mapping[str, bytes]) -> Path:
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_add_names_pictures_by_their_folder_or_file(tmp_path: Path) -> None:
    names = [
        "coke_can/1.jpg",
        "coke_can/b.jpg",
        "Mug 2.jpg",
        "mug (3).jpg",
        "cup_04.jpg",
        "7up.jpg",
    ]
    contents = {name: crop((number * 20, 0, 0)) for number, name in enumerate(names)}
    folder = write_pictures(tmp_path / "photos", {**contents, ".hidden": b"x"})
    report = add_images(folder, str(tmp_path / "bank"))
    assert (report.num_seen, report.num_kept, report.num_names) == (6, 6, 3)
    assert report.left_out == ()
    bank = Bank.open(str(tmp_path / "bank"))
    counts = {name: (bank.count(name, "bank"), bank.count(name, "outside")) for name in bank.names}
    assert counts == {"7up": (0, 1), "coke can": (0, 2), "cup": (0, 3)}
    assert {image.path for image in bank.images("cup")} == {
        "Mug 2.jpg",
        "cup_04.jpg",
        "mug (3).jpg",
    }
    assert {image.phrase for image in bank.images("coke can")} == {"coke_can"}
    assert {(image.kind, image.episode_id) for image in bank.images("cup")} == {("outside", None)}


def test_add_again_adds_what_is_new_and_caps_a_name(tmp_path: Path) -> None:
    bank = str(tmp_path / "bank")
    first = write_pictures(tmp_path / "a", {"cup/1.jpg": crop(RED), "cup/2.jpg": crop(RED)})
    second = write_pictures(tmp_path / "b", {"cup/9.jpg": crop(RED), "cup/3.jpg": crop(BLUE)})
    assert add_images(first, bank).num_kept == 1  # one content
    assert add_images(second, bank).num_kept == 2
    written = (tmp_path / "bank" / "outside.parquet").read_bytes()
    assert add_images(second, bank).num_kept == 2
    assert (tmp_path / "bank" / "outside.parquet").read_bytes() == written
    assert add_images(second, bank, max_per_name=1).num_kept == 1
    third = write_pictures(tmp_path / "c", {"plate.jpg": crop(GREEN)})
    assert add_images(third, bank, overwrite=True).num_names == 1
    assert Bank.open(bank).names == ("plate",)


def test_add_reports_what_is_no_picture_in_one_line(tmp_path: Path) -> None:
    bomb = io.BytesIO()
    Image.new("1", (9000, 9000)).save(bomb, "PNG")
    contents = {
        "cup/good.jpg": crop(),
        "cup/notes.txt": b"hello",
        "cup/cut.png": encode(np.zeros((90, 90, 3), np.uint8), "PNG")[:60],
        "cup/huge.png": bomb.getvalue(),
        "cup/deep/1.jpg": crop(),
        "__.jpg": crop(),
        "empty.jpg": b"",
    }
    folder = write_pictures(tmp_path / "photos", contents)
    (folder / "cup" / "gone.jpg").symlink_to("nowhere.jpg")
    done = run_ilv("bank", "add", folder, "--bank", tmp_path / "bank")
    assert done.exit_code == 0
    summary, left_out = done.stderr.splitlines()
    assert summary.startswith("1 picture read; 1 from outside, of 1 name, in ")
    assert left_out.startswith("7 left out: ")
    assert left_out.endswith(" and 2 more")
    report = add_images(folder, str(tmp_path / "bank"))
    reasons = dict(text.removesuffix(")").split(" (", 1) for text in report.left_out)
    assert reasons == {
        "__.jpg": "its name says nothing",
        "cup/cut.png": "does not decode: image file is truncated",
        "cup/deep": "a folder in a folder",
        "cup/gone.jpg": "not a file",
        "cup/huge.png": "does not decode: 9000 x 9000 pixels, more than 80,000,000",
        "cup/notes.txt": "not one of JPEG, PNG, WEBP, BMP, GIF",
        "empty.jpg": "not one of JPEG, PNG, WEBP, BMP, GIF",
    }


def test_add_without_a_picture_is_an_error_that_leaves_the_bank(tmp_path: Path) -> None:
    bank = tmp_path / "bank"
    add_images(write_pictures(tmp_path / "a", {"cup.jpg": crop()}), str(bank))
    before = (bank / "outside.parquet").read_bytes()
    nothing = write_pictures(tmp_path / "b", {"cup.txt": b"cup"})
    error = only_error(run_ilv("bank", "add", nothing, "--bank", bank, "--overwrite"))
    assert error.endswith("b: no picture to add: cup.txt (not one of JPEG, PNG, WEBP, BMP, GIF)")
    assert (bank / "outside.parquet").read_bytes() == before
    assert only_error(run_ilv("bank", "add", tmp_path / "c", "--bank", bank)).endswith(
        "c: no such folder"
    )


def outside_pixel(picture: Image.Image, x: int, y: int, form: str = "PNG", **options: Any) -> Any:
    """The colour at a place of the 224 x 224 pixels that are made of a picture."""
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    made = decode(encode_outside(buffer.getvalue()))
    assert (made.shape, made.dtype) == ((224, 224, 3), np.uint8)
    return made[y, x].astype(int)


def is_near(pixel: Any, colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(pixel - colour).max() <= 6)


def test_outside_picture_of_any_mode_becomes_rgb() -> None:
    size = (60, 60)
    clear = Image.new("RGBA", size, (*RED, 0))
    half = Image.new("RGBA", size, (0, 0, 0, 128))  # 255 * (1 - 128 / 255) = 127
    assert is_near(outside_pixel(clear, 100, 100), WHITE)
    assert is_near(outside_pixel(half, 100, 100), (127, 127, 127))
    assert is_near(outside_pixel(Image.new("LA", size, (10, 0)), 100, 100), WHITE)
    assert is_near(outside_pixel(Image.new("L", size, 90), 100, 100), (90, 90, 90))
    assert is_near(outside_pixel(Image.new("1", size, 1), 100, 100), WHITE)
    deep = Image.fromarray(np.full(size, 90 * 256 + 255, np.uint16))
    assert is_near(outside_pixel(deep, 100, 100), (90, 90, 90))
    palette = Image.new("RGB", size, RED).convert("P", palette=Image.Palette.ADAPTIVE)
    assert is_near(outside_pixel(palette, 100, 100), RED)
    assert is_near(outside_pixel(palette, 100, 100, transparency=palette.getpixel((0, 0))), WHITE)
    # Adobe's CMYK: 255 is all ink, so this is red without cyan.
    ink = Image.new("CMYK", size, (0, 255, 255, 0))
    assert is_near(outside_pixel(ink, 100, 100, "JPEG"), (254, 0, 0))
    for form in ("WEBP", "BMP", "GIF"):
        assert is_near(outside_pixel(Image.new("RGB", size, BLUE), 100, 100, form), BLUE)


def test_outside_animation_gives_its_first_picture() -> None:
    first, second = (Image.new("RGB", (60, 60), colour) for colour in (RED, BLUE))
    pixel = outside_pixel(first, 100, 100, "GIF", save_all=True, append_images=[second])
    assert is_near(pixel, RED)


# The stored picture is red above blue; orientation -> which edge of the upright one is red.
@pytest.mark.parametrize(
    ("orientation", "red_xy", "blue_xy"),
    [
        (1, (112, 20), (112, 200)),
        (2, (112, 20), (112, 200)),
        (3, (112, 200), (112, 20)),
        (4, (112, 200), (112, 20)),
        (5, (20, 112), (200, 112)),
        (6, (200, 112), (20, 112)),
        (7, (200, 112), (20, 112)),
        (8, (20, 112), (200, 112)),
        (99, (112, 20), (112, 200)),
    ],
)
def test_outside_picture_is_turned_upright(
    orientation: int, red_xy: tuple[int, int], blue_xy: tuple[int, int]
) -> None:
    picture = Image.new("RGB", (64, 64), RED)
    picture.paste(BLUE, (0, 32, 64, 64))
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert is_near(outside_pixel(picture, *red_xy, "JPEG", exif=exif, quality=95), RED)
    assert is_near(outside_pixel(picture, *blue_xy, "JPEG", exif=exif, quality=95), BLUE)


def test_outside_picture_keeps_its_shape_and_repeats_its_edges() -> None:
    picture = Image.new("RGB", (400, 200), GREEN)  # becomes 224 x 112, with 56 rows on each side
    picture.paste(RED, (0, 0, 400, 100))
    assert is_near(outside_pixel(picture, 112, 2), RED)
    assert is_near(outside_pixel(picture, 112, 105), RED)
    assert is_near(outside_pixel(picture, 112, 119), GREEN)
    assert is_near(outside_pixel(picture, 112, 221), GREEN)


@pytest.mark.parametrize("size", [(1, 1), (20_000, 1), (1, 20_000), (5000, 4000), (224, 223)])
def test_outside_picture_of_any_size_is_224_pixels(size: tuple[int, int]) -> None:
    for form in ("PNG", "JPEG"):
        assert is_near(outside_pixel(Image.new("RGB", size, BLUE), 3, 220, form), BLUE)


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II*\0\xff\xff\xff\xff",
        b"MM\0*\0\0\0\x08\0\x01\x01",
        b"no EXIF at all",
        b"MM\0\xa4\0\0\0\x08",
    ],
)
def test_outside_picture_with_broken_exif_counts_as_upright(exif: bytes) -> None:
    stored, block = crop(RED), b"Exif\0\0" + exif
    stored = stored[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2) + block + stored[2:]
    assert is_near(decode(encode_outside(stored))[9, 9].astype(int), RED)


def test_bank_round_trips_and_shows_its_pictures_to_hugging_face(tmp_path: Path) -> None:
    image = BankImage("cup", b"jpeg", "cup/1.png", "outside", "a cup", None, None, None, None, "ab")
    assert decode_bank_image(encode_bank_image(image)) == image
    build_bank(one_shard(tmp_path / "out", episode(0, "cup")), str(tmp_path / "bank"))
    schema = pq.read_schema(tmp_path / "bank" / "bank.parquet")
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert list(features) == [
        "name", "image", "kind", "phrase", "dataset", "episode_id", "span", "box_score", "digest",
    ]  # fmt: skip


def test_open_refuses_what_is_no_bank_or_too_large(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no bank there; make one with ilv bank build or add"):
        Bank.open(str(tmp_path))
    build_bank(one_shard(tmp_path / "out", episode(0, "cup")), str(tmp_path / "bank"))
    size = (tmp_path / "bank" / "bank.parquet").stat().st_size
    assert len(Bank.open(str(tmp_path / "bank"), max_bytes=size)) == 1
    with pytest.raises(ConfigError, match="build it with a lower --max-per-name"):
        Bank.open(str(tmp_path / "bank"), max_bytes=size - 1)
    outside = tmp_path / "bank" / "outside.parquet"
    outside.write_bytes(b"PAR1 no")
    with pytest.raises(StorageError, match=r"outside.parquet: not a readable Parquet file"):
        Bank.open(str(tmp_path / "bank"))
    row = [encode_episode(make_row())]
    write_rows(str(outside), row, EPISODES_SCHEMA, root=str(tmp_path), out=str(tmp_path))
    with pytest.raises(StorageError, match=r"outside.parquet: not a file of a bank"):
        Bank.open(str(tmp_path / "bank"))


def test_bank_behind_a_scheme_is_built_and_opened(tmp_path: Path, bucket: dict[str, bytes]) -> None:
    local, remote = str(tmp_path / "bank"), "mem://lab/bank"
    out = one_shard(tmp_path / "out", episode(0, "cup"))
    build_bank(out, local)
    build_bank(out, remote)
    add_images(write_pictures(tmp_path / "photos", {"spoon.jpg": crop()}), remote)
    assert bucket["mem://lab/bank/bank.parquet"] == (tmp_path / "bank/bank.parquet").read_bytes()
    assert Bank.open(remote).names == ("cup", "spoon")


def test_commands_make_a_bank_of_what_convert_writes(tmp_path: Path) -> None:
    bank = tmp_path / "bank"
    done = run_ilv("bank", "build", converted_once(), "--out", bank)
    assert done.exit_code == 0
    assert done.stderr.splitlines() == [f"5 of 5 crops, of 2 names, in {bank}"]
    folder = write_pictures(tmp_path / "photos", {"carrots/1.jpg": crop(), "spoon.jpg": crop()})
    assert run_ilv("bank", "add", folder, "--bank", bank).exit_code == 0
    listed = run_ilv("bank", "list", bank, "--json")
    assert [json.loads(line) for line in listed.stdout.splitlines()] == [
        {"name": "carrot", "bank": 3, "outside": 1},
        {"name": "plate", "bank": 2, "outside": 0},
        {"name": "spoon", "bank": 0, "outside": 1},
    ]
    assert run_ilv("bank", "list", bank).stdout.splitlines()[1] == "      3        1  carrot"
    episodes = [
        row for row in read_table(next(converted_once().glob("*/*/episodes"))) if row["images"]
    ]
    pictures = {image["bytes"] for row in episodes for image in row["images"]}
    kept = Bank.open(str(bank))
    crops = [image for image in kept.images("carrot") if image.kind == "bank"]
    assert {image.jpeg for image in crops} <= pictures
    assert len({image.episode_id for image in crops}) == 3
