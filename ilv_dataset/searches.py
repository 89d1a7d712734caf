"""One span's search for its objects: what is still missing, what was found, what was tried.

How things are found is in `grounding` and `repair`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from ilv_dataset.attempts import Attempt, Look, encode_attempts, encode_looks
from ilv_dataset.batches import batched
from ilv_dataset.episodes import IndexedSpan, Probe
from ilv_dataset.errors import RecordError
from ilv_dataset.fields import UNVERIFIED
from ilv_dataset.formats.tables import GroundedObject
from ilv_dataset.records import Frame, Phrase, Sighting

WINDOW_SPANS = 128  # searched together; Source: ours, 8 batches, so that few are part-filled
BATCH_FRAMES = 16  # Source: ours; a YOLO at 640 px takes 16 frames in 2 GB, more gains little
DECODE_THREADS = 2  # ahead of the model; image decoders release the interpreter's lock
# Detected crops of one phrase that are shown to a verifier; each may be a request that is paid
# for. Source: ours; a detector that was wrong so often will not be right, and a repair comes next.
CANDIDATES_MAX = 5
# Frames in which a clearer view is looked for of what has one. Source: ours; each costs as much as
# the first, and with a model for a verifier a request.
BETTER_LOOKS_MAX = 2
NO_VERIFIER = "none"

LoadFrame = Callable[[IndexedSpan, Probe], Frame]


@dataclass(frozen=True, slots=True)
class Crop:
    """The picture of one phrase and where it was cut."""

    jpeg: bytes
    grounded: GroundedObject
    clarity: float  # clarity.measure_clarity
    is_clear: bool  # no other frame is looked at for a better view


@dataclass(frozen=True, slots=True)
class Trail:
    """The columns that say how a phrase was looked for."""

    verdict: str | None = None
    verifier: str | None = None
    verdicts: str | None = None  # attempts.encode_attempts
    frames_tried: str | None = None  # attempts.encode_looks


@dataclass(frozen=True, slots=True)
class Grounding:
    """What the search found for one span: per phrase a crop, or why there is none."""

    crops: dict[int, Crop]  # by the phrase's position in the instruction
    reasons: dict[int, str]  # likewise, fields.OBJECT_REASONS
    fault: RecordError | None = None  # a probed frame that does not decode
    trails: dict[int, Trail] = field(default_factory=dict)  # of the phrases that were looked for


@dataclass(slots=True)
class Search:
    """The state of one span's search; its dictionaries are by query."""

    indexed: IndexedSpan
    phrases: tuple[Phrase, ...]  # pictured, distinct queries
    crops: dict[str, Crop] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    attempts: dict[str, list[Attempt]] = field(default_factory=dict)
    sightings: dict[str, list[Sighting]] = field(default_factory=dict)  # that were no match
    looks: dict[str, list[Look]] = field(default_factory=dict)
    num_better: dict[str, int] = field(default_factory=dict)  # looks for a clearer view
    fault: RecordError | None = None

    @property
    def missing(self) -> list[Phrase]:
        """Phrases without a crop."""
        return [phrase for phrase in self.phrases if phrase.query not in self.crops]

    @property
    def is_open(self) -> bool:
        """Whether another frame is worth a look of the detector."""
        return self.fault is None and any(self.wants(phrase) for phrase in self.phrases)

    def wants(self, phrase: Phrase) -> bool:
        """Whether another crop of the detector may still become the phrase's picture."""
        crop = self.crops.get(phrase.query)
        if crop is not None:
            return not crop.is_clear and self.num_better.get(phrase.query, 0) < BETTER_LOOKS_MAX
        return len(self.attempts.get(phrase.query, ())) < CANDIDATES_MAX

    def keep(self, query: str, crop: Crop) -> None:
        """Makes an accepted crop the picture of its phrase, unless a clearer one is."""
        if query not in self.crops or crop.clarity > self.crops[query].clarity:
            self.crops[query] = crop

    def note_look(self, phrase: Phrase, method: str, frame: Frame) -> None:
        """Keeps that a frame was looked at."""
        look = Look(method, frame.camera, frame.frame_index)
        self.looks.setdefault(phrase.query, []).append(look)
        if phrase.query in self.crops:
            self.num_better[phrase.query] = self.num_better.get(phrase.query, 0) + 1

    def note_reason(self, phrase: Phrase, reason: str) -> None:
        """Keeps the first reason that says more than that nothing was seen."""
        if self.reasons.get(phrase.query, "absent") == "absent":
            self.reasons[phrase.query] = reason

    def reason(self, phrase: Phrase) -> str:
        """Why a phrase has no crop; what a verifier said of crops goes before all else."""
        verdict = self._verdict(phrase.query)
        if verdict is not None:
            return "unsure" if verdict == "unsure" else "rejected-by-verifier"
        return self.reasons.get(phrase.query, "absent")

    def trail(self, phrase: Phrase, verifier: str) -> Trail:
        """How a phrase was looked for, by a run with this verifier."""
        query = phrase.query
        frames = encode_looks(self.looks[query]) if query in self.looks else None
        if query in self.crops and query not in self.attempts:
            return Trail(UNVERIFIED, NO_VERIFIER, None, frames)
        if query not in self.attempts:
            return Trail(frames_tried=frames)
        verdict, attempts = self._verdict(query), encode_attempts(self.attempts[query])
        return Trail(verdict, verifier, attempts, frames)

    def _verdict(self, query: str) -> str | None:
        """The best that was said of any crop; None where there was none."""
        values = {attempt.verdict for attempt in self.attempts.get(query, ())}
        return next((v for v in ("match", "unsure", "mismatch") if v in values), None)


