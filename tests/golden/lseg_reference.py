"""LSeg in plain PyTorch: the other side of every comparison.

Nothing here is fast and nothing is rewritten: batch norm is batch norm, the class token is concatenated to every
patch, `out_conv` comes after the upsampling, every pixel gets its C-channel embedding before any cosine is taken.
Module names give the published checkpoint's keys, so that `state_dict` is the published layout.

Sources: LSeg (2201.03546), DPT (2103.13413), ViT (2010.11929), CLIP (2103.00020), ResNet as torchvision names it.

A configuration is a plain dict in the form of the Rust side's `Config` (see `case.json` beside each expected file).
"""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

LOGIT_SCALE = 1 / 0.07
HEAD_SIZE = 64


# ----------------------------------------------------------------------------------------------------------- text side


class TextAttention(nn.Module):
    """Causal self-attention with CLIP's names; q, k, v are the thirds of one projection."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x):  # [N, L, width]
        n, length, width = x.shape
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = qkv.reshape(n, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        logits = q @ k.transpose(-1, -2) / math.sqrt(width // self.heads)
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        weights = logits.masked_fill(future, float("-inf")).softmax(-1)
        return self.out_proj((weights @ v).transpose(1, 2).reshape(n, length, width))


class TextBlock(nn.Module):
    def __init__(self, width, heads, mlp):
        super().__init__()
        self.attn = TextAttention(width, heads)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, mlp), "c_proj": nn.Linear(mlp, width)})
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        hidden = self.mlp["c_fc"](self.ln_2(x))
        return x + self.mlp["c_proj"](hidden * torch.sigmoid(1.702 * hidden))


class UnusedVisual(nn.Module):
    """A stub of CLIP's image tower: published checkpoints carry it, LSeg never reads it."""

    def __init__(self):
        super().__init__()
        self.class_embedding = nn.Parameter(torch.zeros(8))
        self.proj = nn.Parameter(torch.zeros(8, 4))
        self.conv1 = nn.Conv2d(3, 8, 2, 2, bias=False)
        self.ln_post = nn.LayerNorm(8)


class Clip(nn.Module):
    def __init__(self, text, embed_dim):
        super().__init__()
        self.vocab = text["vocab"]
        width = text["width"]
        self.visual = UnusedVisual()
        self.token_embedding = nn.Embedding(text["vocab"], width)
        self.positional_embedding = nn.Parameter(torch.zeros(text["context"], width))
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(
            TextBlock(width, text["heads"], text["mlp"]) for _ in range(text["layers"])
        )
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.zeros(width, embed_dim))
        self.logit_scale = nn.Parameter(torch.zeros(()))

    def forward(self, tokens):
        """tokens [N, context] → text features [N, C], not normalised."""
        x = self.token_embedding(tokens) + self.positional_embedding
        for block in self.transformer.resblocks:
            x = block(x)
        end = (tokens == self.vocab - 1).int().argmax(-1)
        return self.ln_final(x)[torch.arange(len(x)), end] @ self.text_projection


# --------------------------------------------------------------------------------------------------------- ViT encoder


class VitAttention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.logit_span = None  # (lowest, highest) attention logit of each head in the last call

    def forward(self, x):  # [B, T, dim]
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        logits = q @ k.transpose(-1, -2) / math.sqrt(dim // self.heads)
        self.logit_span = (logits.amin((0, 2, 3)), logits.amax((0, 2, 3)))
        return self.proj((logits.softmax(-1) @ v).transpose(1, 2).reshape(batch, tokens, dim))


class VitBlock(nn.Module):
    def __init__(self, dim, heads, mlp):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = VitAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(dim, mlp), "fc2": nn.Linear(mlp, dim)})

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class Vit(nn.Module):
    def __init__(self, image):
        super().__init__()
        dim, patch, self.grid = image["dim"], image["patch"], image["grid"]
        self.hooks = image["hooks"]
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.grid**2, dim))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, dim, patch, patch)})
        self.blocks = nn.ModuleList(VitBlock(dim, image["heads"], image["mlp"]) for _ in range(image["depth"]))
        self.norm = nn.LayerNorm(dim, eps=1e-6)  # unused by LSeg
        self.head = nn.Linear(dim, 4)  # unused by LSeg

    def forward(self, x):
        """x [B, 3, H, W] → the four hook blocks' outputs, each [B, 1 + h·w, dim]."""
        x = self.patch_embed["proj"](x)
        h, w = x.shape[-2:]
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], 1)
        square = self.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (self.grid, self.grid))
        resized = F.interpolate(square, size=(h, w), mode="bilinear", align_corners=False)
        x = x + torch.cat([self.pos_embed[:, :1], resized.flatten(2).transpose(1, 2)], 1)
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        return [outputs[i] for i in self.hooks]


