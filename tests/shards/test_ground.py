import numpy as np
import pytest
from builders import (
    INSTRUCTION,
    FakeVerifier,
    decode,
    encode,
    make_episode,
    make_job,
    make_phrase,
    make_span,
    read_table,
    scene,
    write_tfds_folder,
)

from ilv_dataset import grammar
from ilv_dataset.attempts import decode_attempts
from ilv_dataset.episodes import broken_span
from ilv_dataset.errors import RecordError
from ilv_dataset.records import ParsedInstruction
from ilv_dataset.searches import Grounding
from ilv_dataset.shards import ground as ground_module
from ilv_dataset.shards.ground import ShardFrames, ground_rows, ground_shard, make_row
from ilv_dataset.shards.instructions import write_instructions
from ilv_dataset.shards.scan import read_index, scan_shard

PARSED = ParsedInstruction(
    INSTRUCTION, INSTRUCTION, (make_phrase(INSTRUCTION, "carrot"),), "parsed", "", "grammar"
)


def scanned_job(tmp_path, episodes, **options):
    data = write_tfds_folder(tmp_path / "data", {"train": [episodes]})
    job = make_job(data, tmp_path / "out", **options)
    texts = scan_shard(job.shards[0], job=job)
    write_instructions([grammar.parse_instruction(text) for text in texts], job=job)
    return job


def row_of(indexed, parsed, grounding, tmp_path):
    job = make_job(write_tfds_folder(tmp_path / "data"), tmp_path / "out")
    return make_row(indexed, parsed, grounding, shard=job.shards[0], job=job)


def test_ground_shard_writes_a_row_a_span(tmp_path):
    job = scanned_job(tmp_path, [make_episode(), make_episode(instruction=""), b"broken"])
    ground_shard(job.shards[0], job=job)
    rows = read_table(job.layout.episodes(job.shards[0].key))
    assert [(row["record_index"], row["status"], row["reason"]) for row in rows] == [
        (0, "interleaved", ""),
        (1, "rejected", "empty-instruction"),
        (2, "failed", "malformed-record"),
    ]
    assert rows[0]["interleaved"] == "put <image> on <image>"


def test_a_grounded_shard_is_not_grounded_again(tmp_path, monkeypatch):
    job = scanned_job(tmp_path, [make_episode()])
    ground_shard(job.shards[0], job=job)
    monkeypatch.setattr(ground_module, "ground_rows", None)
    ground_shard(job.shards[0], job=job)


def test_rows_come_in_the_order_of_the_index_whatever_the_window(tmp_path, monkeypatch):
    texts = ["lift the plate", "", "take the carrot", "take the banana", "lift the plate"]
    job = scanned_job(tmp_path, [make_episode(instruction=text) for text in texts])
    whole = list(ground_rows(job.shards[0], job=job))
    assert [row.instruction for row in whole] == texts
    monkeypatch.setattr(ground_module, "WINDOW_SPANS", 2)
    assert list(ground_rows(job.shards[0], job=job)) == whole


def test_kinds_that_are_not_wanted_stay_text(tmp_path):
    job = scanned_job(tmp_path, [make_episode()], picture_kinds=("object",))
    (row,) = ground_rows(job.shards[0], job=job)
    assert row.interleaved == "put <image> on the plate"
    assert [found.reason for found in row.objects] == ["", "kind-not-pictured"]


def test_what_the_source_marks_passes_agreement_however_small(tmp_path):
    # 18 pixels of the carrot: 18 x 1, which no rule of a detector's box would let pass.
    labels = np.zeros((48, 64), np.uint8)
    labels[8, 8:26], labels[24:40, 32:56] = 1, 2
    record = make_episode(1, steps__observation__segmentation=[encode(labels, "PNG")])
    job = scanned_job(tmp_path, [record], verifier="agreement")
    (row,) = ground_rows(job.shards[0], job=job)
    assert row.interleaved == "put <image> on <image>"
    assert [(found.verdict, found.verifier) for found in row.objects] == [
        ("match", "agreement")
    ] * 2


def test_pictures_are_the_same_with_agreement_and_without(tmp_path):
    episodes = [make_episode(6, seed=n) for n in range(3)]
    images = {}
    for verifier in ("none", "agreement"):
        job = scanned_job(tmp_path / verifier, episodes, verifier=verifier)
        images[verifier] = [row.images for row in ground_rows(job.shards[0], job=job)]
    assert images["none"] == images["agreement"]


