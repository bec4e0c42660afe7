"""The network as fast as PyTorch makes it."""


def define_network():
    """The class, made late: this file must load without PyTorch."""
    import torch
    import torch.nn as nn
    import torch.nn.functional as F

    from lseg_reference import LOGIT_SCALE

    def folded(conv, norm):
        """A convolution and the batch norm after it as one (weight, bias) in float32."""
        fused = nn.utils.fuse_conv_bn_eval(conv, norm)
        return fused.weight.detach(), fused.bias.detach()

    def image(x, height, width):
        """Rows [height·width, C] as [1, C, height, width]; the memory is NHWC and stays where it is."""
        return x.view(1, height, width, -1).permute(0, 3, 1, 2)

    def rows(x):
        """The other way."""
        return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])

    def upsampled(x):
        return F.interpolate(x, size=(2 * x.shape[2], 2 * x.shape[3]), mode="bilinear", align_corners=True)

    class Network(nn.Module):
        """`reference` (a float32 Lseg with a ViT and without a head block) for photos of one size and these labels."""

        def __init__(self, reference, text, size, form, dtype, fused_convs):
            super().__init__()
            config = reference.config
            assert config["image"]["kind"] == "vit" and config["head_block"]["kind"] == "none", "not made for this network"
            self.form, self.size, self.features = form, tuple(size), config["features"]
            self.patch, self.heads, self.hooks = (config["image"][name] for name in ("patch", "heads", "hooks"))
            self.grid = (size[0] // self.patch, size[1] // self.patch)
            self.fused_convs = fused_convs and form != "published"
            self.dtype, self.labels = dtype, len(text)
            self.names = []
            self._encoder(reference, config)
            self._decoder(reference)
            self._head(reference, text)

        def keep(self, name, tensor):
            """A constant in the network's type; images' kernels as NHWC."""
            tensor = tensor.detach().to(self.dtype)
            layout = torch.channels_last if tensor.dim() == 4 else torch.contiguous_format
            self.register_buffer(name, tensor.contiguous(memory_format=layout).clone(memory_format=layout))

        def linear(self, name, weight, bias=None):
            self.keep(f"{name}_w", weight)
            if bias is not None:
                self.keep(f"{name}_b", bias)

        def product(self, name, x):
            return F.linear(x, getattr(self, f"{name}_w"), getattr(self, f"{name}_b", None))

        def conv(self, name, x, stride=1, relu=False):
            weight, bias = getattr(self, f"{name}_w"), getattr(self, f"{name}_b", None)
            if relu and self.fused_convs:
                return torch.cudnn_convolution_relu(x, weight, bias, (stride, stride), (1, 1), (1, 1), 1)
            y = F.conv2d(x, weight, bias, stride, weight.shape[2] // 2)
            return F.relu(y) if relu else y

        # -- the encoder

        def _encoder(self, reference, config):
            vit, (h, w) = reference.pretrained.model, self.grid
            mean, std = (torch.tensor(config[name], device=vit.pos_embed.device) for name in ("mean", "std"))
            self.keep("pixel_scale", 1 / (255 * std))
            self.keep("pixel_shift", -mean / std)
            square = vit.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (vit.grid, vit.grid))
            resized = F.interpolate(square, size=(h, w), mode="bilinear", align_corners=False)[0].flatten(1).T
            self.keep("first", vit.cls_token[0] + vit.pos_embed[0, :1])
            proj = vit.patch_embed["proj"]
            if self.form == "published":
                self.linear("patches", proj.weight, proj.bias)
                self.keep("positions", resized)
            else:
                self.keep("patches_w", proj.weight.permute(0, 2, 3, 1).flatten(1))
                self.keep("positions", resized + proj.bias)
            for i, block in enumerate(vit.blocks):
                for name, module in (("norm1", block.norm1), ("qkv", block.attn.qkv), ("proj", block.attn.proj),
                                     ("norm2", block.norm2), ("fc1", block.mlp["fc1"]), ("fc2", block.mlp["fc2"])):  # fmt: skip
                    self.linear(f"block{i}_{name}", module.weight, module.bias)
            dim = config["image"]["dim"]
            self.depth = len(vit.blocks)
            self.resample = []
            for k in range(1, 5):
                post = getattr(reference.pretrained, f"act_postprocess{k}")
                readout = post[0].project[0]
                if self.form == "published":
                    self.linear(f"readout{k}", readout.weight, readout.bias)
                else:
                    self.linear(f"readout{k}", readout.weight[:, :dim])
                    self.linear(f"readout{k}_first", readout.weight[:, dim:], readout.bias)
                self.linear(f"map{k}", post[3].weight.flatten(1), post[3].bias)
                self.resample.append(self._resample(k, post[4]) if len(post) > 4 else None)

        def _resample(self, k, module):
            if isinstance(module, nn.Conv2d):
                self.linear(f"resample{k}", module.weight, module.bias)
                return "down"
            side = module.stride[0]
            if self.form == "published":
                self.linear(f"resample{k}", module.weight, module.bias)
            else:  # stride = kernel: a product with every tap, then the taps to their places
                weight = module.weight.permute(2, 3, 1, 0).flatten(0, 2)
                self.linear(f"resample{k}", weight, module.bias.repeat(side * side))
            return side

        def tokens(self, photo):
            """uint8 [H, W, 3] → [1 + h·w, dim]."""
            (h, w), p = self.grid, self.patch
            if self.form == "published":
                pixels = photo.permute(2, 0, 1)[None].to(self.dtype)
                pixels = pixels * self.pixel_scale.view(1, 3, 1, 1) + self.pixel_shift.view(1, 3, 1, 1)
                x = rows(F.conv2d(pixels, self.patches_w, self.patches_b, p)) + self.positions
            else:
                pixels = photo.view(h, p, w, p, 3).permute(0, 2, 1, 3, 4).to(self.dtype)
                pixels = torch.addcmul(self.pixel_shift, pixels, self.pixel_scale)
                x = torch.addmm(self.positions, pixels.reshape(h * w, p * p * 3), self.patches_w.t())
            return torch.cat([self.first, x])

        def norm(self, name, x):
            return F.layer_norm(x, x.shape[-1:], getattr(self, f"{name}_w"), getattr(self, f"{name}_b"), 1e-6)

        def block(self, name, x):
            tokens, dim = x.shape
            qkv = self.product(f"{name}_qkv", self.norm(f"{name}_norm1", x))
            q, k, v = qkv.view(1, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
            attended = F.scaled_dot_product_attention(q, k, v)
            x = x + self.product(f"{name}_proj", attended.transpose(1, 2).reshape(tokens, dim))
            hidden = F.gelu(self.product(f"{name}_fc1", self.norm(f"{name}_norm2", x)))
            return x + self.product(f"{name}_fc2", hidden)

        def hook(self, k, x):
            """A hook's tokens → its map [1, C, ...]."""
            h, w = self.grid
            if self.form == "published":
                x = torch.cat([x[1:], x[:1].expand(h * w, -1)], -1)
                x = self.product(f"readout{k}", x)
            else:
                x = F.linear(x[1:], getattr(self, f"readout{k}_w"), self.product(f"readout{k}_first", x[0]))
            x = self.product(f"map{k}", F.gelu(x))
            side = self.resample[k - 1]
            if side == "down":
                return self.conv(f"resample{k}", image(x, h, w), 2)
            if side is None:
                return image(x, h, w)
            if self.form == "published":
                weight, bias = getattr(self, f"resample{k}_w"), getattr(self, f"resample{k}_b")
                return F.conv_transpose2d(image(x, h, w), weight, bias, side)
            taps = self.product(f"resample{k}", x).view(h, w, side, side, -1)
            return image(taps.permute(0, 2, 1, 3, 4).reshape(h * side * w * side, -1), h * side, w * side)

        # -- the decoder

        def _decoder(self, reference):
            scratch = reference.scratch
            for k in range(1, 5):
                self.linear(f"rn{k}", getattr(scratch, f"layer{k}_rn").weight)
                refine = getattr(scratch, f"refinenet{k}")
                for unit in (1, 2) if k < 4 else (2,):
                    module = getattr(refine, f"resConfUnit{unit}")
                    self.linear(f"unit{k}{unit}1", *folded(module.conv1, module.bn1))
                    self.linear(f"unit{k}{unit}2", *folded(module.conv2, module.bn2))
                self.linear(f"out{k}", refine.out_conv.weight.flatten(1), refine.out_conv.bias)

        def unit(self, name, x):
            return x + self.conv(f"{name}2", self.conv(f"{name}1", F.relu(x), relu=True))

        def out(self, k, x):
            """Up by two, then the 1×1 convolution; or in the other order, which is the same: bilinear weights sum to one."""
            if self.form == "published":
                x = upsampled(x)
                return image(self.product(f"out{k}", rows(x)), *x.shape[2:])
            return upsampled(image(self.product(f"out{k}", rows(x)), *x.shape[2:]))

        def refined(self, photo):
            """uint8 [H, W, 3] → what the last refinement gives before its upsampling [1, features, H/4, W/4]."""
            x, maps = self.tokens(photo), {}
            for i in range(self.depth):
                x = self.block(f"block{i}", x)
                for k, hook in enumerate(self.hooks, 1):
                    if hook == i:
                        maps[k] = self.conv(f"rn{k}", self.hook(k, x))
            path = self.unit("unit42", maps[4])
            for k in (3, 2, 1):
                path = self.out(k + 1, path) + self.unit(f"unit{k}1", maps[k])
                path = self.unit(f"unit{k}2", path)
            return path

        # -- the head

        def _head(self, reference, text):
            """The labels' rows are brought to a multiple of 8: products with 5 columns have no fast kernel."""
            head, out = reference.scratch.head1, reference.scratch.refinenet1.out_conv
            bank = F.normalize(text.double().to(head.weight.device), dim=1) * LOGIT_SCALE
            bank = F.pad(bank, (0, 0, 0, -len(bank) % 8))
            weight, bias = head.weight.double().flatten(1), head.bias.double()
            if self.form != "folded":
                self.linear("head", weight, bias)
                self.linear("bank", bank)
                return
            # e = W x + b with out_conv in it. W = Q R with orthonormal columns, so |e|² = |R x + Qᵀ b|² + |b − Q Qᵀ b|².
            bias = bias + weight @ out.bias.double()
            weight = weight @ out.weight.double().flatten(1)
            self.linear("head", weight, bias)
            q, r = torch.linalg.qr(weight)
            apart = bias - q @ (q.T @ bias)
            self.register_buffer("apart", apart.square().sum().float())  # a number here would be compiled in
            self.lengths = len(r)
            self.linear("labelled", torch.cat([r, bank @ weight]), torch.cat([q.T @ bias, bank @ bias]))

        def embed(self, photo):
            """uint8 [H, W, 3] → embeddings [H/2, W/2, C], of any length."""
            x = self.refined(photo)
            if self.form == "folded":
                return upsampled(image(self.product("head", rows(x)), *x.shape[2:]))[0].permute(1, 2, 0)
            x = self.out(1, x)
            return self.product("head", rows(x)).view(*x.shape[2:], -1)

        def scores(self, photo):
            """uint8 [H, W, 3] → float32 [1, N, H, W]."""
            if self.form == "folded":
                x = self.refined(photo)
                x = upsampled(image(self.product("labelled", rows(x)), *x.shape[2:]))[0].permute(1, 2, 0)
                towards = x[..., self.lengths : self.lengths + self.labels]
                length = torch.linalg.vector_norm(x[..., : self.lengths], dim=-1, keepdim=True, dtype=torch.float32)
                logits = towards.float() * (length.square() + self.apart).rsqrt()
            else:
                x = self.embed(photo)
                length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
                logits = self.product("bank", x)[..., : self.labels].float() / length
            return upsampled(logits.permute(2, 0, 1)[None].contiguous())

        def mask(self, photo):
            """uint8 [H, W, 3] → uint8 [H, W]."""
            return self.scores(photo)[0].argmax(0).to(torch.uint8)

    return Network
