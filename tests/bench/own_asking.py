"""Asks a fake endpoint about made-up instructions, in a process of its own.

    python tests/bench/own_asking.py NUM_INSTRUCTIONS CONCURRENCY LATENCY_S

Prints one JSON object: seconds, requests, and the peak memory in MB before and after.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import openai.resources.chat  # noqa: F401, as in a warm process
import timing

from ilv_dataset.extraction.extractor import LlmExtractor
from ilv_dataset.llm_options import LlmOptions

SERVER = Path(__file__).parents[1] / "fake_openai.py"


def main(num: int, concurrency: int, latency_s: float) -> dict[str, float]:
    """Asks about `num` instructions that are all different."""
    command = [sys.executable, str(SERVER), "--latency-ms", str(1000 * latency_s)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        assert server.stdout is not None
        options = LlmOptions(base_url=server.stdout.readline().strip(), concurrency=concurrency)
        # It prints a line a request, and would stop when nobody reads them.
        threading.Thread(target=list, args=(server.stdout,), daemon=True).start()
        extractor = LlmExtractor("fake-model", options, out=folder)
        texts = [f"put the red cup number {number} on the tray" for number in range(num)]
        memory_mb, begun = timing.peak_memory_mb(), time.perf_counter()
        extractor.ask(texts)
        seconds = time.perf_counter() - begun
        server.kill()
    return {
        "seconds": seconds,
        "requests": extractor.usage.requests,
        "memory_before_mb": memory_mb,
        "memory_mb": timing.peak_memory_mb(),
    }


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))))