class Readout(nn.Module):
    """DPT's "project" readout: every patch token is concatenated with the class token."""

    def __init__(self, dim):
        super().__init__()
        self.project = nn.Sequential(nn.Linear(2 * dim, dim), nn.GELU())

    def forward(self, tokens):
        patches, cls = tokens[:, 1:], tokens[:, :1]
        return self.project(torch.cat([patches, cls.expand_as(patches)], -1))


def reassembly(level, patch, dim, channels):
    """Hook `level` (1..4): readout, 1×1 convolution, then up or down to 1/4, 1/8, 1/16, 1/32 of the image."""
    scale = patch / (4, 8, 16, 32)[level - 1]
    resample = []
    if scale > 1:
        resample = [nn.ConvTranspose2d(channels, channels, int(scale), int(scale))]
    elif scale < 1:
        resample = [nn.Conv2d(channels, channels, 3, 2, 1)]
    # Indices 1 and 2 are the published code's transpose and unflatten, which hold no tensors.
    return nn.Sequential(Readout(dim), nn.Identity(), nn.Identity(), nn.Conv2d(dim, channels, 1), *resample)


# ------------------------------------------------------------------------------------------------------ ResNet encoder


class Bottleneck(nn.Module):
    def __init__(self, inputs, planes, stride):
        super().__init__()
        outputs = 4 * planes
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def resnet_stages(image):
    """The published split: the stem sits in front of the first stage, as its members 0..3."""
    stages, inputs = [], image["stem"]
    for i, (planes, count) in enumerate(zip(image["planes"], image["blocks"])):
        blocks = []
        for j in range(count):
            blocks.append(Bottleneck(inputs, planes, 2 if i > 0 and j == 0 else 1))
            inputs = 4 * planes
        stages.append(nn.Sequential(*blocks))
    stem = image["stem"]
    first = nn.Sequential(
        nn.Conv2d(3, stem, 7, 2, 3, bias=False), nn.BatchNorm2d(stem), nn.ReLU(), nn.MaxPool2d(3, 2, 1), stages[0]
    )
    return [first, *stages[1:]]


# -------------------------------------------------------------------------------------------------------------- decoder


class ResidualConvUnit(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(features)
        self.bn2 = nn.BatchNorm2d(features)

    def forward(self, x):
        return x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(F.relu(x))))))


