"""LSeg in PyTorch at demo size: CLIP's text transformer; a bottleneck ResNet under DPT's decoder. Module names are the
published checkpoint's, so that `state_dict` is the file's content."""

import torch
from torch import nn
from torch.nn import functional as F

from tokenizer import CONTEXT, VOCABULARY

LOGIT_SCALE = 1 / 0.07
EMBEDDING = 256
TEXT = {"width": 192, "layers": 3, "heads": 3, "mlp": 768}
RESNET = {"stem": 32, "blocks": (2, 2, 2, 2), "planes": (32, 64, 128, 256)}
FEATURES = 64
MEAN, STD = 0.5, 0.5


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
    """Token ids [n, t], anything after the end token -> [n, EMBEDDING], of any length."""

    def __init__(self, width, layers, heads, mlp):
        super().__init__()
        self.token_embedding = nn.Embedding(VOCABULARY, width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(CONTEXT, width))
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(TextBlock(width, heads, mlp) for _ in range(layers))
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(width**-0.5 * torch.randn(width, EMBEDDING))
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(self, ids):
        length = ids.shape[1]
        mask = torch.full((length, length), -torch.inf).triu(1)
        x = self.token_embedding(ids) + self.positional_embedding[:length]
        for block in self.transformer.resblocks:
            x = block(x, mask)
        ends = (ids == VOCABULARY - 1).int().argmax(1)
        return self.ln_final(x[torch.arange(len(ids)), ends]) @ self.text_projection


class Bottleneck(nn.Module):
    """He et al. (1512.03385), with the stride on the 3×3 as in torchvision."""

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
    """Image [n, 3, h, w] -> the four stages' maps, at 1/4, 1/8, 1/16 and 1/32."""

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
        x = self.out_conv(self.resConfUnit2(x))
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


class ImageModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.pretrained = Resnet(**RESNET)
        self.scratch = nn.Module()
        for k, planes in enumerate(RESNET["planes"], 1):
            setattr(self.scratch, f"layer{k}_rn", nn.Conv2d(4 * planes, FEATURES, 3, 1, 1, bias=False))
            setattr(self.scratch, f"refinenet{k}", RefineNet(FEATURES, skip=k < 4))
        self.scratch.head1 = nn.Conv2d(FEATURES, EMBEDDING, 1)

    def forward(self, x):
        """Normalised image [n, 3, h, w] -> path 1, [n, FEATURES, h/2, w/2]."""
        path, maps = None, self.pretrained(x)
        for k in (4, 3, 2, 1):
            layer = getattr(self.scratch, f"layer{k}_rn")(maps[k - 1])
            path = getattr(self.scratch, f"refinenet{k}")(layer, path)
        return path

    def scores(self, path, texts):
        """Path 1 as pixels [n, p, FEATURES], unit label vectors [n or 1, labels, EMBEDDING] -> [n, p, labels]:
        1/0.07 · cosine(head1(path), text), without forming head1's output (EMBEDDING > FEATURES)."""
        weight, bias = self.scratch.head1.weight[:, :, 0, 0], self.scratch.head1.bias
        texts = texts.expand(len(path), -1, -1)
        dots = torch.baddbmm((texts @ bias).unsqueeze(1), path, (texts @ weight).transpose(1, 2))
        squares = ((path @ (weight.T @ weight)) * path).sum(-1) + 2 * (path @ (weight.T @ bias)) + bias @ bias
        return LOGIT_SCALE * dots * torch.rsqrt(squares.clamp_min(1e-6)).unsqueeze(-1)


def pixels(path):
    """[n, c, h, w] -> [n, h·w, c]"""
    return path.flatten(2).transpose(1, 2)
