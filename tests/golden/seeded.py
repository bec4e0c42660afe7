"""Seeded weights of a sensible scale for any configuration, seeded photos, and the centring of `head1`.

A random network names nearly every pixel alike. `centre` moves head1's bias until every label wins its part of the
photo, so that a wrong mask looks wrong.
"""

import numpy as np
import torch
import torch.nn as nn

from lseg_reference import HeadBlock


def fill(model, seed):
    """Fills every parameter and buffer; nothing is left at a neutral value (0, 1) that would hide a mistake."""
    rng = torch.Generator().manual_seed(seed)

    def normal(tensor, std, mean=0.0):
        tensor.copy_(torch.randn(tensor.shape, generator=rng) * std + mean)

    def uniform(tensor, low, high):
        tensor.copy_(torch.rand(tensor.shape, generator=rng) * (high - low) + low)

    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, HeadBlock):
                _fill_head_block(module, normal)
            elif ".head_block." in name:
                continue
            elif isinstance(module, (nn.Linear, nn.Conv2d)):
                gain = _gain(name)
                normal(module.weight, gain / module.weight[0].numel() ** 0.5)
                if module.bias is not None:
                    normal(module.bias, 0.1 * min(gain, 1.0))
            elif isinstance(module, nn.ConvTranspose2d):  # stride = kernel: one tap per output pixel
                normal(module.weight, module.weight.shape[0] ** -0.5)
                normal(module.bias, 0.1)
            elif isinstance(module, nn.LayerNorm):
                normal(module.weight, 0.2, 1.0)
                normal(module.bias, 0.2)
            elif isinstance(module, nn.BatchNorm2d):
                uniform(module.running_var, -3.0, 0.3)
                module.running_var.copy_(10**module.running_var)  # down to 0.001, where eps tells
                uniform(module.weight, 0.5, 1.5)
                module.weight *= module.running_var.sqrt()
                normal(module.bias, 0.2)
                normal(module.running_mean, 0.2)
                module.num_batches_tracked.fill_(1000)
        clip = model.clip_pretrained
        normal(clip.token_embedding.weight, 0.02)  # small, as CLIP's own: the first norm's eps tells
        normal(clip.positional_embedding, 0.005)
        for block in clip.transformer.resblocks:
            normal(block.attn.in_proj_weight, 1.6 / block.attn.in_proj_weight.shape[1] ** 0.5)
            normal(block.attn.in_proj_bias, 0.1)
        normal(clip.text_projection, clip.text_projection.shape[0] ** -0.5)
        normal(clip.visual.class_embedding, 1.0)
        normal(clip.visual.proj, 1.0)
        clip.logit_scale.fill_(4.6052)
        if model.config["image"]["kind"] == "vit":
            vit = model.pretrained.model
            normal(vit.cls_token, 0.01)
            normal(vit.pos_embed, 0.006)
    return model


def _gain(name):
    """By role: what writes to a residual stream is small, what a ReLU halves is large, pixels are small numbers."""
    if name.startswith("clip_pretrained."):
        return 2.0 if name.endswith("out_proj") else 1.0
    if name.endswith("patch_embed.proj"):
        return 0.1
    if name.endswith(("attn.proj", "fc2")):
        return 0.5
    if name.endswith(("attn.qkv", "project.0")) or name.startswith("pretrained.layer"):
        return 1.4
    return 1.0


def _fill_head_block(block, normal):
    """A kernel that mostly keeps its centre, scaled so that tanh neither saturates nor is a straight line."""
    conv = block.depthwise["depthwise"]
    tanh = block.activation is torch.tanh
    normal(conv.weight, 0.03)
    conv.weight[0, 0, 1, 1] += 0.3 if tanh else 0.7
    normal(conv.bias, 0.05, 0.0 if tanh else 1.0)


