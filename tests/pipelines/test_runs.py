import signal
import threading
import time

import apache_beam as beam
import pytest
from killing import hearing_ctrl_c

from ilv_dataset.errors import ConfigError, StorageError
from ilv_dataset.pipelines import runs
from ilv_dataset.pipelines.runs import run_graph

OURS = "Traceback (most recent call last):\n  File x\nilv_dataset.errors.StorageError: a: disk full"
BUG = "\n\nDuring handling of it:\n\nTraceback (most recent call last):\n  File y\nTypeError: x"


def fail(element):
    raise StorageError(f"{element}: disk full")


def reported(text):
    """A graph that fails as one does whose workers are processes of their own."""

    def build(_):
        raise RuntimeError(text)

    return build


def test_an_error_of_a_worker_comes_back_as_it_was():
    with pytest.raises(StorageError, match=r"^a: disk full$"):
        run_graph(lambda root: root | beam.Create(["a"]) | beam.Map(fail), ())


@pytest.mark.parametrize("place", ["", " [while running 'GroundObjects/GroundShard']", "\n\nmore"])
def test_an_error_of_a_worker_process_comes_back_as_it_was(place):
    with pytest.raises(StorageError, match=r"^a: disk full$"):
        run_graph(reported(OURS + place), ())


def test_the_last_of_chained_errors_counts():
    last = "\n\nThe above:\n\nTraceback (most recent call last):\nilv_dataset.errors.ConfigError: b"
    with pytest.raises(ConfigError, match=r"^b$"):
        run_graph(reported(OURS + last), ())


def test_a_bug_traces_even_where_an_error_of_ours_led_to_it():
    with pytest.raises(RuntimeError, match="TypeError: x"):
        run_graph(reported(OURS + BUG), ())
    with pytest.raises(ZeroDivisionError):
        run_graph(lambda root: root | beam.Create([0]) | beam.Map(lambda x: 1 / x), ())


def test_ctrl_c_ends_a_run_where_the_kernel_tells_another_thread(monkeypatch):
    """Python acts on a signal in the main thread alone, which nobody wakes then."""
    monkeypatch.setattr(runs, "_left_behind", [])
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    over, waited = threading.Event(), []

    def build(_):
        time.sleep(0.3)  # by now the main thread waits
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        waited.append(over.wait(20))
        raise StorageError("nobody hears of it")

    with hearing_ctrl_c():
        with pytest.raises(KeyboardInterrupt):
            run_graph(build, ())
        assert waited == []
    over.set()
