"""PyTorch's side of the race on a GPU: network, weights, photo and labels of `lseg-fast bench frame`, in half precision.

    torch_lseg.py prepare --dir D [--small] [--bin lseg-fast]   model.ckpt, photo.ppm, labels.txt: seeded, no network needed
    torch_lseg.py warm --dir D --compile-cache C                compiles in the background beforehand, for serve
    torch_lseg.py serve --dir D --text T.npy --compile-cache C  measures rounds at the driver's word
    torch_lseg.py agree --dir D --text T.npy --scores S.npy     lseg-fast's scores against PyTorch's in float32; exit code 1
    torch_lseg.py rates                                         microseconds of single operations of cuDNN and PyTorch

T.npy is what `lseg-fast text` writes, S.npy what `lseg-fast run --save scores --size native` writes. On stdout JSON alone, one
object a line; progress on stderr. A command that fails ends with {"ok": false, "why": why} and exit code 1; without PyTorch it
is {"absent": why} and 3.

`serve` prints {"ready": true, ...}, then answers every line `round WHO WHAT WARM_SECONDS FRAMES` of stdin with one line until
stdin ends. A frame is: RGB bytes in the caller's memory → pinned memory → GPU → normalise → network → scores at the photo's
size → argmax → u8 mask → pinned memory → the caller's memory (WHAT = mask), or to the embeddings at half the photo's size, left
on the GPU (WHAT = embed). WHO is

    eager        op by op
    graph        the same, captured once in a CUDA graph with both copies
    compile      torch.compile, captured likewise
    compile-max  torch.compile's max-autotune, captured likewise; only where `warm` has finished it

What makes it fast, beyond float16, NHWC and scaled_dot_product_attention: batch norm folded into the convolutions, cuDNN's
algorithm search, the faster of the attention backends, and three forms of the network (FORMS), of which the fastest is taken
for each WHO and WHAT by trial. Every answer names its form and the times of the others.
"""

import argparse
import contextlib
import gc
import json
import os
import sys
import time
import traceback
from functools import partial
from pathlib import Path

from race.attention import attention, launch_us
from race.case import prepare, read_case, read_photo
from race.frames import WHAT, WHO, Absent, Contenders, cache_use, ready_forms
from race.network import define_network
from race.reference import load_reference, reference_outputs
from race.words import note, quantiles, reason, timed, whole

from full_size_case import FLOAT16  # found by race

# What `warm` compiles, in this order, as long as its time lasts.
WARM = [("compile", "mask", "folded"), ("compile", "embed", "folded"), ("compile", "mask", "published"),
        ("compile-max", "mask", "folded"), ("compile-max", "embed", "folded"), ("compile", "embed", "published"),
        ("compile", "mask", "rewritten"), ("compile", "embed", "rewritten")]  # fmt: skip


def serve(args, say):
    import numpy as np
    import torch

    start = time.perf_counter()
    case, photo = read_case(args), read_photo(args.dir)
    text = torch.from_numpy(np.load(args.text)).float()
    with torch.inference_mode():
        with timed("weights"):
            reference = load_reference(args.dir, case["config"], args.device)
        with timed("scores in float32"):
            embedding, scores = reference_outputs(reference, photo, text, args.device)
            right = {"mask": scores.argmax(0), "embed": embedding}
        case = case | {"size": list(photo.shape[:2])}
        contenders = Contenders(reference, case, text, photo, args.device, args.compile_cache)
        for who in filter(None, args.setup.split(",")):
            for what in WHAT:
                try:
                    contenders.get(who, what)
                except Exception as error:
                    note(f"{who} {what}: {reason(error)}")
        say(about(args.device) | {"ready": True, "who": list(WHO), "attention": contenders.attention,
                                  "seconds": round(time.perf_counter() - start, 2)})  # fmt: skip
        for line in sys.stdin:
            words = line.split()
            if not words:
                continue
            who, what = (words[1:3] + [None, None])[:2]
            try:
                order, _, _, warm, frames = words
                assert order == "round", "expected: round WHO WHAT WARM_SECONDS FRAMES"
                say({"who": who, "what": what} | measure(contenders, right, who, what, float(warm), int(frames)))
            except Absent as why:
                say({"who": who, "what": what, "absent": str(why)})
            except Exception as error:  # a contender that fails is absent; the others go on
                note(f"{line.strip()}: {reason(error)}")
                say({"who": who, "what": what, "absent": reason(error)})


