"""Frames: every contender, between two pieces of host memory."""

import json
import statistics
import time
from functools import partial

from .attention import choose_attention
from .network import define_network
from .reference import exact_float32
from .words import note, reason

WHO = ("eager", "graph", "compile", "compile-max")
WHAT = ("mask", "embed")
MODES = {"compile": "default", "compile-max": "max-autotune-no-cudagraphs"}
# published: operations in the published order.
# rewritten: equal but for rounding: patches, 1×1 and transposed convolutions as products; the class token's part of a readout
#            once, not at every patch; `out_conv` before the upsampling.
# folded: moreover head1 and the last out_conv are one matrix before the upsampling; for masks its triangular factor, which
#         gives the same lengths in fewer channels, with the labels' products beside it. This is lseg-fast's own algebra.
FORMS = ("folded", "rewritten", "published")


class Frame:
    """`network` (uint8 [H, W, 3] on the device → mask or embeddings) between two pieces of host memory."""

    def __init__(self, network, photo, what, device, captured):
        import numpy as np
        import torch

        self.network, self.photo, self.what, self.device, self.graph = network, photo, what, device, None
        gpu = device == "cuda"
        self.staged = torch.empty(photo.shape, dtype=torch.uint8, pin_memory=gpu)
        self.on_device = torch.zeros(photo.shape, dtype=torch.uint8, device=device)
        self.brought = torch.empty(photo.shape[:2], dtype=torch.uint8, pin_memory=gpu)
        self.mask = np.empty(photo.shape[:2], np.uint8)
        self.staged_array, self.brought_array = self.staged.numpy(), self.brought.numpy()
        np.copyto(self.staged_array, photo)  # the first calls, which search algorithms, see a photo
        if gpu:
            self.begin, self.end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        if captured:
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(3):  # compilation, cuDNN's search and cuBLAS's workspace come before
                    self.work()
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.result = self.work()
            self.graph = graph

    def work(self):
        self.on_device.copy_(self.staged, non_blocking=True)
        result = self.network(self.on_device)
        if self.what == "mask":
            self.brought.copy_(result, non_blocking=True)
        return result

    def run(self):
        """One frame: milliseconds by the GPU's clock (None without one) and by the host's."""
        import numpy as np
        import torch

        gpu = self.device == "cuda"
        start = time.perf_counter()
        np.copyto(self.staged_array, self.photo)
        if gpu:
            self.begin.record()
        if self.graph is None:
            self.result = self.work()
        else:
            self.graph.replay()
        if gpu:
            self.end.record()
            torch.cuda.synchronize()
        if self.what == "mask":
            np.copyto(self.mask, self.brought_array)
        host = 1e3 * (time.perf_counter() - start)
        return (self.begin.elapsed_time(self.end) if gpu else None), host

    def spoil(self):
        """Puts wrong values where results go: what is right afterwards has been computed since."""
        self.brought.fill_(255)
        self.mask.fill(255)
        if self.graph is not None:
            self.result.fill_(0)

    def warm(self, seconds):
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            self.run()

    def trial(self):
        """Median milliseconds of a few frames, by the GPU's clock where there is one; a rehearsal on the CPU is brief."""
        gpu = self.device == "cuda"
        self.warm(0.25 if gpu else 0.01)
        times = [self.run() for _ in range(20 if gpu else 3)]
        return statistics.median(host if gpu is None else gpu for gpu, host in times)


class Contenders:
    """Every WHO and WHAT, made when first asked for."""

    def __init__(self, reference, case, text, photo, device, cache):
        import torch

        self.reference, self.case, self.text, self.photo, self.device, self.cache = reference, case, text, photo, device, cache
        self.networks, self.frames, self.classes = {}, {}, define_network()
        torch.backends.cudnn.benchmark = True
        exact_float32()  # in `warm` as in `serve`: these switches are in the compile cache's key
        self.attention = choose_attention(case, device, cache)

    def network(self, form, compiled):
        """cuDNN's convolution with bias and ReLU in one is for op-by-op networks; Inductor fuses for itself."""
        key = (form, compiled)
        if key not in self.networks:
            import torch

            make = partial(self.classes, self.reference, self.text, self.case["size"], form, torch.half)
            self.networks[key] = make(self.device == "cuda" and not compiled)
            if self.networks[key].fused_convs:
                try:
                    self.networks[key].mask(torch.from_numpy(self.photo).to(self.device))
                except (RuntimeError, AttributeError) as error:
                    note(f"no fused convolutions: {reason(error)}")
                    self.networks[key].fused_convs = False
        return self.networks[key]

    def frame(self, who, what, form):
        import torch

        work = getattr(self.network(form, who in MODES), what)
        if who in MODES:
            mode = MODES[who]
            work = torch.compile(work, fullgraph=True, dynamic=False, mode=None if mode == "default" else mode)
        return Frame(work, self.photo, what, self.device, self.device == "cuda" and who != "eager")

    def forms(self, who, what):
        """The forms to try; for compiled ones the fastest that `warm` has seen. Raises Absent."""
        if who not in MODES:
            return FORMS
        ready = ready_forms(self.cache, who, what)
        if ready:
            return (min(ready, key=ready.get),)
        if who == "compile-max":
            raise Absent("no max-autotune that `warm` had finished")
        if self.cache:
            raise Absent("`warm` has not finished it yet")
        return FORMS[:1]

    def get(self, who, what):
        """A dict: the frame, its form, the forms' times, seconds of the setup."""
        if who not in WHO or what not in WHAT:
            raise Absent(f"WHO is one of {', '.join(WHO)}, WHAT one of {', '.join(WHAT)}")
        if who == "graph" and self.device != "cuda":
            raise Absent("no CUDA")
        if (who, what) not in self.frames:
            start = time.perf_counter()
            made = {form: self.frame(who, what, form) for form in self.forms(who, what)}
            trials = {form: frame.trial() for form, frame in made.items()}
            form = min(trials, key=trials.get)
            times = ready_forms(self.cache, who, what) | trials if who in MODES else trials
            self.frames[who, what] = {
                "frame": made[form], "form": form, "forms_ms": {f: round(ms, 4) for f, ms in times.items()},
                "setup_s": round(time.perf_counter() - start, 2),
            }  # fmt: skip
            note(f"{who} {what}: {self.frames[who, what]['setup_s']} s, {times}", cache_use() if who in MODES else "")
        return self.frames[who, what]


class Absent(Exception):
    """A contender that cannot be measured, and why."""


def ready_forms(cache, who, what):
    """What `warm` has compiled: milliseconds of each form."""
    file = cache / "ready.json" if cache else None
    if not file or not file.exists():
        return {}
    return json.loads(file.read_text()).get(f"{who}/{what}", {})


def cache_use():
    from torch._dynamo.utils import counters

    return {name: counters["inductor"][f"fxgraph_cache_{name}"] for name in ("hit", "miss", "bypass")}
