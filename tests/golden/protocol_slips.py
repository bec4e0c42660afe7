"""Slips that people make when they run LSeg over whole photos, for `sensitivity.py`: each replaces a function of the
reference, and the committed cases must notice it."""

import contextlib
from unittest import mock

import numpy as np
import torch.nn.functional as F
from safetensors.numpy import load_file

import protocol_reference
import protocol_templates
import protocols
from protocol_reference import mirror, resize, resize_half_pixel, scaled_size

one_scale, over_scales = protocol_reference.one_scale, protocol_reference.over_scales
vlmaps63 = protocol_templates.vlmaps63

# One of each preset that does more than one pass, with and without flips, over several windows, on each network.
CASES = (
    "eval_vit32",
    "eval_odd",
    "eval_no_flip",
    "app_vit16",
    "vlmaps_resnet",
    "openscene_resnet",
    "gs_resized_resnet",
)


def resized_in_8_bits(net, take, x, long_side, crop, stride, flip):
    """The photo is resized as bytes and normalised afterwards."""
    black, white = (net.normalise(np.full((1, 1, 3), value, np.uint8)) for value in (0, 255))
    y = (resize(x, *scaled_size(*x.shape[2:], long_side)) - black) / (white - black)
    y = (y * 255).round() / 255 * (white - black) + black
    return one_scale(net, take, y, long_side, crop, stride, flip)  # which finds it of the right size


def shifted_back(length, crop, stride):
    """The last window ends at the border."""
    return [min(i * stride, length - crop) for i in range(-(-(length - crop) // stride) + 1)]


def padded_with_zeros(net, x, height, width):
    return F.pad(x, (0, width - x.shape[3], 0, height - x.shape[2]))


def mirrored_then_padded(net, take, window, crop, flip):
    """The flipped pass has its black at the right too."""

    def passed(x):
        out = take(net.pad(x, crop, crop))
        h, w = (side * out.shape[3] // crop for side in x.shape[2:])
        return out[..., :h, :w]

    if flip == "none":
        return passed(window)
    out = passed(window) + mirror(passed(mirror(window)))
    return out / 2 if flip == "mean" else out


def mean_of_scales(net, take, x, base, crop, stride, scales, flip):
    return over_scales(net, take, x, base, crop, stride, scales, flip) / len(scales)


def renormalised(model, words):
    return protocol_templates.unit(vlmaps63(model, words))


def instead(owner, **replacements):
    return mock.patch.multiple(owner, **replacements)


def slips():
    """(name, what to patch meanwhile)"""
    yield "resized in 8 bits", instead(protocol_reference, one_scale=resized_in_8_bits)
    yield "resized without aligned corners", instead(protocol_reference, resize=resize_half_pixel)
    yield "last window shifted back", instead(protocol_reference, starts=shifted_back)
    yield "padded with zeros", instead(protocol_reference.Network, pad=padded_with_zeros)
    yield "mirrored before it is padded", instead(protocol_reference, one_window=mirrored_then_padded)
    yield "mean of scales", instead(protocol_reference, over_scales=mean_of_scales)


def worst_case(patch):
    """→ (the largest error in parts of its tolerance, its case, how many cases notice)"""
    committed = load_file(protocols.FOLDER / "expected.safetensors")
    errors = {}
    for case in (case for case in protocols.cases() if case.name in CASES):
        with patch:
            out = protocols.compute(case)[0]
        values = protocols.expected(case, out)[f"{case.name}/values"]
        errors[case.name] = protocols.error(case, values, committed[f"{case.name}/values"])
    worst = max(errors, key=errors.get)
    return errors[worst], worst, sum(e > 1 for e in errors.values())


def worst_template(patch, network):
    committed = load_file(protocols.FOLDER / protocol_templates.FILE)
    features = load_file(protocols.FOLDER / "expected.safetensors")
    model, description = protocols.load(network)
    with patch:
        case = protocol_templates.VLMAPS_CASE.format(network)
        got = protocol_templates.tensors(network, model, description["labels"], features[f"{case}/values"])
    return protocol_templates.worst(got, {name: committed[name] for name in got})


def unnoticed():
    """Prints one line a slip and returns how many stayed within every tolerance."""
    missed = 0
    right, _, noticing = worst_case(contextlib.nullcontext())
    assert right < 1, f"{noticing} cases are out of bounds without any slip"
    for name, patch in slips():
        error, case, noticing = worst_case(patch)
        missed += error <= 1
        report("photos", name, error, f"{case}, {noticing} of {len(CASES)} cases notice,")
    for network in protocols.NETWORKS:
        error, tensor = worst_template(instead(protocol_templates, vlmaps63=renormalised), network)
        missed += error <= 1
        report("templates", "mean brought to length 1", error, tensor)
    return missed


def report(where, name, error, worst):
    verdict = "noticed" if error > 1 else "MISSED"
    print(f"{where:10} {name:36} {verdict}: {worst} at {error:.3g} times its tolerance", flush=True)
