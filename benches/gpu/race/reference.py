"""The reference: PyTorch in float32."""


def exact_float32():
    """No TF32 anywhere; for float16 it changes nothing."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def load_reference(folder, config, device):
    """The reference model in float32 on the device, mapped from the file on the way."""
    import torch

    import published  # noqa: F401  (the class names in the checkpoint's pickle)
    from lseg_reference import Lseg

    with torch.device("meta"):
        model = Lseg(config)
    state = torch.load(folder / "model.ckpt", map_location="cpu", mmap=True, weights_only=False)["state_dict"]
    model.load_state_dict({key.removeprefix("net."): tensor for key, tensor in state.items()}, assign=True)
    return model.to(device).float().eval().requires_grad_(False)


def reference_outputs(model, photo, text, device):
    """float32 (embeddings [h, w, C], scores [N, H, W]) on the device."""
    import torch

    exact_float32()
    with torch.device(device):  # the reference makes its constants where it runs
        pixels = torch.from_numpy(photo)[None].to(device)
        embedding, _, scores = model.score(model.decode(model.encode(model.normalise(pixels))[1]), text.to(device).float())
    return embedding[0].permute(1, 2, 0), scores[0]
