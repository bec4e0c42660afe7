"""Several processes that share a batch (`torchrun`): sums over all of them, batch norm included. One process alone
needs none of it and computes the same."""

import os

import torch
import torch.distributed as dist
from torch import nn

from .errors import Refused


class Ranks:
    """`rank` of `count` processes; gloo on the CPU, NCCL on CUDA."""

    def __init__(self, device="auto"):
        self.rank, self.count = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        if kind.startswith("cuda") and not torch.cuda.is_available():
            raise Refused('run.device is cuda, but PyTorch sees no GPU here; device = "cpu" computes without one')
        if kind == "cuda":
            kind = f"cuda:{int(os.environ.get('LOCAL_RANK', 0))}"
        self.device = torch.device(kind)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        if self.count > 1:
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")

    @property
    def first(self):
        return self.rank == 0

    def sum(self, numbers):
        """float64 [n] of each process -> their sums."""
        numbers = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        if self.count > 1:
            dist.all_reduce(numbers)
        return numbers.tolist()

    def sum_gradients(self, parameters):
        """Each process has the gradient of its part of one sum: adds them up, in place. Those without a gradient are
        left out; all processes have the same."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.count == 1 or not gradients:
            return
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()

    def close(self):
        """At a good end. Where one process fails, `torchrun` ends the others: none waits for it here."""
        if self.count > 1:
            dist.barrier()
            dist.destroy_process_group()


class _SumOverRanks(torch.autograd.Function):
    """All-reduce whose gradient is the all-reduce of gradients."""

    @staticmethod
    def forward(_, x):
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(_, gradient):
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient


class SharedBatchNorm(nn.BatchNorm2d):
    """Statistics of all processes' samples, as torch's SyncBatchNorm has them, which takes no CPU tensors."""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        count = _SumOverRanks.apply(x.new_tensor([x.numel() / x.shape[1]]))
        mean = _SumOverRanks.apply(x.sum((0, 2, 3))) / count
        x = x - mean.view(1, -1, 1, 1)
        variance = _SumOverRanks.apply((x * x).sum((0, 2, 3))) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
            self.num_batches_tracked += 1
        factor = self.weight * torch.rsqrt(variance + self.eps)
        return x * factor.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


def share_batch_norm(model, ranks):
    """The model with batch statistics over all processes; as it is where there is one."""
    if ranks.count == 1:
        return model
    if ranks.device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm
    return model
