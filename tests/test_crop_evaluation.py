"""ilv eval crops: labelled images read and asked, converted outputs judged, the worst drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import FakeDetector
from converted import converted_once, copy_converted, rewrite_rows, run_ilv, write_source
from PIL import Image

from ilv_dataset import crop_evaluation, searches
from ilv_dataset.errors import ConfigError
from ilv_dataset.masks import FrameMasks, encode_rle
from ilv_dataset.records import Detections
from ilv_dataset.truth_images import load_objects, read_image, read_truth

SIZE_WH = (40, 30)
CAN, MUG = [4, 5, 14, 15], [20, 5, 32, 25]  # xyxy
DETECTOR = ("--detector", "source")


def mask_of_box(box: list[int]) -> np.ndarray:
    mask = np.zeros((SIZE_WH[1], SIZE_WH[0]), bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


def write_image(folder: Path, name: str = "a.png") -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((SIZE_WH[1], SIZE_WH[0], 3), 90, np.uint8)
    Image.fromarray(pixels).save(folder / name)


def label(name: str, box: list[int], **values: Any) -> dict[str, Any]:
    x0, y0, x1, y1 = box
    return {"image_id": 1, "name": name, "bbox": [x0, y0, x1 - x0, y1 - y0], **values}


def write_coco(folder: Path, *labels: dict[str, Any], **image: Any) -> Path:
    write_image(folder)
    content = {
        "images": [{"id": 1, "file_name": "a.png", **image}],
        "annotations": list(labels),
        "categories": [{"id": 7, "name": "mug"}],
    }
    (folder / "truth.json").write_text(json.dumps(content))
    return folder / "truth.json"


def object_of(found: dict[str, Any]) -> tuple[int, int, int]:
    """(right, wrong, missed) of a printed object."""
    overall = found["overall"]
    return tuple(overall[name]["count"] for name in ("right", "wrong", "missed"))


def evaluate(*arguments: object) -> dict[str, Any]:
    done = run_ilv("eval", "crops", *arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


# --- labelled images


def polygon_of(box: list[int]) -> list[int]:
    x0, y0, x1, y1 = box
    return [x0, y0, x1, y0, x1, y1, x0, y1]


@pytest.mark.parametrize(
    "segmentation",
    [
        [polygon_of(CAN)],
        json.loads(encode_rle(mask_of_box(CAN))),
        {"size": [30, 40], "counts": [125, *[10, 20] * 9, 10, 795]},
    ],
    ids=["polygons", "compressed", "runs"],
)
def test_coco_masks_come_in_three_forms(tmp_path, segmentation):
    truth = write_coco(tmp_path, label("can", CAN, segmentation=segmentation))
    (image,) = read_truth(truth)
    found = load_objects(image, SIZE_WH)
    assert found.names == ("can",)
    assert found.boxes_xyxy.tolist() == [CAN]
    assert found.masks is not None
    assert (found.masks[0] == mask_of_box(CAN)).all()


def test_coco_names_are_the_categorys_unless_the_label_has_one(tmp_path):
    labels = [{"image_id": 1, "category_id": 7, "bbox": [0, 0, 9, 9]}, label("can", CAN)]
    (image,) = read_truth(write_coco(tmp_path, *labels))
    assert [found.name for found in image.objects] == ["mug", "can"]
    assert image.dataset == tmp_path.name
    assert load_objects(image, SIZE_WH).masks is None


def test_a_list_of_images_reads_as_coco_does(tmp_path):
    write_image(tmp_path)
    Image.fromarray(mask_of_box(CAN)).save(tmp_path / "can.png")
    content = [
        {
            "image": "a.png",
            "dataset": "rt1",
            "objects": [{"name": "can", "box": CAN, "mask": "can.png"}],
        }
    ]
    (tmp_path / "truth.json").write_text(json.dumps(content))
    (image,) = read_truth(tmp_path / "truth.json")
    found = load_objects(image, SIZE_WH)
    assert (image.dataset, found.names) == ("rt1", ("can",))
    assert found.masks is not None
    assert (found.masks[0] == mask_of_box(CAN)).all()


@pytest.mark.parametrize(
    ("labels", "image", "says"),
    [
        ([label("can", [0, 0, 9, 9], image_id=2)], {}, "not a file of labelled images: KeyError"),
        ([{"image_id": 1, "bbox": [0, 0, 9, 9]}], {}, "KeyError: 'category_id'"),
        ([{"image_id": 1, "name": "can", "bbox": [0, 0, float("nan"), 9]}], {}, "not finite"),
        ([label(" ", CAN)], {}, "an object has no name"),
        ([], {"file_name": "../a.png"}, "expected a path below"),
        ([label("can", CAN, mask="/etc/passwd")], {}, "expected a path below"),
    ],
)
def test_what_is_no_truth_is_one_line(tmp_path, labels, image, says):
    done = run_ilv("eval", "crops", "--truth", write_coco(tmp_path, *labels, **image), *DETECTOR)
    assert done.exit_code == 1
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_file_without_images_is_refused(tmp_path):
    (tmp_path / "truth.json").write_text("[]")
    with pytest.raises(ConfigError, match="no image in it"):
        read_truth(tmp_path / "truth.json")


def test_a_missing_image_says_how_to_name_its_folder(tmp_path):
    truth = write_coco(tmp_path, label("can", CAN))
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    done = run_ilv("eval", "crops", "--truth", truth, *DETECTOR)
    assert (done.exit_code, "--images names the folder" in done.stderr) == (1, True)


def test_an_image_of_another_size_is_refused(tmp_path):
    (image,) = read_truth(write_coco(tmp_path, width=41, height=30))
    with pytest.raises(ConfigError, match=r"has \(40, 30\) pixels, its labels \(41, 30\)"):
        read_image(image)


@pytest.mark.parametrize(
    ("segmentation", "says"),
    [
        ([[1, 2, 3, 4]], "expected x, y of three points"),
        ({"size": [30, 40], "counts": [5]}, "do not add up"),
        ({"size": [3, 4], "counts": [12]}, "has 4 x 3 pixels"),
    ],
)
def test_a_broken_mask_names_its_image_and_object(tmp_path, segmentation, says):
    (image,) = read_truth(write_coco(tmp_path, label("can", CAN, segmentation=segmentation)))
    with pytest.raises(ConfigError, match=f"a.png: .*'can'.*{says}"):
        load_objects(image, SIZE_WH)


# --- asking models


def test_models_are_asked_for_names_together_and_absent_ones_alone(tmp_path, monkeypatch):
    detector = FakeDetector({"can": (CAN, 0.9), "mug": (CAN, 0.4), "plate": (MUG, 0.7)})
    monkeypatch.setattr(crop_evaluation, "detector_of_process", lambda _: detector)
    monkeypatch.setattr(crop_evaluation, "segmenter_of_process", lambda *_: None)
    truth = write_coco(tmp_path, label("can", CAN), label("mug", MUG), absent=["plate", "spoon"])
    found = evaluate("--truth", truth, "--detector", "fake", "--verifier", "none")
    assert [queries for call in detector.calls for _, queries in call] == [
        ("can", "mug"),
        ("plate",),
        ("spoon",),
    ]
    # The mug's only box is the can's, who wants it more; the plate's is the mug's.
    assert object_of(found) == (1, 0, 1)
    assert found["overall"]["absent_cropped"]["count"] == 1
    assert found["overall"]["absent_cropped"]["total"] == 2
    assert [(worst["phrase"], worst["outcome"]) for worst in found["worst"]] == [
        ("plate", "absent-cropped"),
        ("mug", "missed"),
    ]
    assert found["worst"][0]["shown"] == "mug"


def test_a_detector_whose_answers_are_independent_looks_once_and_is_judged_alike(
    tmp_path, monkeypatch
):
    table = {"can": (CAN, 0.9), "mug": (CAN, 0.4), "plate": (CAN, 0.95)}
    monkeypatch.setattr(crop_evaluation, "segmenter_of_process", lambda *_: None)
    truth = write_coco(tmp_path, label("can", CAN), label("mug", MUG), absent=["plate", "spoon"])
    printed = []
    for is_independent in (False, True):
        detector = FakeDetector(table)
        detector.is_independent = is_independent
        monkeypatch.setattr(
            crop_evaluation, "detector_of_process", lambda _, detector=detector: detector
        )
        found = evaluate("--truth", truth, "--detector", "fake", "--verifier", "none")
        printed.append({**found, "title": ""})
    assert printed[0] == printed[1]
    # The plate, which is likelier, takes nothing from the can: it is not there, so asked alone.
    assert object_of(printed[1]) == (1, 0, 1)
    asked = [queries for call in detector.calls for _, queries in call]
    assert asked == [("can", "mug", "plate", "spoon")]


def test_an_image_that_is_asked_several_questions_is_read_once(tmp_path, monkeypatch):
    detector = FakeDetector({"can": (CAN, 0.9)})
    monkeypatch.setattr(crop_evaluation, "detector_of_process", lambda _: detector)
    monkeypatch.setattr(crop_evaluation, "segmenter_of_process", lambda *_: None)
    monkeypatch.setattr(searches, "DECODE_THREADS", 1)  # two may read one image at a time
    read: list[str] = []
    for function in (read_image, load_objects):

        def count(*arguments, function=function):
            read.append(function.__name__)
            return function(*arguments)

        monkeypatch.setattr(crop_evaluation, function.__name__, count)
    truth = write_coco(tmp_path, label("can", CAN), absent=["plate", "spoon"])
    found = evaluate("--truth", truth, "--detector", "fake", "--verifier", "none")
    assert object_of(found) == (1, 0, 0)
    assert read == ["read_image", "load_objects"]


def test_what_an_independent_detector_says_is_taken_apart_by_question():
    found = Detections(
        np.array([CAN, MUG, CAN], np.float32),
        np.array([0.9, 0.8, 0.7], np.float32),
        np.array([0, 2, 1]),
        FrameMasks.of(np.stack([mask_of_box(CAN), mask_of_box(MUG), mask_of_box(CAN)])),
        {3: "box-too-small", 0: "ambiguous"},
    )
    mine = crop_evaluation._of_queries(found, range(1, 4))
    assert mine.query_indices.tolist() == [1, 0]
    assert mine.scores.tolist() == pytest.approx([0.8, 0.7])
    assert mine.masks is not None
    assert [mask[6, 25] for mask in mine.masks] == [True, False]
    assert mine.reasons == {2: "box-too-small"}


def test_what_has_no_phrase_is_there_and_not_asked_for(tmp_path, monkeypatch):
    detector = FakeDetector({"can": (MUG, 0.9)})
    monkeypatch.setattr(crop_evaluation, "detector_of_process", lambda _: detector)
    monkeypatch.setattr(crop_evaluation, "segmenter_of_process", lambda *_: None)
    truth = write_coco(tmp_path, label("can", MUG), label("mug", MUG, phrase=None), absent=[])
    found = evaluate("--truth", truth, "--detector", "fake", "--verifier", "none")
    assert [row["name"] for row in found["by_phrase"]] == ["can"]
    assert object_of(found) == (1, 0, 0)
    # What is not asked for may fit the crop better, which makes it a wrong one.
    moved = [MUG[0], MUG[1], MUG[2], MUG[3] - 6]
    truth = write_coco(tmp_path, label("can", moved), label("mug", MUG, phrase=None), absent=[])
    found = evaluate("--truth", truth, "--detector", "fake", "--verifier", "none")
    assert object_of(found) == (0, 1, 0)
    assert found["worst"][0]["shown"] == "mug"


def test_a_label_may_be_asked_for_in_other_words(tmp_path):
    labels = [label("can", CAN, phrase="the cans"), label("can", MUG)]
    found = evaluate("--truth", write_coco(tmp_path, *labels, absent=[]), *DETECTOR)
    assert sorted(row["name"] for row in found["by_phrase"]) == ["can", "the cans"]


def test_crowds_are_neither_asked_for_nor_absent(tmp_path):
    labels = [label("can", CAN), label("mug", MUG, iscrowd=1)]
    (image,) = read_truth(write_coco(tmp_path, *labels))
    assert ([found.name for found in image.objects], image.crowds) == (["can"], ("mug",))


def test_an_image_without_objects_is_asked_for_absent_names(tmp_path):
    found = evaluate("--truth", write_coco(tmp_path, absent=["can"]), *DETECTOR)
    assert (object_of(found), found["overall"]["absent_cropped"]["total"]) == ((0, 0, 0), 1)
    done = run_ilv("eval", "crops", "--truth", write_coco(tmp_path), *DETECTOR)
    assert "0 answers on 0 frames" in done.stdout


@pytest.mark.parametrize("arguments", [(), ("out", "--truth", "T"), ("--truth", "T")])
def test_eval_crops_takes_an_output_or_a_truth_with_a_detector(tmp_path, arguments):
    truth = write_coco(tmp_path, label("can", CAN))
    done = run_ilv("eval", "crops", *(truth if name == "T" else name for name in arguments))
    assert done.exit_code == 2


# --- converted outputs


def converted_source() -> Path:
    return converted_once().parent / "source"


def test_crops_that_the_source_gave_are_all_right():
    found = evaluate(converted_once(), "--data-dir", converted_source())
    # Carrot and plate of an episode and of half of one, the plate of its other half, and the
    # carrot of a third; the banana is in no frame.
    assert object_of(found) == (6, 0, 0)
    assert found["overall"]["absent_cropped"]["count"] == 0
    assert found["overall"]["absent_cropped"]["total"] == 1
    assert found["overall"]["mask_iou"] == 1.0
    assert found["worst"] == []


def test_crops_that_were_moved_or_lost_are_found(tmp_path):
    root = copy_converted(tmp_path)

    def change(rows: list[dict[str, Any]]) -> None:
        carrot, plate = rows[0]["objects"]
        moved = {"mask_rle": plate["mask_rle"], "box_xyxy": plate["box_xyxy"], "box_score": 0.8}
        rows[0]["objects"] = [
            {**carrot, **moved},
            {**plate, "grounded": False, "box_xyxy": None, "mask_rle": None, "reason": "unsure"},
        ]

    rewrite_rows(root, "episodes/train-00000-of-00002.parquet", change)
    png = tmp_path / "worst.png"
    found = evaluate(root, "--data-dir", converted_source(), "--png", png)
    assert object_of(found) == (4, 1, 1)
    first, second = found["worst"]
    assert (first["phrase"], first["outcome"], first["shown"]) == ("carrot", "wrong", "plate")
    assert (second["phrase"], second["outcome"], second["reason"]) == (
        "plate",
        "missed",
        "unsure",
    )
    assert found["missed_reasons"] == {"unsure": 1}
    with Image.open(png) as drawn:
        colours = {colour for _, colour in drawn.convert("RGB").getcolors(1 << 24)}
    assert {(0x15, 0x80, 0x3D), (0xBE, 0x18, 0x5D), (0x03, 0x69, 0xA1)} <= colours


def test_a_source_that_marks_nothing_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "ilv_dataset.converted_crops.find_source",
        lambda *_: (type("Spec", (), {"source_objects": None}), ""),
    )
    done = run_ilv("eval", "crops", converted_once())
    assert done.exit_code == 1
    assert "--truth" in done.stderr


def test_a_source_that_has_changed_is_refused(tmp_path):
    source = write_source(tmp_path / "source")
    (path,) = source.rglob("*train.tfrecord-00000-of-*")
    path.write_bytes(path.read_bytes() + b"x")
    done = run_ilv("eval", "crops", converted_once(), "--data-dir", source)
    assert done.exit_code == 1
    assert "is not the file that was scanned" in done.stderr


def test_what_is_printed_has_a_line_a_share(tmp_path):
    done = run_ilv("eval", "crops", converted_once(), "--data-dir", converted_source())
    assert done.stdout.startswith("ilv_demo 1.0.0\n7 answers on 5 frames\n")
    assert "1.000  0.610 to 1.000  6 of 6  of the phrases whose object is there" in done.stdout
    for title in ("by phrase", "by dataset", "by method", "by confidence"):
        assert f"\n{title}" in done.stdout


def test_the_demos_crops_are_all_right(tmp_path):
    done = run_ilv("convert", "demo", "--out", tmp_path, "--detector", "source")
    assert done.exit_code == 0, done.stderr
    found = evaluate(tmp_path)
    assert object_of(found) == (42, 0, 0)
    assert found["overall"]["mask_iou"] == 1.0


# --- real images


@pytest.mark.parametrize("name", ["annotations.json", "coco.json"])
def test_real_images_are_judged_alike_from_both_files(shared_data, name):
    truth = shared_data / "gold" / "real_images.dev" / name
    found = evaluate("--truth", truth, *DETECTOR)
    # One rough mask, of a transparent bottle, is half of its box: cut out by it, it is wrong.
    assert object_of(found) == (39, 1, 0)
    assert [worst["phrase"] for worst in found["worst"]] == ["water bottle"]
    assert found["overall"]["absent_cropped"]["count"] == 0
    assert found["overall"]["absent_cropped"]["total"] == 41
    assert found["overall"]["mask_iou"] == 1.0


def test_real_images_are_asked_of_real_weights(shared_data, tmp_path):
    weights = shared_data / "weights" / "yolov8n-seg_int8.onnx"
    truth = shared_data / "gold" / "real_images.dev" / "annotations.json"
    png = tmp_path / "worst.png"
    found = evaluate("--truth", truth, "--detector", f"yolo:{weights}", "--png", png, "--limit", 4)
    assert sum(object_of(found)) == 40
    assert [row["name"] for row in found["by_dataset"]] == ["rt1", "bridge"]
    assert len(found["worst"]) == 4
    assert png.stat().st_size > 10_000