def plant_outliers(model, channels, factor, peak, pixels):
    """Makes a ViT behave as trained ones do: a few residual channels `factor` times larger than the others (root mean
    square), written by the first block's MLP, and attention logits of ±`peak` in the second block on `pixels`.

    The layers that read the stream hold those channels down and the rest up, as trained layers do."""
    vit, tokens = model.pretrained.model, model.normalise(pixels)
    with torch.no_grad():
        mlp = vit.blocks[0].mlp["fc2"]
        for _ in range(3):  # the first hook is the first block's output; its own residual makes this converge, not hit
            size = vit(tokens)[0].square().mean((0, 1)).sqrt()
            scale = factor * size.median() / size[channels]
            mlp.weight[channels] *= scale[:, None]
            mlp.bias[channels] *= scale
        quiet = torch.ones(len(mlp.weight), dtype=torch.bool)
        quiet[channels] = False
        for block in vit.blocks[1:]:
            _hold_down(vit, block.norm1, quiet, tokens)
            if block is vit.blocks[1]:
                _sharpen(vit, block.attn, peak, tokens)
            _hold_down(vit, block.norm2, quiet, tokens)
        for k in range(1, 5):
            linear = getattr(model.pretrained, f"act_postprocess{k}")[0].project[0]
            dim = linear.weight.shape[0]
            for channel in channels:
                linear.weight[:, [channel, channel + dim]] /= factor
    return model


def _hold_down(vit, norm, quiet, tokens):
    """Gives a LayerNorm's quiet channels (bool [dim]) unit size on an input, and the others little weight."""
    seen = []
    handle = norm.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    vit(tokens)
    handle.remove()
    norm.weight[quiet] /= seen[0][..., quiet].square().mean().sqrt()
    norm.weight[~quiet] *= 0.1


def _sharpen(vit, attention, peak, tokens):
    """Scales the queries so that an even head's extreme logit is +peak and an odd head's is −peak on an input."""
    vit(tokens)
    lowest, highest = attention.logit_span
    for head in range(attention.heads):
        extreme = highest[head] if highest[head] > -lowest[head] else lowest[head]
        scale = (peak if head % 2 == 0 else -peak) / extreme
        size = attention.qkv.in_features // attention.heads
        rows = slice(head * size, (head + 1) * size)
        for tensor in (attention.qkv.weight, attention.qkv.bias):
            tensor[rows] *= scale


def centre(model, path1, text, seed):
    """Sets head1 so that pixels spread around zero and every label wins a fair share of each photo in path1
    [B, features, h, w]. text [N, C] are the label features."""
    rng = torch.Generator().manual_seed(seed)
    head = model.scratch.head1
    pixels = path1.transpose(0, 1).flatten(1)
    weight = torch.randn(head.weight.shape[:2], generator=rng).to(pixels.dtype) / pixels.shape[0] ** 0.5
    weight = weight / (pixels.std(1) + 0.2 * pixels.std())
    centred = -(weight @ pixels.mean(1))
    words = text / text.norm(dim=1, keepdim=True)
    towards = torch.linalg.pinv(words)  # [C, N]: column n raises the numerator of label n alone
    step = (words @ (weight @ pixels + centred[:, None])).std()
    lift = torch.zeros(len(words), dtype=pixels.dtype)
    best, best_share = lift, -1.0
    with torch.no_grad():
        head.weight.copy_(weight[:, :, None, None])
        for i in range(150):
            head.bias.copy_(centred + towards @ lift)
            shares = label_shares(model.score(path1, text)[2])
            if shares.min() > best_share:
                best, best_share = lift, shares.min()
            lift = lift + step * 0.97**i * (1 / len(words) - shares.mean(0))
        head.bias.copy_(centred + towards @ best)
    return model


def label_shares(scores):
    """scores [B, N, H, W] → [B, N]: the part of each photo that each label wins."""
    labels = scores.shape[1]
    mask = scores.argmax(1).flatten(1)
    return torch.stack([torch.bincount(m, minlength=labels) for m in mask]).to(scores.dtype) / mask.shape[1]


def photo(seed, height, width):
    """uint8 RGB [height, width, 3]: a gradient, a dozen coloured discs and bars, a little noise."""
    rng = np.random.Generator(np.random.PCG64(seed))
    y, x = np.mgrid[0:height, 0:width]
    corners = rng.integers(0, 256, (2, 3))
    image = corners[0] + (corners[1] - corners[0]) * ((x + y) / (height + width))[..., None]
    for i in range(12):
        colour = rng.integers(0, 256, 3)
        cy, cx = rng.integers(0, height), rng.integers(0, width)
        size = rng.integers(8, height // 3)
        if i % 2 == 0:
            inside = (y - cy) ** 2 + (x - cx) ** 2 < size**2
        else:
            inside = (abs(y - cy) < size // 2) & (abs(x - cx) < size)
        image[inside] = colour
    image = image + rng.integers(-12, 13, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
