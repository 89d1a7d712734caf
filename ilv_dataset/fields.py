"""The closed lists of names that appear in written files: statuses, reasons, kinds."""

STATUSES = ("interleaved", "text_only", "rejected", "failed")

REJECTED_REASONS = {
    "empty-instruction": "the instruction is empty or white space",
    "no-object-phrase": "no object noun phrase was found in the instruction",
    "placeholder-in-instruction": "the source instruction contains a literal <image>",
}
FAILED_REASONS = {
    "missing-shard": "the shard file does not exist or cannot be opened",
    "missing-record": "dataset_info.json promises this record and the shard does not hold it",
    "truncated-record": "the shard ends inside this record",
    "wrong-length-checksum": "the checksum of the record's length is wrong; the rest is unreadable",
    "wrong-checksum": "the checksum of the record's bytes is wrong",
    "absurd-length": "the length field is larger than what is left of the file",
    "malformed-record": "the record is not a tf.train.Example",
    "features-mismatch": "the record does not have the features that features.json promises",
    "undecodable-image": "a frame is cut, is neither JPEG nor PNG, or does not decode",
    "invalid-utf8": "the instruction is not UTF-8",
    "no-steps": "the episode has no steps",
}
# What may be mended by fetching the shard again; the rest is as its publisher made it.
DAMAGED_REASONS = (
    "missing-shard",
    "missing-record",
    "truncated-record",
    "wrong-length-checksum",
    "wrong-checksum",
    "absurd-length",
)
TEXT_ONLY_REASONS = {"no-crop": "object phrases, but no accepted crop"}
REASONS = {**REJECTED_REASONS, **FAILED_REASONS, **TEXT_ONLY_REASONS}

OBJECT_REASONS = {
    "kind-not-pictured": "surfaces and fixtures stay text, see --picture-kinds",
    "absent": "the detector found no box for the query in any probed frame",
    "box-too-small": "the visible object has fewer pixels than `boxes.AREA_MIN_PX`",
    "box-too-large": "the box covers more than half of the frame",
    "ambiguous": "several boxes or phrases fit, and nothing tells them apart",
    "empty-mask": "the segmenter found nothing inside the box",
}

KINDS = ("object", "container", "surface", "fixture", "tool")
PICTURED_KINDS = ("object", "container", "tool")

IMAGE_PLACEHOLDER = "<image>"
