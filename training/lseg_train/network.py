"""LSeg in PyTorch, the one definition that everything here trains: a ViT or a bottleneck ResNet, DPT's decoder, cosines
with label vectors, spatial regularisation of the logits; and CLIP's text transformer beside it.

Module names are the published checkpoint's: `state_dict` is a file's content. A configuration is a plain dict in the
form of a file's `lseg-fast.config` (`architecture.py` makes and checks it).

Sources: LSeg (2201.03546), DPT (2103.13413), ViT (2010.11929), ResNet (1512.03385, as torchvision names it), CLIP
(2103.00020)."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

LOGIT_SCALE = 1 / 0.07
LEVELS = (1, 2, 3, 4)


# ---------------------------------------------------------------------------------------------------------------- text


class QuickGelu(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class TextBlock(nn.Module):
    def __init__(self, width, heads, mlp):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, mlp))
        self.mlp.add_module("gelu", QuickGelu())
        self.mlp.add_module("c_proj", nn.Linear(mlp, width))
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x, mask):
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class TextTower(nn.Module):
    """CLIP's: token ids [n, t] with anything behind the end token -> [n, embed_dim], of any length."""

    def __init__(self, embed_dim, vocab, context, width, layers, heads, mlp):
        super().__init__()
        self.end = vocab - 1
        self.token_embedding = nn.Embedding(vocab, width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(context, width))
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(TextBlock(width, heads, mlp) for _ in range(layers))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(width**-0.5 * torch.randn(width, embed_dim))
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(self, ids):
        length = ids.shape[1]
        x = self.token_embedding(ids) + self.positional_embedding[:length]
        mask = torch.full((length, length), -torch.inf, dtype=x.dtype).triu(1)
        for block in self.transformer.resblocks:
            x = block(x, mask)
        ends = (ids == self.end).int().argmax(1)
        return self.ln_final(x[torch.arange(len(ids)), ends]) @ self.text_projection


# ----------------------------------------------------------------------------------------------------------------- ViT


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, dim))


