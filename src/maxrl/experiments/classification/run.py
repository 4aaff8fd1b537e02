"""One arm with one seed: config in, folder out.

FOLDER/
    config.yaml          the resolved options, with this run's arm and seed
    environment.json     versions, commit, machine class, threads
    metrics.jsonl        rows of training, with `step` and `elapsed`, and of the test set after every epoch (`eval_…`)
    checkpoint.pt        the newest one; gone when the run is done
    model.safetensors    the trained classifier
    error.txt            why a run failed
    run.json             written last: the run is done
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from maxrl.errors import MaxRLError
from maxrl.evaluation.files import atomic_text
from maxrl.experiments.classification.config import ClassifyConfig
from maxrl.experiments.classification.data import Batch, Data
from maxrl.experiments.classification.measures import Measures, evaluate
from maxrl.experiments.classification.models import build_model
from maxrl.experiments.classification.objective import Arm, Objective, weighted_loss
from maxrl.experiments.environment import write_environment
from maxrl.experiments.interrupts import Interrupted, InterruptWatch
from maxrl.experiments.store.metrics_file import append_rows, keep_rows

CHECKPOINT = "checkpoint.pt"


class Diverged(MaxRLError):
    """Logits or a test that are no numbers: the run cannot go on."""


@dataclass(frozen=True)
class Run:
    """One arm, one seed, and where it leaves what it does."""

    arm: Arm
    seed: int
    folder: Path

    @property
    def done(self) -> bool:
        """Whether it has reached its end."""
        return (self.folder / "run.json").is_file()

    @property
    def begun(self) -> bool:
        """Whether there is something that would be missed."""
        return self.done or (self.folder / CHECKPOINT).is_file()


Watch = Callable[[int, int, str], None]
"""Called with the step, the number of steps, and a note."""


def train_run(run: Run, config: ClassifyConfig, data: Data, *, watch: Watch = lambda *_: None) -> None:
    """Train, test before and after every epoch, and leave everything in the run's folder.

    A run goes on from its checkpoint where there is one, and ends with the weights of an undisturbed one: on a CPU of the
    same kind, with as many threads, bit for bit.

    Raises:
        Diverged: logits or the log-likelihood of the test set are not finite.
        Interrupted: Ctrl-C, after a checkpoint.
    """
    trainer = _Trainer(run, config, data)
    trainer.resume()
    write_environment(run.folder, {"device": str(trainer.device)})
    with InterruptWatch() as interrupt:
        if trainer.step == 0:
            trainer.test()
        while trainer.step < trainer.steps:
            for inputs, labels in trainer.rest_of_epoch():
                trainer.train_step(inputs, labels)
                if trainer.step % trainer.steps_per_epoch == 0:
                    trainer.test()
                # Looked at once: Ctrl-C after the checkpoint stops after the next step, with a checkpoint of that.
                interrupted = interrupt.pressed
                if interrupted or trainer.step % config.save_steps == 0:
                    trainer.save()
                watch(trainer.step, trainer.steps, trainer.note)
                if interrupted:
                    raise _interrupted(f"at step {trainer.step} of {run.folder.name}")
        trainer.finish()
        if interrupt.pressed:  # in the last moment: the run is done, but others may wait
            raise _interrupted(f"after {run.folder.name}")


def _interrupted(where: str) -> Interrupted:
    return Interrupted(f"interrupted {where}; go on with the same command and --resume_from_checkpoint true")


def learning_rate(config: ClassifyConfig, step: int, steps: int) -> float:
    """Of the update after `step` others; with `cosine` lr·(1 + cos(π·step/steps))/2."""
    if config.lr_scheduler_type == "constant":
        return config.learning_rate
    return config.learning_rate * (1 + math.cos(math.pi * step / steps)) / 2


class _Trainer:
    """A run on its way: model, optimizer, objective, step, and the rows since the last log."""

    def __init__(self, run: Run, config: ClassifyConfig, data: Data) -> None:
        self.run, self.config, self.data = run, config, data
        self.device = config.torch_device()
        self.model: nn.Module = build_model(
            config.model,
            inputs=data.input_size,
            classes=data.num_classes,
            hidden_size=config.hidden_size,
            num_layers=config.num_layers,
            seed=run.seed,
        ).to(self.device)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        self.objective = Objective(run.arm, seed=run.seed, device=self.device)
        self.steps_per_epoch = data.train_examples // config.per_device_train_batch_size
        self.steps = self.steps_per_epoch * config.num_train_epochs
        self.step = 0
        self.note = ""
        self.tested: Measures | None = None
        self._pending: list[dict[str, Tensor]] = []
        self._elapsed_before = 0.0
        self._started = time.perf_counter()

    def rest_of_epoch(self) -> Iterator[Batch]:
        """The batches that this epoch still has."""
        epoch, first = divmod(self.step, self.steps_per_epoch)
        return self.data.train_batches(seed=self.run.seed, epoch=epoch, first=first)

    def train_step(self, inputs: Tensor, labels_B: Tensor) -> None:
        """One update; none where no image has any signal, since momentum and weight decay would move the weights."""
        inputs, labels_B = (t.to(self.device, non_blocking=True) for t in (inputs, labels_B))
        rate = learning_rate(self.config, self.step, self.steps)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bf16):
            logits_BV = self.model(inputs)
        if not bool(logits_BV.isfinite().all()):  # nothing could be drawn from them
            raise self._diverged("logits are")
        log_p_BV = torch.log_softmax(logits_BV.float(), dim=1)
        weighted = self.objective.weigh(log_p_BV.detach(), labels_B, step=self.step)
        loss = weighted_loss(weighted.weights_BV, log_p_BV)
        signal_found = bool(weighted.weights_BV.any())
        if signal_found:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        self.step += 1
        self._note_step(loss, log_p_BV, labels_B, weighted.successes_B, signal_found)
        if self.step % self.config.logging_steps == 0 or self.step == self.steps:
            self._log(rate)

    def test(self) -> None:
        """A row of the test set. Only here is seen what the last update has done."""
        tested = evaluate(self.model, self.data.test_batches(), self.config.eval_ks, self.device)
        if not math.isfinite(tested.nll):
            raise self._diverged("the log-likelihood of the test set is")
        self.tested = tested
        measures = {f"eval_pass@{k}": value for k, value in self.tested.pass_at_k.items()}
        self._write(measures | {"eval_top_1": self.tested.top_1, "eval_nll": self.tested.nll})
        self.note = f"pass@1 {self.tested.pass_at_k[1]:.3f}  top-1 {self.tested.top_1:.3f}"

    def save(self) -> None:
        """Replace the checkpoint."""
        partial = self.run.folder / (CHECKPOINT + ".partial")
        state = {
            "step": self.step,
            "elapsed": self._elapsed(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "objective": self.objective.state_dict(),
            "pending": self._pending,
            "tested": self.tested.to_dict() if self.tested else None,
        }
        torch.save(state, partial)
        os.replace(partial, self.run.folder / CHECKPOINT)

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one; rows that were written after it are dropped."""
        path = self.run.folder / CHECKPOINT
        if path.is_file():
            saved = torch.load(path, map_location=self.device, weights_only=True)
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.objective.load_state_dict(saved["objective"])
            self.step, self._pending = saved["step"], saved["pending"]
            self.tested = Measures.from_dict(saved["tested"]) if saved["tested"] else None
            self._elapsed_before = saved["elapsed"]
            keep_rows(self._metrics, self.step)
        else:
            keep_rows(self._metrics, -1)  # not even the test before the first step, which comes again

    def finish(self) -> None:
        """Leave the classifier, and say that the run is done."""
        assert self.tested is not None, "every run is tested before its first step and after its last"
        save_file(self.model.state_dict(), self.run.folder / "model.safetensors")
        summary = {
            "arm": self.run.arm.name,
            "seed": self.run.seed,
            "steps": self.steps,
            "training_seconds": round(self._elapsed(), 3),
            "evaluation": self.tested.to_dict(),
        }
        with atomic_text(self.run.folder / "run.json") as sink:
            json.dump(summary, sink, indent=2)
        (self.run.folder / CHECKPOINT).unlink(missing_ok=True)

    def _diverged(self, what: str) -> Diverged:
        return Diverged(
            f"{what} not finite at step {self.step} of {self.run.folder.name}; lower the learning_rate"
        )

    @property
    def _metrics(self) -> Path:
        return self.run.folder / "metrics.jsonl"

    def _elapsed(self) -> float:
        return self._elapsed_before + time.perf_counter() - self._started

    def _note_step(
        self,
        loss: Tensor,
        log_p_BV: Tensor,
        labels_B: Tensor,
        successes_B: Tensor | None,
        signal_found: bool,
    ) -> None:
        """Keep a step's figures until they are logged, on the device, from which they are then read all at once."""
        row = {
            "loss": loss.detach(),
            "p_correct": log_p_BV.detach().gather(1, labels_B[:, None]).exp().mean(),
            "steps_without_signal": loss.new_tensor(float(not signal_found)),
        }
        if successes_B is not None:
            n = self.run.arm.num_generations
            row["success_rate"] = successes_B.mean() / n
            row["frac_reward_zero_mean"] = (successes_B == 0).float().mean()
            row["frac_reward_all_success"] = (successes_B == n).float().mean()
        self._pending.append(row)

    def _log(self, rate: float) -> None:
        """A row of means over the steps since the last one."""
        means = {
            name: float(torch.stack([row[name] for row in self._pending]).mean()) for name in self._pending[0]
        }
        self._pending = []
        self._write({**means, "learning_rate": rate})

    def _write(self, values: dict[str, float]) -> None:
        epoch = round(self.step / self.steps_per_epoch, 4)
        row = {"step": self.step, "epoch": epoch, "elapsed": round(self._elapsed(), 3), **values}
        append_rows(self._metrics, [row])