def load_batches(
    waiting: Sequence[tuple[Search, Probe]], load_frame: LoadFrame
) -> Iterator[tuple[list[Search], list[Frame]]]:
    """Decodes batches of frames in threads, one batch ahead; a frame that fails ends its span.

    A batch of which no frame decodes is left out.
    """
    with ThreadPoolExecutor(DECODE_THREADS) as pool:
        ahead: deque[list[tuple[Search, Future[Frame]]]] = deque()
        for batch in batched(waiting, BATCH_FRAMES):
            ahead.append([(s, pool.submit(load_frame, s.indexed, probe)) for s, probe in batch])
            if len(ahead) > 1:
                yield from _loaded(ahead.popleft())
        while ahead:
            yield from _loaded(ahead.popleft())


def make_grounding(
    search: Search, phrases: Sequence[Phrase], picture_kinds: Sequence[str], *, verifier: str
) -> Grounding:
    """The outcome of a search for each phrase of the instruction."""
    crops, reasons, trails = {}, {}, {}
    for position, phrase in enumerate(phrases):
        if phrase.kind not in picture_kinds:
            reasons[position] = "kind-not-pictured"
            continue
        trail = trails[position] = search.trail(phrase, verifier)
        if phrase.query in search.crops:
            crop = search.crops[phrase.query]
            crops[position] = replace(crop, grounded=add_trail(crop.grounded, trail))
        else:
            reasons[position] = search.reason(phrase)
    return Grounding(crops, reasons, search.fault, trails)


def add_trail(found: GroundedObject, trail: Trail) -> GroundedObject:
    """The object with the columns that say how it was looked for."""
    return replace(
        found,
        verdict=trail.verdict,
        verifier=trail.verifier,
        verdicts=trail.verdicts,
        frames_tried=trail.frames_tried,
    )


def distinct_phrases(phrases: Sequence[Phrase], picture_kinds: Sequence[str]) -> tuple[Phrase, ...]:
    """The pictured phrases, one a query."""
    pictured = (phrase for phrase in phrases if phrase.kind in picture_kinds)
    by_query: Mapping[str, Phrase] = {phrase.query: phrase for phrase in pictured}
    return tuple(by_query.values())


def _loaded(
    batch: Sequence[tuple[Search, Future[Frame]]],
) -> Iterator[tuple[list[Search], list[Frame]]]:
    searches, frames = [], []
    for search, future in batch:
        try:
            frames.append(future.result())
            searches.append(search)
        except RecordError as error:
            search.fault = error
    if frames:
        yield searches, frames
