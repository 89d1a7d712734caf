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
    "empty-mask": "the segmenter found nothing inside the box or at the key point",
    "rejected-by-verifier": "the verifier says of every crop that it shows something else",
    "unsure": "the verifier is sure of no crop, and not sure that all of them are wrong",
}

# Only a match makes a picture. Source: the paper, where only a yes counts.
VERDICTS = {
    "match": "the crop shows what the phrase says",
    "mismatch": "it shows something else",
    "unsure": "it cannot be told",
}
UNVERIFIED = "unverified"  # the verdict of a picture that no verifier has seen
METHODS = ("detect", "repair")

# What `ilv eval crops` says of one phrase in one frame.
CROP_OUTCOMES = {
    "right": "the crop fits the named object's box, and no other object's better",
    "wrong": "the named object is there, and the crop shows something else",
    "missed": "the named object is there, and there is no crop",
    "absent-cropped": "nothing of that name is there, and there is a crop",
    "absent-left": "nothing of that name is there, and there is no crop",
}

# Why an instruction's phrases are the grammar's, though a model was asked twice.
REPLY_FAULTS = {
    "not-json": "the reply holds no item",
    "empty-reply": "the reply is empty",
    "refused": "the model refuses to answer",
    "reply-too-large": "the reply is larger than any honest one",
    "missing-item": "the reply lacks the item, or has it twice",
    "malformed-item": "the item is not as the schema wants it",
    "phrase-not-in-text": "a phrase is not in the instruction",
    "overlapping-phrases": "phrases overlap, or one is named more often than it occurs",
    "no-objects": "no object, though the grammar finds one; accepted when asked alone",
    "unrelated-query": "a query shares no word with its phrase; accepted when asked alone",
    "bad-request": "the server refuses this request",
    "server-error": "the server fails on this request",
    "timed-out": "no reply in time, though the server answers others",
}

KINDS = ("object", "container", "surface", "fixture", "tool")
PICTURED_KINDS = ("object", "container", "tool")

# How the RLDS output is laid out: the source's features and ours beside the steps, or what the
# trainers of Interleave-VLA read.
ILV_LAYOUT, INTERLEAVE_VLA_LAYOUT = LAYOUTS = ("ilv", "interleave-vla")

IMAGE_PLACEHOLDER = "<image>"

# The proof's tests, and the ways in which a policy is told what to do.
PROOF_TESTS = ("known", "pairs", "nouns", "surroundings")
PROOF_PROMPTS = ("text", "colours", "own", "bank", "outside", "sketch", "images")