class VitBlock(nn.Module):
    def __init__(self, dim, heads, mlp):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential()
        self.mlp.add_module("fc1", nn.Linear(dim, mlp))
        self.mlp.add_module("gelu", nn.GELU())
        self.mlp.add_module("fc2", nn.Linear(mlp, dim))

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    """Image [n, 3, h, w] -> the hooked blocks' tokens, class token first, before the final norm."""

    def __init__(self, patch, dim, depth, heads, mlp, grid, hooks):
        super().__init__()
        self.grid, self.hooks, self.recompute = grid, tuple(hooks), False
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + grid * grid, dim))
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, dim, patch, patch)
        self.blocks = nn.ModuleList(VitBlock(dim, heads, mlp) for _ in range(depth))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x):
        x = self.patch_embed.proj(x)
        rows, columns = x.shape[2:]
        square = self.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (self.grid, self.grid))
        grid = F.interpolate(square, (rows, columns), mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        x = torch.cat([first, x.flatten(2).transpose(1, 2) + grid], 1)
        outputs = []
        for i, block in enumerate(self.blocks):
            x = checkpoint(block, x, use_reentrant=False) if self.recompute and self.training else block(x)
            if i in self.hooks:
                outputs.append(x)
        return outputs


class Readout(nn.Module):
    """DPT's "project": every patch token beside the class token."""

    def __init__(self, dim):
        super().__init__()
        self.project = nn.Sequential(nn.Linear(2 * dim, dim), nn.GELU())

    def forward(self, tokens):
        patches, first = tokens[:, 1:], tokens[:, :1]
        return self.project(torch.cat([patches, first.expand_as(patches)], -1))


def reassembly(level, patch, dim, channels):
    """Hook `level` (1 to 4) -> 1/4, 1/8, 1/16, 1/32 of the image. Places 1 and 2 are the published code's transpose and
    unflatten, which hold no tensors."""
    scale = patch / (2 << level)
    resample = []
    if scale > 1:
        resample = [nn.ConvTranspose2d(channels, channels, int(scale), int(scale))]
    elif scale < 1:
        resample = [nn.Conv2d(channels, channels, 3, 2, 1)]
    return nn.Sequential(Readout(dim), nn.Identity(), nn.Identity(), nn.Conv2d(dim, channels, 1), *resample)


class VitEncoder(nn.Module):
    """Image [n, 3, h, w] -> four maps, [n, channels[k], h/4 … h/32, w/4 … w/32]."""

    def __init__(self, channels, patch, dim, **rest):
        super().__init__()
        self.patch = patch
        self.model = Vit(patch, dim, **rest)
        for level, width in zip(LEVELS, channels):
            setattr(self, f"act_postprocess{level}", reassembly(level, patch, dim, width))

    def forward(self, x):
        grid, maps = (x.shape[2] // self.patch, x.shape[3] // self.patch), []
        for level, tokens in zip(LEVELS, self.model(x)):
            post = getattr(self, f"act_postprocess{level}")
            maps.append(post[3:](post[0](tokens).transpose(1, 2).unflatten(2, grid)))
        return maps


# -------------------------------------------------------------------------------------------------------------- ResNet


class Bottleneck(nn.Module):
    """He et al., with the stride on the 3×3 as in torchvision."""

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
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        identity = x if self.downsample is None else self.downsample(x)
        return F.relu(self.bn3(self.conv3(y)) + identity, inplace=True)


class Resnet(nn.Module):
    """Image [n, 3, h, w] -> the four stages' maps, at 1/4, 1/8, 1/16 and 1/32. The stem is the first stage's places 0
    to 3."""

    def __init__(self, stem, blocks, planes):
        super().__init__()
        inputs, stages = stem, []
        for k, (count, width) in enumerate(zip(blocks, planes)):
            stage = []
            for j in range(count):
                stage.append(Bottleneck(inputs, width, 2 if k > 0 and j == 0 else 1))
                inputs = 4 * width
            stages.append(nn.Sequential(*stage))
        stem = [nn.Conv2d(3, stem, 7, 2, 3, bias=False), nn.BatchNorm2d(stem), nn.ReLU(True), nn.MaxPool2d(3, 2, 1)]
        self.layer1 = nn.Sequential(*stem, stages[0])
        self.layer2, self.layer3, self.layer4 = stages[1:]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if isinstance(module, Bottleneck):
                nn.init.zeros_(module.bn3.weight)

    def forward(self, x):
        maps = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            maps.append(x)
        return maps


# ------------------------------------------------------------------------------------------------------------- decoder


class ResidualConvUnit(nn.Module):
    def __init__(self, features):
        super().__init__()
        for i in (1, 2):
            setattr(self, f"conv{i}", nn.Conv2d(features, features, 3, 1, 1, bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm2d(features))

    def forward(self, x):
        y = self.bn1(self.conv1(F.relu(x)))
        return x + self.bn2(self.conv2(F.relu(y)))


class RefineNet(nn.Module):
    """`out_conv` runs before the upsampling that it commutes with, on a quarter of the pixels."""

    def __init__(self, features, skip):
        super().__init__()
        if skip:
            self.resConfUnit1 = ResidualConvUnit(features)
        self.resConfUnit2 = ResidualConvUnit(features)
        self.out_conv = nn.Conv2d(features, features, 1)

    def forward(self, layer, path=None):
        x = layer if path is None else path + self.resConfUnit1(layer)
        return upsample(self.out_conv(self.resConfUnit2(x)))


def upsample(x):
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


class Decoder(nn.Module):
    """Four maps -> path 1 [n, features, h/2, w/2]; `head1` makes each of its pixels an embedding."""

    def __init__(self, channels, features, embed_dim):
        super().__init__()
        for level, width in zip(LEVELS, channels):
            setattr(self, f"layer{level}_rn", nn.Conv2d(width, features, 3, 1, 1, bias=False))
            setattr(self, f"refinenet{level}", RefineNet(features, skip=level < 4))
        self.head1 = nn.Conv2d(features, embed_dim, 1)

    def forward(self, maps):
        path = None
        for level in reversed(LEVELS):
            layer = getattr(self, f"layer{level}_rn")(maps[level - 1])
            path = getattr(self, f"refinenet{level}")(layer, path)
        return path


# ---------------------------------------------------------------------------------------------------------- head block

ACTIVATIONS = {"relu": F.relu, "lrelu": lambda x: F.leaky_relu(x, 0.01), "tanh": torch.tanh}
FAR_BELOW = -1e4
"""In the place of the logit of a label that is not offered."""


class HeadBlock(nn.Module):
    """Spatial regularisation (LSeg, section 3.3): a 3×3 kernel that all labels share, `depth` times, the activation
    behind each but the last. "bottleneck" adds the pixel's largest logit. Untied, each time has a kernel of its own (no
    published file has that and the program does not run it)."""

    def __init__(self, kind, depth, activation, tied=True):
        super().__init__()
        self.bottleneck, self.depth, self.activation = kind == "bottleneck", max(depth, 1), ACTIVATIONS[activation]
        self.depthwise = nn.Module()
        self.depthwise.depthwise = nn.Conv2d(1, 1, 3, 1, 1)
        self.others = nn.ModuleList(nn.Conv2d(1, 1, 3, 1, 1) for _ in range(0 if tied else self.depth - 1))

    def kernels(self):
        """As many as there are, one where it is tied."""
        return [self.depthwise.depthwise, *self.others]

    def start_as_identity(self):
        for kernel in self.kernels():
            nn.init.zeros_(kernel.weight)
            nn.init.zeros_(kernel.bias)
            nn.init.ones_(kernel.weight[0, 0, 1, 1])

    def forward(self, x, offered=None):
        """Logits [n, labels, h, w]; `offered` [n or 1, labels, 1, 1]: which of them may be the largest."""
        kernels = self.kernels()
        for i in range(self.depth):
            y = kernels[i % len(kernels)](x.flatten(0, 1).unsqueeze(1)).view_as(x)
            if self.bottleneck:
                most = x if offered is None else x.masked_fill(~offered, FAR_BELOW)
                y = y + most.amax(1, keepdim=True)
            x = self.activation(y) if i + 1 < self.depth else y
        return x


# ---------------------------------------------------------------------------------------------------------- image side


class ImageModel(nn.Module):
    """What is trained. `config`: image, reassemble, features, embed_dim, and head_block, which may have `tied`."""

    def __init__(self, config):
        super().__init__()
        image = {k: v for k, v in config["image"].items() if k != "kind"}
        vit = config["image"]["kind"] == "vit"
        self.pretrained = VitEncoder(config["reassemble"], **image) if vit else Resnet(**image)
        self.scratch = Decoder(config["reassemble"], config["features"], config["embed_dim"])
        block = config.get("head_block", {"kind": "none"})
        self.regularised = block["kind"] != "none"
        if self.regularised:
            self.scratch.head_block = HeadBlock(**block)

    def recompute(self, asked):
        """Whether a ViT's blocks are computed again on the way back, which keeps their insides out of memory."""
        if isinstance(self.pretrained, VitEncoder):
            self.pretrained.model.recompute = asked

    def forward(self, x):
        """Normalised image [n, 3, h, w] -> path 1, [n, features, h/2, w/2]."""
        return self.scratch(self.pretrained(x))

    def logits(self, path, texts):
        """Path 1, unit label vectors [n or 1, labels, embed_dim] -> 1/0.07 · cosine, float32 [n, labels, h/2, w/2].

        The numerators come of the path's `features` channels (texts · head1's weight), not of head1's `embed_dim`."""
        with torch.autocast(path.device.type, enabled=False):
            path, texts = at_least_float32(path), at_least_float32(texts)
            weight, bias = self.scratch.head1.weight[:, :, 0, 0], self.scratch.head1.bias
            pixels = path.flatten(2).transpose(1, 2)
            lengths = torch.linalg.vector_norm(F.linear(pixels, weight, bias), dim=2).clamp_min(1e-12)
            products = (texts @ weight) @ pixels.transpose(1, 2) + (texts @ bias).unsqueeze(2)
            return LOGIT_SCALE * (products / lengths.unsqueeze(1)).unflatten(2, path.shape[2:])

    def scores(self, path, texts, offered=None, regularise=True):
        """The same behind the head block, where there is one -> [n, labels, h/2, w/2]."""
        logits = self.logits(path, texts)
        if not (self.regularised and regularise):
            return logits
        with torch.autocast(logits.device.type, enabled=False):
            return self.scratch.head_block(logits, offered)


def at_least_float32(x):
    return x if x.dtype == torch.float64 else x.float()
