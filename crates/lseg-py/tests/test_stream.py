"""Streams: threads that push, take and change words; counters; frames that fail; the keyboard."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from small_network import LABELS, NETWORK, make_engine

import lseg_fast

IMPORT = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import numpy as np; from small_network import *\n"
LISTS = [LABELS, ["sea", "a cat"]]
NAMES = ("mask", "mask8", "confidence", "best", "scores", "probabilities", "overlay")


def balanced(stats):
    ends = ("done", "replaced", "stale", "failed", "in_flight")
    assert stats["pushed"] == sum(stats[name] for name in ends)
    return stats


def start(target):
    thread = threading.Thread(target=target)
    thread.start()
    return thread


def join(*threads):
    [thread.join(120) for thread in threads]
    assert not any(thread.is_alive() for thread in threads), "they wait for one another"


@pytest.fixture(scope="module")
def images(image):
    return [image, image[::-1].copy(), image[:, ::-1].copy()]


@pytest.fixture(scope="module")
def expected(images):
    engine, masks = make_engine(), {}
    for labels in LISTS:
        engine.set_labels(labels)
        for which, image in enumerate(images):
            masks[tuple(labels), which] = engine.segment(image)
    return masks


def test_threads_push_take_and_change_words(images, expected):
    stream = make_engine().stream(policy="every", queue=3)
    frames, failures, seen = 150, [], set()

    def push():
        try:
            for frame in range(frames):
                while (number := stream.push(images[frame % 3], frame)) is None:
                    time.sleep(0.0005)
                assert number == frame
        except BaseException as error:
            failures.append(error)
        stream.close()

    def change():
        try:
            while not stream.over:
                epoch = stream.epoch
                assert stream.set_labels(LISTS[epoch % 2]) == epoch + 1
                with pytest.raises(lseg_fast.InputError):
                    stream.set_labels([])
                time.sleep(0.001)
        except BaseException as error:
            failures.append(error)

    threads = [start(push), start(change)]
    for number, answer in enumerate(stream):
        labels = LISTS[(answer.epoch - 1) % 2]
        seen.add(answer.epoch % 2)
        assert (answer.sequence, answer.stamp_ns, answer.labels, answer.error) == (number, number, labels, None)
        assert np.array_equal(answer.mask, expected[tuple(labels), number % 3])
        assert answer.age == pytest.approx(answer.waited + answer.computed) and answer.computed > 0
        assert answer.scores is None and answer.points is None
    join(*threads)
    assert failures == [] and number == frames - 1 and seen == {0, 1}
    stats = balanced(stream.stop())
    assert (stats["pushed"], stats["done"], stats["unread"], stats["in_flight"]) == (frames, frames, 0, 0)
    assert 0 < stats["computed_p50"] <= stats["computed_p99"] <= stats["age_max"]
    assert 0 < stats["age_p50"] <= stats["age_p99"] <= stats["age_max"] and stats["jitter_p50"] <= stats["jitter_p99"]
    with pytest.raises(lseg_fast.BusyError, match="the stream is closed"):
        stream.push(images[0])


def test_the_newest_frame_wins(images):
    with make_engine().stream() as stream:
        for frame in range(300):
            assert stream.push(images[frame % 3], frame) == frame
        stream.close()
        answers = list(stream)
        assert answers[-1].sequence == 299 and stream.over
        assert [answer.sequence for answer in answers] == sorted(answer.sequence for answer in answers)
        stats = balanced(stream.stats())
        assert stats["done"] + stats["replaced"] == 300 and stats["done"] == len(answers) + stats["unread"]
        assert stream.recv() is None and stream.poll() is None


def test_all_outputs_are_those_of_segment(images):
    engine = make_engine()
    points = [(3, 4.5), (59, 45)]
    stream = engine.stream(policy="every", outputs=NAMES, points=points, threshold=0.4)
    # What is set in the engine later is not the stream's.
    engine.size = "64x64"
    for epoch, labels in enumerate(LISTS, 1):
        if epoch == 2:
            assert stream.set_labels(labels) == 2
        other = make_engine()
        other.set_labels(labels)
        result = other.segment(images[0], outputs=NAMES, threshold=0.4)
        stream.push(images[0])
        answer = stream.recv(60)
        assert answer.labels == result.labels == labels
        for name in NAMES:
            found, right = getattr(answer, name), getattr(result, name)
            assert found.dtype == right.dtype and np.array_equal(found, right), name
        assert np.array_equal(answer.points, other.embed_at(images[0], points))
    assert "epoch=2" in repr(answer) and "cpu" in repr(stream)


def test_formats_and_strides(images):
    engine = make_engine()
    frames = [
        (images[0], "bgr8"),
        (images[0][:, :, ::-1], None),
        (images[0].transpose(2, 0, 1), None),
        (np.ascontiguousarray(images[0][:, :, 0]), None),
        (np.zeros((72, 60), np.uint8), "nv12"),
        (images[0].astype(np.float32).transpose(2, 0, 1) / 255, None),
    ]
    with engine.stream(policy="every", queue=1) as stream:
        for image, format in frames:
            assert stream.push(image, format=format) is not None
            assert np.array_equal(stream.recv(60).mask, engine.segment(image, format=format))


def test_answers_that_are_kept_stay_and_hold_nobody_up(images, expected):
    with make_engine().stream(policy="every", pool=1, queue=1) as stream:
        kept = []
        for frame in range(40):
            assert stream.push(images[frame % 3]) == frame
            kept.append(stream.recv(60).mask)
        for frame, mask in enumerate(kept):
            assert np.array_equal(mask, expected[tuple(LABELS), frame % 3])
        kept[0][:] = 7  # They are the caller's own.


def test_templates_are_the_engines(images):
    engine, templates = make_engine(), ["a drawing of a {}", "{} in the rain"]
    engine.set_labels(LABELS, templates)
    with engine.stream(outputs="scores") as stream:
        for labels in (LABELS, LISTS[1]):
            stream.set_labels(labels)
            engine.set_labels(labels, templates)
            stream.push(images[0])
            assert np.array_equal(stream.recv(60).scores, engine.segment(images[0], outputs="scores"))


def test_a_frame_that_fails_says_why_and_the_next_one_runs(images):
    engine = lseg_fast.Engine(NETWORK, "cpu", threads=1)
    engine.size = "32x32"
    with engine.stream(policy="every") as stream:
        assert stream.epoch == 0
        stream.push(images[0])
        answer = stream.recv(60)
        assert isinstance(answer.error, lseg_fast.InputError) and "set_labels" in str(answer.error)
        assert answer.labels == [] and answer.epoch == 0 and "failed" in repr(answer)
        for name in (*NAMES, "points"):
            with pytest.raises(lseg_fast.InputError, match="no labels are set"):
                getattr(answer, name)
        assert stream.set_labels(LABELS) == 1
        stream.push(images[0])
        assert stream.recv(60).mask.max() < len(LABELS)
        stats = balanced(stream.stats())
        assert (stats["failed"], stats["done"]) == (1, 1)


def test_what_is_no_frame_is_refused(images):
    class InCuda:
        __cuda_array_interface__ = {"shape": (4, 4, 3), "typestr": "|u1", "data": (4096, False), "version": 3}

    class InCudaByDLPack:
        def __dlpack_device__(self):
            return (2, 0)

        def __dlpack__(self, **keywords):
            raise AssertionError("it is not asked for")

    with make_engine().stream() as stream:
        for image in (InCuda(), InCudaByDLPack()):
            with pytest.raises(lseg_fast.InputError, match="copy it there first"):
                stream.push(image)
        for image, what in [(np.zeros((2, 4, 4, 3), np.uint8), "2 images"), (np.zeros((0, 4, 3), np.uint8), "no pixels"), ("photo", "str")]:
            with pytest.raises(lseg_fast.InputError, match=what):
                stream.push(image)
        with pytest.raises(lseg_fast.InputError, match="seconds"):
            stream.recv(-1)
        assert balanced(stream.stats())["pushed"] == 0


def test_options():
    engine = make_engine()
    wrong = [
        ({"policy": "all"}, "newest or every"),
        ({"wait": "sleep"}, "block, yield or spin"),
        ({"outputs": ()}, "no outputs"),
        ({"outputs": "masks"}, "masks"),
        ({"realtime": 100}, "1 to 99"),
        ({"realtime": 0}, "1 to 99"),
        ({"stale_after": -1}, "seconds"),
        ({"stale_after": float("nan")}, "seconds"),
        ({"threshold": 2}, "within 0 and 1"),
        ({"points": [1, 2, 3]}, "points"),
    ]
    for keywords, what in wrong:
        with pytest.raises(lseg_fast.InputError, match=what):
            engine.stream(**keywords)
    with pytest.raises(lseg_fast.DeviceError, match="results stay on a GPU alone"):
        engine.stream(on_device=True)
    with engine.stream(wait="spin", cpus=[0], stale_after=60, pool=1) as stream:
        assert stream.notes == []
        stream.push(np.zeros((8, 8, 3), np.uint8))
        assert stream.recv(60).mask.shape == (8, 8)
    with engine.stream(cpus=[1023]) as stream:
        assert len(stream.notes) == 1 and "[1023]" in stream.notes[0]


def test_two_streams_of_one_engine(images, expected):
    engine = make_engine()
    streams = [engine.stream(policy="every", queue=2), engine.stream(policy="every", queue=2)]
    streams[1].set_labels(LISTS[1])
    wrong = []

    def run(which):
        for frame in range(60):
            streams[which].push(images[frame % 3])
            if not np.array_equal(streams[which].recv(60).mask, expected[tuple(LISTS[which]), frame % 3]):
                wrong.append((which, frame))

    join(*[start(lambda which=which: run(which)) for which in (0, 1)])
    assert wrong == [] and engine.labels == LABELS
    del engine
    streams[0].push(images[0])
    assert streams[0].recv(60).error is None


def test_waiting_leaves_the_interpreter_free():
    with make_engine().stream() as stream:
        counted, stop = [0], threading.Event()

        def count():
            while not stop.is_set():
                counted[0] += 1
                time.sleep(0.001)

        thread = start(count)
        begin = time.perf_counter()
        assert stream.recv(0.3) is None
        waited, during = time.perf_counter() - begin, counted[0]
        stop.set()
        join(thread)
        assert 0.3 <= waited < 5 and during > 30
        assert stream.recv(0) is None


def test_who_waits_hears_that_it_is_over(images):
    stream = make_engine().stream()
    answers = []
    thread = start(lambda: answers.append(stream.recv()))
    time.sleep(0.05)
    stream.stop()
    join(thread)
    assert answers == [None] and stream.over and list(stream) == []


def test_leaving_the_block_stops_it_and_keeps_the_error(images):
    with pytest.raises(ZeroDivisionError):
        with make_engine().stream() as stream:
            stream.push(images[0])
            _ = 1 / 0
    with pytest.raises(lseg_fast.BusyError):
        stream.push(images[0])
    assert balanced(stream.stats())["in_flight"] == 0


@pytest.mark.parametrize("wait", ["stream.recv()", "next(stream)", "list(stream)", "stream.recv(1e9)"])
def test_the_keyboard_ends_a_wait(wait):
    program = IMPORT + f"""