def measure(contenders, right, who, what, warm, frames):
    got = contenders.get(who, what)
    frame = got["frame"]
    if "agrees" not in got:
        frame.spoil()
        frame.run()
        got["agrees"] = agreement(frame, right[what])
    gc.collect()
    gc.disable()
    try:
        frame.warm(warm)
        times = [frame.run() for _ in range(max(frames, 1))]
        mhz = sm_mhz(contenders.device)
    finally:
        gc.enable()
    gpu, host = zip(*times)
    answer = {"gpu": None if gpu[0] is None else quantiles(gpu), "host": quantiles(host), "n": len(times), "sm_mhz": mhz}
    known = {name: got[name] for name in ("agrees", "form", "forms_ms", "setup_s")}
    return answer | known | {"attention": contenders.attention}


def agreement(frame, right):
    """Share of the mask's pixels that equal float32's; for embeddings the mean cosine with float32's."""
    import torch
    import torch.nn.functional as F

    if frame.what == "mask":
        return round(float((torch.from_numpy(frame.mask).to(right.device) == right).double().mean()), 6)
    return round(float(F.cosine_similarity(frame.result.float(), right, dim=-1).double().mean()), 6)


def sm_mhz(device):
    if device != "cuda":
        return None
    try:
        import torch

        return torch.cuda.clock_rate()
    except Exception:  # pynvml is not PyTorch's own
        return None


def about(device):
    import torch

    gpu = device == "cuda"
    name = torch.cuda.get_device_name() if gpu else "cpu"
    return {"device": name, "torch": torch.__version__, "cudnn": torch.backends.cudnn.version() if gpu else None}


def warm(args, say):
    """Compiles WARM's list, each noted in C/ready.json with its time once it has run, so that `serve` finds it in the cache.
    The weights are random: compiled code does not hold them, and nothing has to be waited for."""
    import torch

    from lseg_reference import Lseg

    begin = time.perf_counter()
    case = read_case(args)
    with torch.inference_mode():
        with torch.device("meta"):
            reference = Lseg(case["config"])
        reference = reference.to_empty(device=args.device).requires_grad_(False)
        for name, tensor in (*reference.named_parameters(), *reference.named_buffers()):
            tensor.fill_(1) if "bn" in name else tensor.normal_(0, 0.02) if tensor.is_floating_point() else tensor.zero_()
        text = torch.randn(len(case["labels"]), case["config"]["embed_dim"])
        photo = torch.randint(0, 256, (*case["size"], 3), dtype=torch.uint8).numpy()
        contenders = Contenders(reference, case, text, photo, args.device, args.compile_cache)
        for who, what, form in WARM:
            if time.perf_counter() - begin > args.budget:
                note("the time is up")
                break
            if form in ready_forms(args.compile_cache, who, what):
                continue
            start = time.perf_counter()
            try:
                torch.compiler.reset()
                milliseconds = contenders.frame(who, what, form).trial()
            except Exception as error:
                say({"who": who, "what": what, "form": form, "absent": reason(error)})
                continue
            mark_ready(args.compile_cache, f"{who}/{what}", form, milliseconds)
            say({"who": who, "what": what, "form": form, "ms": round(milliseconds, 4), "cache": cache_use(),
                 "s": round(time.perf_counter() - start, 2)})  # fmt: skip


def mark_ready(cache, name, form, milliseconds):
    file = cache / "ready.json"
    ready = json.loads(file.read_text()) if file.exists() else {}
    ready.setdefault(name, {})[form] = round(milliseconds, 4)
    with whole(file) as part:
        part.write_text(json.dumps(ready))


def agree(args, say):
    """Text features are PyTorch's own where `prepare` has left them: then nothing of lseg-fast is in the reference."""
    import numpy as np
    import torch

    case, photo = read_case(args), read_photo(args.dir)
    ours, got = np.load(args.scores), torch.from_numpy(np.load(args.text)).float()
    own = args.dir / "text_reference.npy"
    text = torch.from_numpy(np.load(own)).float() if own.exists() else got
    with torch.inference_mode():
        reference = load_reference(args.dir, case["config"], args.device)
        scores = reference_outputs(reference, photo, text, args.device)[1].cpu().numpy()
        network = define_network()(reference, text, photo.shape[:2], "published", torch.half, False)
        half = network.scores(torch.from_numpy(photo).to(args.device))[0].float().cpu().numpy()
        unit = text / text.norm(dim=1, keepdim=True)
        text_error = float((got - unit).abs().max() / unit.abs().max()) if own.exists() else None
    result, most = compare(scores, ours), dict(zip(("error", "decisive", "agreement_decided"), FLOAT16))
    ok = result["error"] is not None and result["error"] <= most["error"]
    ok = ok and result["agreement_decided"] >= most["agreement_decided"]
    beside = {"pytorch_half": compare(scores, half), "text_error": text_error, "limits": most, "ok": ok}
    say(about(args.device) | result | beside)
    return 0 if ok else 1


