"""`lseg-train fit`: steps, validation, states, files. What it does is a function of the configuration alone: a run that
was stopped and goes on ends with the weights of one that was not."""

import contextlib
import math
import signal
import time

import torch

from .batches import batches, offered_vectors
from .begin import beginning, data_of, refuse_crop
from .errors import Refused
from .judge import validate
from .log import Log, Look
from .loss import cross_entropy, full_size_scores, normalised
from .order import Order
from .ranks import Ranks, share_batch_norm
from .recipes import rate
from .state import Keeper

MOST_NOT_FINITE = 10


class Trainer:
    """A network with its optimiser, and what a step does to them."""

    def __init__(self, begun, recipe, ranks):
        self.recipe, self.ranks, self.config, self.words = recipe, ranks, begun.config, begun.words
        self.without_block = begun.without_block
        model = begun.model.to(ranks.device, memory_format=torch.channels_last)
        model.recompute(recipe.recompute)
        self.model = share_batch_norm(model, ranks) if recipe.bn == "batch" else model
        self.optimiser = optimiser(self.model, recipe, begun.block_rate)
        self.mean = (
            {k: v.clone() for k, v in self.model.state_dict().items() if v.is_floating_point()} if recipe.ema else {}
        )
        self.step, self.not_finite = 0, 0

    def training_mode(self):
        self.model.train()
        if self.recipe.bn == "frozen":
            for module in self.model.modules():
                if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def autocast(self):
        wanted = self.recipe.precision == "bfloat16" and self.ranks.device.type == "cuda"
        return torch.autocast("cuda", torch.bfloat16) if wanted else contextlib.nullcontext()

    def loss(self, batch):
        """(sum over the pixels that count, their number), of this process's samples."""
        device = self.ranks.device
        texts, offered = offered_vectors(batch.words, self.words)
        x = normalised(batch.images.to(device, non_blocking=True), self.config)
        answers = batch.answers.to(device, non_blocking=True)
        offered = None if offered is None else offered.to(device)
        with self.autocast():
            scores = full_size_scores(self.model, x, texts.to(device), offered, self.step >= self.without_block)
        return cross_entropy(scores, answers), int((answers >= 0).sum())

    def learn(self, batch, new_rate):
        """One step -> (mean loss, gradient norm, whether the step was taken)."""
        self.training_mode()
        statistics = [b for k, b in self.model.named_buffers() if "running_" in k]
        before = [b.clone() for b in statistics]
        self.optimiser.zero_grad(set_to_none=True)
        total, count = self.loss(batch)
        whole, counted = self.ranks.sum([total.item(), count])
        norm = float("nan")
        if math.isfinite(whole):
            (total / max(1.0, counted)).backward()
            parameters = list(self.model.parameters())
            self.ranks.sum_gradients(parameters)
            norm = torch.nn.utils.clip_grad_norm_(parameters, self.recipe.clip or float("inf")).item()
        taken = math.isfinite(norm)
        if taken:
            for group in self.optimiser.param_groups:
                group["lr"] = new_rate * group["factor"]
            self.optimiser.step()
            self.follow()
        else:
            self.not_finite += 1
            for buffer, value in zip(statistics, before):
                buffer.copy_(value)
        self.step += 1
        return whole / max(1.0, counted), norm, taken

    def follow(self):
        """The mean of past weights takes a step towards today's."""
        if not self.mean:
            return
        keep = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        now = self.model.state_dict()
        with torch.no_grad():
            torch._foreach_lerp_(list(self.mean.values()), [now[k] for k in self.mean], 1 - keep)

    def weights(self):
        """What is validated and written."""
        return self.model.state_dict() | self.mean

    @contextlib.contextmanager
    def averaged(self):
        """The model with the mean of past weights, for validation."""
        if not self.mean:
            yield self.model
            return
        now = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.model.load_state_dict(self.weights())
        try:
            yield self.model
        finally:
            self.model.load_state_dict(now)

    def block(self):
        """Gain (sum of the kernel) and bias of the head block, for the log."""
        if not self.model.regularised:
            return {}
        kernels = self.model.scratch.head_block.kernels()
        return {
            "gain": [round(k.weight.sum().item(), 5) for k in kernels],
            "bias": [round(k.bias.item(), 5) for k in kernels],
        }