import signal
# Of what is started in the background, shells have it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
with make_engine().stream() as stream:
    try:
        print("waiting", flush=True)
        {wait}
    except KeyboardInterrupt:
        stream.push(np.zeros((32, 32, 3), np.uint8))
        stream.recv(60).mask
        print("interrupted", flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "waiting\n"
        time.sleep(0.1)
        begin = time.perf_counter()
        child.send_signal(signal.SIGINT)
        assert child.communicate(timeout=60)[0] == "interrupted\n" and child.returncode == 0
        assert time.perf_counter() - begin < 30
    finally:
        child.kill()


def test_a_program_may_end_while_frames_run():
    program = IMPORT + """
stream = make_engine().stream(policy="every")
while stream.push(np.zeros((64, 64, 3), np.uint8)) is not None:
    pass
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no fork here")
def test_a_forked_child_is_told():
    program = IMPORT + """
import os, warnings
warnings.simplefilter("ignore")
stream = make_engine().stream()
child = os.fork()
if child == 0:
    try:
        stream.push(np.zeros((32, 32, 3), np.uint8))
    except lseg_fast.DeviceError as error:
        assert "spawn" in str(error)
        del stream  # There is no thread to wait for.
        os._exit(3)
stream.push(np.zeros((32, 32, 3), np.uint8))
assert stream.recv(60).error is None
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_what_a_stream_costs_over_a_call(image):
    """Printed; the bound is wide, for machines with other work."""
    engine, room = make_engine(), np.empty(image.shape[:2], np.uint16)
    stream = engine.stream()
    calls, streamed = [], []
    for _ in range(300):
        begin = time.perf_counter()
        engine.segment(image, out=room)
        middle = time.perf_counter()
        stream.push(image)
        stream.recv(60)
        calls.append(middle - begin)
        streamed.append(time.perf_counter() - middle)
    p50 = [1e3 * float(np.median(times[20:])) for times in (calls, streamed)]
    print(f"segment(out=) p50 {p50[0]:.3f} ms, push and recv p50 {p50[1]:.3f} ms")
    assert p50[1] - p50[0] < 20