def compare(reference, got):
    """tests/golden/full_size.py's: the largest error over the reference's range, and how the masks agree."""
    import numpy as np

    assert got.shape == reference.shape and got.dtype == np.float32, f"{got.shape} {got.dtype} for {reference.shape}"
    span = float(reference.max() - reference.min())
    second, best = np.sort(reference, axis=0)[-2:]
    decided = best - second > FLOAT16[1] * span
    same = got.argmax(0) == reference.argmax(0)
    error = float(np.abs(got - reference).max()) / span if np.isfinite(got).all() else None  # JSON has no infinity
    return {"error": error, "agreement": float(same.mean()), "agreement_decided": float(same[decided].mean()),
            "decided": float(decided.mean())}  # fmt: skip


def rates(args, say):
    import torch
    import torch.nn.functional as F

    if args.device != "cuda":
        say({"absent": "no CUDA"})
        return
    torch.backends.cudnn.benchmark = True
    say(about(args.device))
    half = partial(torch.randn, dtype=torch.half, device="cuda")
    q, k, v = half(1, 901, 3, 16, 64).permute(2, 0, 3, 1, 4).unbind(0)
    x, weight, bias = half(901, 1024), half(1024), half(1024)
    cases = [("sdpa 901x16x64", name, partial(F.scaled_dot_product_attention, q, k, v)) for name in ("flash", "cudnn")]
    for side, inputs, outputs in ((120, 256, 256), (60, 512, 256), (60, 256, 256), (30, 1024, 256)):
        image, kernel = half(1, inputs, side, side), half(outputs, inputs, 3, 3) / (9 * inputs) ** 0.5
        image, kernel = (t.contiguous(memory_format=torch.channels_last) for t in (image, kernel))
        work = partial(F.conv2d, image, kernel, padding=1)
        cases.append((f"conv3x3 {side}x{side} {inputs}->{outputs}", "cudnn nhwc", work))
    cases.append(("layer_norm 901x1024", "pytorch", partial(F.layer_norm, x, (1024,), weight, bias, 1e-6)))
    with torch.inference_mode():
        for name, backend, work in cases:
            limited = attention(backend) if name.startswith("sdpa") else contextlib.nullcontext()
            try:
                with limited:
                    say({"name": name, "us": round(launch_us(work), 3), "backend": backend})
            except RuntimeError as error:
                say({"name": name, "absent": reason(error), "backend": backend})


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (prepare, warm, serve, agree, rates):
        sub = commands.add_parser(command.__name__)
        sub.set_defaults(run=command)
        sub.add_argument("--json", action="store_true", help="as it always prints")
        sub.add_argument("--threads", type=int, help="PyTorch's CPU threads")
        sub.add_argument("--device", choices=("cuda", "cpu"), help="default: cuda where there is one")
        if command is not rates:
            sub.add_argument("--dir", type=Path, required=True, help="what `prepare` makes")
            sub.add_argument("--small", action="store_true", help="a tiny network, for rehearsals")
        if command is prepare:
            sub.add_argument("--bin", type=Path, help="lseg-fast: its tokenizer must agree")
        if command in (serve, agree):
            sub.add_argument("--text", type=Path, required=True, help="unit vectors [labels, C] of lseg-fast text")
        if command is agree:
            sub.add_argument("--scores", type=Path, required=True, help="of lseg-fast run --save scores")
        if command in (serve, warm):
            sub.add_argument("--compile-cache", type=Path, required=command is warm, help="kept between warm and serve")
        if command is serve:
            sub.add_argument("--setup", default="", help="contenders made before `ready`, such as eager,graph")
        if command is warm:
            sub.add_argument("--budget", type=float, default=300, help="seconds after which nothing new is begun")
    return parser.parse_args()


def main():
    args = arguments()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to stderr

    def say(record):
        print(json.dumps(record), file=out, flush=True)

    cache = getattr(args, "compile_cache", None)
    if cache:
        args.compile_cache = cache = cache.resolve()
        cache.mkdir(parents=True, exist_ok=True)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache / "inductor")
        os.environ["TRITON_CACHE_DIR"] = str(cache / "triton")
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: its libraries do not load
        say({"absent": f"no PyTorch: {reason(error)}"})
        return 3
    if args.device is None:
        args.device = "cuda" if torch.cuda.is_available() else "cpu"
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        return args.run(args, say)
    except Exception as error:
        traceback.print_exc()
        say({"ok": False, "why": reason(error)})
        return 1


if __name__ == "__main__":
    sys.exit(main())