def test_rejected_objects_stay_text_and_say_how_they_were_looked_for(tmp_path, monkeypatch):
    verifier = FakeVerifier({"carrot": "mismatch"})
    monkeypatch.setattr(ground_module, "verifier_of_process", lambda *_: verifier)
    job = scanned_job(tmp_path, [make_episode(6)])
    ground_shard(job.shards[0], job=job)
    (row,) = read_table(job.layout.episodes(job.shards[0].key))
    assert row["interleaved"] == "put the carrot on <image>"
    carrot, plate = row["objects"]
    assert (carrot["grounded"], carrot["reason"]) == (False, "rejected-by-verifier")
    assert (carrot["verdict"], carrot["verifier"]) == ("mismatch", "fake")
    assert [a.frame_index for a in decode_attempts(carrot["verdicts"])] == [0, 5]
    assert carrot["frames_tried"] == '{"detect": {"observation/image": [0, 5]}}'
    assert (plate["verdict"], plate["frames_tried"]) == (
        "match", '{"detect": {"observation/image": [0]}}',
    )  # fmt: skip


def test_a_shard_of_which_nothing_can_be_used_needs_no_source(tmp_path):
    job = scanned_job(tmp_path, [b"broken"])
    (tmp_path / "data").rename(tmp_path / "gone")
    (row,) = ground_rows(job.shards[0], job=job)
    assert row.reason == "malformed-record"


def test_make_row_of_a_record_that_cannot_be_read(tmp_path):
    row = row_of(broken_span(7, "no-steps", "why"), None, None, tmp_path)
    assert (row.status, row.reason, row.message) == ("failed", "no-steps", "why")
    assert row.episode_id == "ilv_demo-train.tfrecord-00000-of-00001__7"
    assert (row.instruction, row.interleaved, row.images, row.objects) == ("", "", (), ())


def test_make_row_of_an_instruction_that_is_not_utf8(tmp_path):
    from dataclasses import replace

    indexed = replace(make_span(b"lift \xff"), reason="invalid-utf8", message="why")
    row = row_of(indexed, None, None, tmp_path)
    assert (row.status, row.instruction) == ("failed", "lift \ufffd")


def test_make_row_of_a_frame_that_does_not_decode(tmp_path):
    fault = RecordError("undecodable-image", "cut")
    row = row_of(make_span(), PARSED, Grounding({}, {}, fault), tmp_path)
    assert (row.status, row.reason, row.message) == ("failed", "undecodable-image", "cut")


def test_make_row_of_a_span_without_a_crop(tmp_path):
    row = row_of(make_span(), PARSED, Grounding({}, {0: "absent"}), tmp_path)
    assert (row.status, row.reason, row.interleaved) == ("text_only", "no-crop", "")
    assert [(o.phrase, o.grounded, o.reason) for o in row.objects] == [("carrot", False, "absent")]


def test_make_row_of_a_rejected_instruction(tmp_path):
    parsed = ParsedInstruction("go", "go", (), "rejected", "no-object-phrase", "grammar")
    row = row_of(make_span(b"go"), parsed, None, tmp_path)
    assert (row.status, row.reason) == ("rejected", "no-object-phrase")


def test_shard_frames_loads_pixels_and_objects(tmp_path):
    job = scanned_job(tmp_path, [make_episode(6, seed=3)])
    (indexed,) = read_index(job.shards[0], job=job)
    with ShardFrames(job.shards[0], job) as frames:
        frame = frames.load(indexed, indexed.probes[1])
    assert (frame.camera, frame.frame_index) == ("observation/image", 5)
    assert np.abs(frame.image.astype(int) - scene(8)).mean() < 4
    assert frame.source_objects.names == ("carrot", "plate")


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_shard_frames_turns_bgr_cameras_round(tmp_path, order):
    from dataclasses import replace

    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:, :, 0] = 200
    job = scanned_job(
        tmp_path, [make_episode(1, steps__observation__image=[encode(pixels, "PNG")])]
    )
    (camera,) = job.spec.cameras
    job = replace(job, spec=replace(job.spec, cameras=(replace(camera, channel_order=order),)))
    (indexed,) = read_index(job.shards[0], job=job)
    with ShardFrames(job.shards[0], job) as frames:
        image = frames.load(indexed, indexed.probes[0]).image
    assert image[0, 0].tolist() == ([200, 0, 0] if order == "rgb" else [0, 0, 200])


def test_a_fault_of_a_frame_names_its_camera_and_step(tmp_path):
    garbage = b"\xff\xd8\xff garbage \xff\xd9"
    job = scanned_job(tmp_path, [make_episode(1, steps__observation__image=[garbage])])
    (row,) = ground_rows(job.shards[0], job=job)
    message = "observation/image of step 0: image of 14 bytes does not decode: no marker found"
    assert row.message == message


def test_pictures_are_224_pixels_square(tmp_path):
    job = scanned_job(tmp_path, [make_episode()])
    (row,) = ground_rows(job.shards[0], job=job)
    assert [decode(image).shape for image in row.images] == [(224, 224, 3)] * 2
