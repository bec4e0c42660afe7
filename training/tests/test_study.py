"""The study of spatial regularisation: runs, going on after a kill, and the report's verdicts."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lseg_train.errors import Refused
from studies import depth, depth_report, depth_run, depth_scenes
from studies.depth_table import Job, table


@pytest.fixture
def scenes():
    """Eight pictures of noise, each of one label, some of it ignored."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(8, dtype=np.uint8), 96 * 96).reshape(8, 96, 96)
    labels[:, :10] = depth_scenes.IGNORED
    images = rng.integers(0, 256, (8, 96, 96, 3), np.uint8)
    return {"images": images, "labels": labels, "test_images": images[:2], "test_labels": labels[:2]}


def tiny(kind="depthwise", depth=4, start="late", **changes):
    return Job(kind, depth, "lrelu", start, 0, **{"steps": 3, "batch": 2, "after": 2, **changes})


def test_a_late_block_is_untouched_until_it_starts(scenes):
    result = depth_run.run(asdict(tiny()), scenes)
    first, last = result["path"]
    assert (first["step"], last["step"]) == (0, 2)
    assert (first["contrast"], first["gain"], first["bias"]) == (1, 1, 0)
    assert (last["gain"], last["contrast"] < 1) == (1, True)
    assert depth_run.run(asdict(tiny()), scenes)["path"] == result["path"]


@pytest.mark.parametrize("kind, moves", [("scale", True), ("shape", False), ("steady", False)])
def test_kernels_of_one_part(scenes, kind, moves):
    path = depth_run.run(asdict(tiny(kind, 1, "identity", rate=0.1)), scenes)["path"]
    assert (abs(path[-1]["gain"] - path[0]["gain"]) > 1e-3) == moves


def test_one_seed_begins_with_one_network_whatever_the_block():
    blocks = [("none", 0), ("bottleneck", 4), ("scale", 1)]
    networks = [depth_run.model_of(asdict(tiny(kind, depth))) for kind, depth in blocks]
    weights = [dict(n.named_parameters()) for n in networks]
    assert all(torch.equal(weights[0][name], w[name]) for w in weights[1:] for name in weights[0])


def test_a_kernels_nine_numbers_move_its_gain_together(scenes):
    """Logits are smooth, so the nine have nearly one gradient, and the gain gets nine times what a scalar gets."""
    gradients = {}
    for kind in ("depthwise", "scale"):
        model = depth_run.model_of(asdict(tiny(kind, 4)))
        scores = model.scores(model(depth_run.normalised(scenes["images"])), depth_run.label_vectors()[None])
        truth = torch.from_numpy(scenes["labels"]).long()
        F.cross_entropy(depth_run.upsample(scores), truth, ignore_index=depth_scenes.IGNORED).backward()
        gradients[kind] = model.scratch.head_block.depthwise.depthwise.weight.grad
    assert 7 < gradients["depthwise"].sum() / gradients["scale"].sum() < 9


def test_label_vectors_are_as_close_as_words():
    vectors = depth_run.label_vectors()
    cosines = (vectors @ vectors.T)[~torch.eye(len(vectors), dtype=torch.bool)]
    assert abs(cosines.mean() - depth_run.COMMON) < 0.05


def test_goes_on_after_a_torn_last_line(scenes, tmp_path):
    scenes_path, results = tmp_path / "scenes.npz", tmp_path / "results.jsonl"
    np.savez(scenes_path, **scenes)
    jobs = [tiny(), tiny("none", 0, "default")]
    done = json.dumps({**asdict(jobs[0]), "miou": 50})
    results.write_text(f"{done}\n" + '{"kind": "none", "dep')
    depth.study(jobs, scenes_path, results, 1)
    lines = results.read_text().splitlines()
    assert lines[0] == done
    assert [depth.job_of(json.loads(line)) for line in lines] == jobs
    assert depth.left(jobs, depth.read(results)) == []


def test_no_run_is_in_the_table_twice():
    assert len(set(table())) == len(table())


def canned(kind, depth, start, seed, miou, loss=0.3, **changes):
    step = {"loss": 2.6, "mean": 0, "below": 0.5, "contrast": 0.12, "gradient": 3, "gain": -2.5}
    path = [{"step": number, **step} for number in (0, 20, 100, 120)]
    job = asdict(Job(kind, depth, "lrelu", start, seed, **changes))
    return {**job, "miou": miou, "miou_without": miou - 1, "loss": loss * 2.565, "loss_to_uniform": loss, "path": path}


def test_report():
    results = [canned("none", 0, "default", seed, 60 + seed) for seed in range(3)]
    results += [canned("depthwise", 4, "identity", 1, 3.5, 1.0), canned("depthwise", 4, "identity", 0, 40)]
    results += [canned("depthwise", 4, "identity", 2, 10, 0.7), canned("depthwise", 4, "late", 0, 62.04)]
    results += [canned("depthwise", 1, "late", 0, 60), canned("depthwise", 4, "late", 0, 4, 0.99, clip=1.0)]
    text = depth_report.report(results)
    assert "9 runs: 5 well, 2 in between, 2 collapsed." in text
    assert "| depthwise | 4 | lrelu | – | 1 of 3: *40.0* **3.5** *10.0* | 0 of 1: 62.0 |" in text
    assert "| depthwise, clip 1 | 4 | lrelu | – | – | 1 of 1: **4.0** |" in text
    assert "| none | – | 3 | 61.0 ± 1.0 | 0.0 ± 0.0 | 60.0 ± 1.0 | 0.000 ± 0.000 | 2.50 ± 0.00 |" in text
    assert "| depthwise | late | 0 | -2.5 → -2.5 → -2.5 | 0.12 → 0.12 → 0.12 | 0.1 | 3 | 62.0 |" in text
    assert "| depthwise | late | 1 | 60.0 | 0.0 | 59.0 | 0.000 | 2.50 |" in text
    shown = depth_report.paths(results[3:4])
    assert "### depthwise, depth 4, lrelu, identity, seed 1: mIoU 3.5" in shown
    assert "| 20 | 2.6 | 0 | 0.5 | 0.12 | 3 | -2.5 | – |" in shown
    lost = {**results[3], "loss_to_uniform": None, "path": [{"step": 0, "loss": None}]}
    assert depth_report.verdict(lost, {depth_report.training(lost): 60}) == "collapsed"
    assert "| 0 | – |" in depth_report.paths([lost])
    with pytest.raises(Refused, match="without a block"):
        depth_report.report(results[3:])


def test_an_unknown_cell_is_refused():
    with pytest.raises(SystemExit, match="no cell is called nonsense"):
        depth.main(["--only", "nonsense", "--list"])