def optimiser(model, recipe, block_rate):
    """Encoder at `rate`, the decoder at `decoder_rate` times that (as published: `pretrained` and `scratch`), the head
    block at `block_rate` times (docs/regularisation.md). With AdamW, vectors (norms, biases) are not decayed."""
    block = list(model.scratch.head_block.parameters()) if model.regularised else []
    decoder = [p for p in model.scratch.parameters() if not any(p is b for b in block)]
    parts = [("encoder", list(model.pretrained.parameters()), 1.0), ("decoder", decoder, recipe.decoder_rate)]
    groups = []
    for name, parameters, factor in [*parts, ("head block", block, block_rate)]:
        split = [(parameters, recipe.weight_decay)]
        if recipe.optimiser == "adamw":
            decayed, rest = ([p for p in parameters if (p.dim() > 1) == matrix] for matrix in (True, False))
            split = [(decayed, recipe.weight_decay), (rest, 0.0)]
        groups += [
            {"params": some, "weight_decay": decay, "factor": factor, "name": name} for some, decay in split if some
        ]
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(groups, recipe.rate, momentum=recipe.momentum)
    return torch.optim.AdamW(groups, recipe.rate)


class Told:
    """Whether SIGTERM or SIGINT came; the second one ends the process as ever. What whoever started it has ignored (a
    script's `&`) stays ignored."""

    def __init__(self):
        self.number = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self.note)

    def note(self, number, _):
        self.number = number
        signal.signal(number, signal.SIG_DFL)


