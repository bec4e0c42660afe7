"""Threads, processes and signals."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from small_network import LABELS, make_engine

import lseg_fast

IMPORT = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import numpy as np; from small_network import *\n"


def test_two_threads_on_one_engine(engine, image):
    images = [image, image[::-1].copy()]
    expected = [engine.segment(one) for one in images]
    wrong = []

    def work(which):
        for _ in range(100):
            if not np.array_equal(engine.segment(images[which]), expected[which]):
                wrong.append(which)

    threads = [threading.Thread(target=work, args=(which,)) for which in (0, 1, 0, 1)]
    [thread.start() for thread in threads]
    [thread.join(120) for thread in threads]
    assert not any(thread.is_alive() for thread in threads), "they wait for one another"
    assert wrong == []


def test_words_change_beside_running_frames(image):
    engine = make_engine()
    stop = threading.Event()
    seen = []

    def run():
        while not stop.is_set():
            result = engine.segment(image, outputs=("mask", "scores"))
            seen.append((result.labels, result.scores.shape[0], int(result.mask.max())))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        for turn in range(20):
            engine.set_labels(["one"] if turn % 2 else LABELS)
            assert engine.size == "32x32" and engine.stats()["frames"] >= 0
    finally:
        stop.set()
        thread.join(120)
    assert not thread.is_alive() and seen
    for labels, count, largest in seen:
        assert len(labels) == count and largest < count


def test_others_run_while_a_frame_is_computed():
    engine = make_engine(threads=1)
    engine.size = "480x480"
    frame = np.zeros((480, 480, 3), np.uint8)
    engine.segment(frame)
    started = time.perf_counter()
    engine.segment(frame)
    one = time.perf_counter() - started
    counted, stop = [0], threading.Event()

    def count():
        while not stop.is_set():
            counted[0] += 1
            time.sleep(one / 50)

    thread = threading.Thread(target=count)
    thread.start()
    before = counted[0]
    engine.segment(frame)
    during = counted[0] - before
    stop.set()
    thread.join()
    assert during > 5, f"the interpreter stood still for {one:.3f} s"


def in_child(engine, image, connection):
    try:
        engine.segment(image)
        connection.send("a mask")
    except lseg_fast.Error as error:
        connection.send((type(error).__name__, str(error)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_told(engine, image):
    # One thread holds the engine while the process is forked: the child must not wait for it.
    stop = threading.Event()
    thread = threading.Thread(target=lambda: [engine.segment(image) for _ in iter(stop.is_set, True)])
    thread.start()
    try:
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        for _ in range(5):
            child = context.Process(target=in_child, args=(engine, image, theirs))
            child.start()
            assert ours.poll(60), "the child waits for a lock that nobody holds there"
            kind, message = ours.recv()
            child.join(60)
            assert kind == "DeviceError" and "spawn" in message and child.exitcode == 0
    finally:
        stop.set()
        thread.join()
    engine.segment(image)


def test_spawned_processes_have_engines_of_their_own():
    program = IMPORT + """
import multiprocessing, numpy as np
def work(_):
    return int(make_engine().segment(np.zeros((32, 32, 3), np.uint8)).sum())
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert len(set(pool.map(work, range(2)))) == 1
"""
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"lseg_spawn_{os.getpid()}.py"
    path.write_text(program)
    try:
        done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=120)
    finally:
        path.unlink()
    assert done.returncode == 0, done.stderr


def test_the_keyboard_ends_a_loop_between_frames():
    program = IMPORT + """
import signal
# Of what is started in the background, shells have it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
engine, frame = make_engine(), np.zeros((32, 32, 3), np.uint8)
engine.segment(frame)
try:
    print("running", flush=True)
    while True:
        engine.segment(frame)
except KeyboardInterrupt:
    engine.segment(frame)
    print("interrupted", flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "running\n"
    child.send_signal(signal.SIGINT)
    try:
        assert child.communicate(timeout=60)[0] == "interrupted\n" and child.returncode == 0
    finally:
        child.kill()


def test_importing_takes_little_time():
    program = "import time; a = time.perf_counter(); import lseg_fast; print(time.perf_counter() - a)"
    times = [float(subprocess.check_output([sys.executable, "-c", program])) for _ in range(5)]
    print(f"import lseg_fast: {1000 * min(times):.1f} ms")
    assert min(times) <= 0.05
    loaded = subprocess.check_output([sys.executable, "-c", "import lseg_fast, sys; print('numpy' in sys.modules)"])
    assert loaded.strip() == b"False", "NumPy is imported when it is needed"