class RefineNet(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.out_conv = nn.Conv2d(features, features, 1)
        self.resConfUnit1 = ResidualConvUnit(features)
        self.resConfUnit2 = ResidualConvUnit(features)

    def forward(self, x, skip=None):
        if skip is not None:
            x = x + self.resConfUnit1(skip)
        return self.out_conv(upsample2(self.resConfUnit2(x)))


def upsample2(x):
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


class HeadBlock(nn.Module):
    """Spatial regularisation of the logits: one 3×3 kernel for all labels (LSeg, section 3.3)."""

    ACTIVATIONS = {"relu": F.relu, "lrelu": lambda x: F.leaky_relu(x, 0.01), "tanh": torch.tanh}

    def __init__(self, kind, activation):
        super().__init__()
        self.kind, self.activation = kind, self.ACTIVATIONS[activation]
        self.depthwise = nn.ModuleDict({"depthwise": nn.Conv2d(1, 1, 3, 1, 1)})

    def forward(self, x, activate):  # [B, N, h, w]
        y = self.depthwise["depthwise"](x.flatten(0, 1).unsqueeze(1)).view_as(x)
        if self.kind == "bottleneck":
            y = y + x.amax(1, keepdim=True)
        return self.activation(y) if activate else y


# ---------------------------------------------------------------------------------------------------------------- LSeg


class Lseg(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        image, channels, features = config["image"], config["reassemble"], config["features"]
        self.clip_pretrained = Clip(config["text"], config["embed_dim"])
        self.pretrained = nn.Module()
        if image["kind"] == "vit":
            self.pretrained.model = Vit(image)
            for k in range(1, 5):
                post = reassembly(k, image["patch"], image["dim"], channels[k - 1])
                setattr(self.pretrained, f"act_postprocess{k}", post)
        else:
            for k, stage in enumerate(resnet_stages(image), 1):
                setattr(self.pretrained, f"layer{k}", stage)
        self.scratch = nn.Module()
        for k in range(1, 5):
            setattr(self.scratch, f"layer{k}_rn", nn.Conv2d(channels[k - 1], features, 3, 1, 1, bias=False))
        for k in range(1, 5):
            setattr(self.scratch, f"refinenet{k}", RefineNet(features))
        self.scratch.head1 = nn.Conv2d(features, config["embed_dim"], 1)
        if config["head_block"]["kind"] != "none":
            block = config["head_block"]
            self.scratch.head_block = HeadBlock(block["kind"], block["activation"])
        self.eval()

    def encode(self, x):
        """x [B, 3, H, W] → (the four hooks, the four maps at 1/4, 1/8, 1/16, 1/32)."""
        if self.config["image"]["kind"] == "resnet":
            maps = []
            for k in range(1, 5):
                x = getattr(self.pretrained, f"layer{k}")(x)
                maps.append(x)
            return maps, maps
        patch = self.config["image"]["patch"]
        grid = (x.shape[2] // patch, x.shape[3] // patch)
        hooks, maps = self.pretrained.model(x), []
        for k, tokens in enumerate(hooks, 1):
            post = getattr(self.pretrained, f"act_postprocess{k}")
            y = post[0](tokens).transpose(1, 2).unflatten(2, grid)
            maps.append(post[3:](y))
        return hooks, maps

    def decode(self, maps):
        """Four maps → path1 [B, features, H/2, W/2]."""
        rn = [getattr(self.scratch, f"layer{k}_rn")(m) for k, m in enumerate(maps, 1)]
        path = self.scratch.refinenet4(rn[3])
        path = self.scratch.refinenet3(path, rn[2])
        path = self.scratch.refinenet2(path, rn[1])
        return self.scratch.refinenet1(path, rn[0])

    def logits(self, embedding, text):
        """embedding [B, C, h, w], text [N, C], neither normalised → [B, N, h, w]."""
        pixels = embedding / embedding.norm(dim=1, keepdim=True)
        words = text / text.norm(dim=1, keepdim=True)
        return LOGIT_SCALE * torch.einsum("bchw,nc->bnhw", pixels, words)

    def regularise(self, logits, depth):
        if self.config["head_block"]["kind"] == "none":
            return logits
        for _ in range(depth - 1):
            logits = self.scratch.head_block(logits, True)
        return self.scratch.head_block(logits, False)

    def score(self, path1, text, depth=None):
        """The head: path1 and text features → (embedding, logits at H/2×W/2, scores at H×W)."""
        if depth is None:
            depth = self.config["head_block"]["depth"]
        embedding = self.scratch.head1(path1)
        logits = self.logits(embedding, text)
        return embedding, logits, upsample2(self.regularise(logits, depth))

    def normalise(self, pixels):
        """uint8 RGB [B, H, W, 3] → [B, 3, H, W] in the model's element type."""
        dtype = self.scratch.head1.weight.dtype
        mean, std = (torch.tensor(self.config[k], dtype=dtype).view(1, 3, 1, 1) for k in ("mean", "std"))
        return (torch.as_tensor(pixels).permute(0, 3, 1, 2).to(dtype) / 255 - mean) / std

    @torch.no_grad()
    def forward(self, pixels, tokens):
        """uint8 RGB [B, H, W, 3] and token ids [N, context] → every tap by name."""
        text = self.clip_pretrained(tokens)
        hooks, maps = self.encode(self.normalise(pixels))
        path1 = self.decode(maps)
        embedding, logits, scores = self.score(path1, text)
        taps = {f"hook{k}": h for k, h in enumerate(hooks, 1)}
        return taps | {
            "text": text,
            "path1": path1,
            "head1": embedding,
            "logits_half": logits,
            "scores": scores,
            "mask": scores.argmax(1),
        }