class Fit:
    """A run from its beginning, or from its state, to its end."""

    def __init__(self, config):
        self.config, self.recipe, self.ranks = config, config.recipe, Ranks(config.file.run.device)
        if config.file.run.threads:
            torch.set_num_threads(config.file.run.threads)
        self.told = Told()
        self.data, self.validation = data_of(config)
        photos = sum(map(len, self.data))
        if self.ranks.count > min(photos, self.recipe.batch):
            raise Refused(
                f"{self.ranks.count} processes share {photos} photos in batches of {self.recipe.batch}: at most one "
                "process a photo of the batch is expected; start fewer"
            )
        if self.recipe.batch % self.ranks.count:
            raise Refused(
                f"train.batch is {self.recipe.batch}, a multiple of the {self.ranks.count} processes is expected"
            )
        self.order = Order([len(d) for d in self.data], [d.weight for d in self.data], self.recipe)
        self.steps_an_epoch = self.order.epoch_samples // self.recipe.batch
        self.steps = self.recipe.steps or self.recipe.epochs * self.steps_an_epoch
        begun = beginning(config)
        refuse_crop(self.recipe, begun)
        begun.words.learn(w for d in (*self.data, *self.validation) for w in d.words())
        self.begun, self.trainer = begun, Trainer(begun, self.recipe, self.ranks)
        self.keeper = Keeper(config, begun, self.ranks)
        self.keeper.take_up(self.trainer)
        self.log = Log(config.out / "log.jsonl", self.ranks, self.trainer.step, self.keeper.judged)
        self.not_finite_photos = []

    def say(self, text):
        if self.ranks.first:
            print(text, flush=True)

    def run(self):
        """-> exit code: 0 done, 128 + the signal that ended it."""
        try:
            return self.steps_to_the_end()
        except torch.OutOfMemoryError as error:
            raise Refused(
                f"the GPU's memory is out ({str(error).splitlines()[0]}). Smaller train.batch ({self.recipe.batch}) or "
                f'train.crop ({self.recipe.crop}), train.recompute = true or train.precision = "bfloat16" take less'
            ) from None
        except RuntimeError as error:  # of torch's handler of SIGCHLD, wherever the run is at that moment
            if not str(error).startswith("DataLoader worker"):
                raise
            raise Refused(
                f"a process that reads photos was ended from outside ({str(error).splitlines()[0]}), mostly since "
                f"memory or /dev/shm was full; fewer run.workers ({self.config.file.run.workers}; 0: none) take less. "
                "The same call goes on from the last state"
            ) from None

    def steps_to_the_end(self):
        trainer, run = self.trainer, self.config.file.run
        self.say(
            f"{sum(map(len, self.data))} photos in {len(self.data)} data sets, {self.steps} steps of "
            f"{self.recipe.batch}, from step {trainer.step}, on {self.ranks.count} × {self.ranks.device}"
        )
        self.judge_if_due()
        coming = batches(self.data, self.order, self.recipe, self.ranks, trainer.step, self.steps, run.workers)
        look, saved = Look(self.log, self.recipe.batch, self.steps), time.monotonic()
        while trainer.step < self.steps and not self.keeper.stopped_early:
            batch = next(coming)
            at = rate(self.recipe, trainer.step, self.steps, self.steps_an_epoch)
            loss, norm, taken = trainer.learn(batch, at)
            look.step(loss)
            if not taken:
                self.left_out(batch, loss, norm)
            if trainer.step % run.log_every == 0 or trainer.step == self.steps:
                self.say(f"step {trainer.step} of {self.steps}, {look.line(trainer, at, norm)}")
            told, due = self.ranks.sum([self.told.number != 0, time.monotonic() - saved > 60 * run.minutes])
            if self.judge_if_due() or told or due:
                self.keeper.save(trainer)
                saved = time.monotonic()
            if told:
                self.say(f"stopped at step {trainer.step}; the same call goes on from there")
                return 128 + (self.told.number or signal.SIGTERM)
        self.keeper.finish(trainer)
        self.say(f"done: {self.config.out / 'last.safetensors'}")
        return 0

    def left_out(self, batch, loss, norm):
        """Tells of a step that was not taken; too many of them end the run."""
        self.not_finite_photos += batch.titles
        self.say(f"step {self.trainer.step}: not finite (loss {loss}, gradient {norm}); left out")
        if self.trainer.not_finite >= MOST_NOT_FINITE:
            raise Refused(
                f"loss or gradient was not finite in {MOST_NOT_FINITE} steps; a smaller train.rate or train.clip is "
                f"expected to help. Their photos: {', '.join(dict.fromkeys(self.not_finite_photos))}"
            )

    def judge_if_due(self):
        """Validates at the end of an epoch, once; whether it did."""
        trainer = self.trainer
        ended = trainer.step % self.steps_an_epoch == 0 or trainer.step == self.steps
        if not ended or trainer.step in (0, self.keeper.judged) or not self.validation:
            return False
        self.keeper.save(trainer)  # a validation may take longer than whoever stops the run waits
        size = self.config.file.run.size or self.recipe.crop
        with trainer.averaged() as model:
            tally = validate(model, trainer.config, trainer.words, self.validation, size, self.ranks)
        mean_iou = tally.mean_iou()
        self.log.line(
            step=trainer.step, epoch=trainer.step // self.steps_an_epoch, mean_iou=mean_iou,
            pixel_accuracy=tally.accuracy(), dead_labels=tally.dead(),
        )  # fmt: skip
        self.say(
            f"epoch {trainer.step // self.steps_an_epoch}: validation mIoU {mean_iou:.4f}, pixels {tally.accuracy():.4f}"
        )
        self.keeper.judged_with(trainer, mean_iou)
        return True


def fit(config):
    """The whole command -> exit code."""
    run = Fit(config)
    code = run.run()
    run.log.close()
    run.ranks.close()
    return code
