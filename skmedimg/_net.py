"""The one subclass of skorch's NeuralNet: training step, schedule, precision, history.

One loop (`run_single_epoch`) serves training and validation: it is given the step. No
value is read back from the device inside an epoch.
"""

import copy
import itertools
import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, EarlyStopping
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from skmedimg._checkpoint import Checkpoint
from skmedimg._checks import check_device, is_of_this_fit
from skmedimg._course import schedule_factor
from skmedimg._feed import Feed
from skmedimg._loss import probabilities
from skmedimg._modules import (
    drawing_for,
    draws_by_itself,
    lay_out_filters,
    trains_channels_last,
)
from skmedimg._random import drawing_from, undisturbed
from skmedimg.architectures._layers import Network
from skmedimg.augmentation import Mix
from skmedimg.exceptions import NonFiniteLossError

# So many images tell means and variances to a percent.
_SETTLING_IMAGES = 1024
# Least share of the newest images in them: weights have moved since the earlier ones.
_LEAST_SHARE = 0.1
# Share of the loss with blended statistics below which the newest images' own remain.
_FAR_BETTER = 0.9


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """Context in which the network computes in `precision`."""
    narrow = precision != torch.float32
    return torch.autocast(device.type, dtype=precision, enabled=narrow)


class ImageNet(NeuralNetClassifier):
    """A skorch net for prepared images; `CNNImageClassifier.net_` is one.

    It works by itself on prepared tensors: float32 of shape (n, C, *spatial), clipped
    or scaled and standardised as `image_spec_` records. `predict_proba` then gives
    class probabilities and `predict` indices into `classes_`.

    Parameters
    ----------
    module : torch.nn.Module
        Network that gives logits.
    criterion : ClassificationLoss
        Loss of every target.
    n_outputs : int
        Logits an image.
    augment : callable or None
        ``augment(batch, generator)`` gives the batch to train on, and how its labels
        are mixed (or None).
    schedule : {"one_cycle", "cosine", "constant"}
        Course of the learning rate over `horizon` epochs.
    horizon : int
        Epochs that the schedule is laid out for.
    l1 : float
        Factor of the sum of absolute weights in the loss.
    precision, inference_precision : torch.dtype
        Types that the module computes in, while it trains and afterwards.
    patience : int or None
        Epochs without a better validation loss before training stops.
    seed : int
        Of the generators of dropout and augmentation.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        criterion: nn.Module,
        n_outputs: int = 1,
        augment: Callable[..., tuple[torch.Tensor, Mix | None]] | None = None,
        schedule: str = "constant",
        horizon: int = 1,
        l1: float = 0.0,
        precision: torch.dtype = torch.float32,
        inference_precision: torch.dtype = torch.float32,
        patience: int | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(module, criterion=criterion, train_split=None, **kwargs)
        self.n_outputs = n_outputs
        self.augment = augment
        self.schedule = schedule
        self.horizon = horizon
        self.l1 = l1
        self.precision = precision
        self.inference_precision = inference_precision
        self.patience = patience
        self.seed = seed

    device: Any
    # Images that the statistics of BatchNorm are of; those of the calls before, and
    # the buffers of the network that `partial_fit` goes on from.
    n_seen_ = 0
    earlier_: tuple[int, dict[str, torch.Tensor]] | None = None

    # -- what skorch asks for ------------------------------------------------------

    @property
    def _default_callbacks(self) -> list:
        return []

    def initialize_module(self) -> "ImageNet":
        """Take the module that the estimator has built, in the fastest order."""
        self.module_ = self.module
        self.channels_last_ = trains_channels_last(
            self.module, torch.device(self.device), self.precision
        )
        lay_out_filters(self.module, channels_last=self.channels_last_)
        return self

    def initialize_criterion(self) -> "ImageNet":
        """Take the loss as it is."""
        self.criterion_ = self.criterion
        return self

    def initialize_optimizer(self, triggered_directly: Any = None) -> "ImageNet":
        """Make the optimizer from parameter groups: biases and norms do not decay."""
        self.optimizer_ = self.optimizer(self.module_, self.lr)
        return self

    def check_data(self, X: Any, y: Any = None) -> None:
        """Feeds have been checked by the estimator."""

    def get_dataset(self, X: Any, y: Any = None) -> Any:
        """Prepared tensors are their own data set."""
        return X

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Slices of a prepared tensor, as (batch, None)."""
        prepared = torch.as_tensor(dataset, dtype=torch.float32)
        return ((part, None) for part in prepared.split(self.batch_size))

    def _get_predict_nonlinearity(self) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda z: probabilities(z, self.criterion_.kind, self.n_outputs)

    def predict(self, X: Any) -> np.ndarray:
        """Indices of the most probable class, or label indicators."""
        proba = self.predict_proba(X)
        if self.criterion_.kind == "sigmoid" and self.n_outputs > 1:
            return (proba > 0.5).astype(int)
        return proba.argmax(axis=1)

    # -- training ------------------------------------------------------------------

    def start_generators(self) -> None:
        """Give augmentation and dropout a generator seeded by `seed`."""
        self.generator_ = torch.Generator(device=self.device).manual_seed(self.seed)

    def partial_fit(
        self, X: Any, y: Any = None, classes: Any = None, **fit_params: Any
    ) -> "ImageNet":
        """Train on feeds for `max_epochs` more epochs; Ctrl-C propagates."""
        for _ in self.epochs(X, fit_params.get("valid")):
            pass
        return self

    def epochs(
        self,
        train: Feed,
        valid: Feed | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Generator[int, None, None]:
        """Train epoch by epoch, and tell after each how many are done.

        While the caller looks, the module is in evaluation mode. Epochs that a
        checkpoint holds are not repeated.
        """
        ended = False
        try:
            yield from self._all_epochs(train, valid, checkpoint)
            ended = True
        except GeneratorExit:
            pass  # the caller has seen enough, and callbacks are to know of the end
        except BaseException as error:
            if checkpoint is not None and isinstance(error, NonFiniteLossError):
                checkpoint.remove()  # the same call would diverge again
            # They hold files and runs of this fit, which nothing else would close.
            for _, callback in filter(is_of_this_fit, self.callbacks_):
                callback.on_train_end(self, X=train, y=valid)
            self._let_go()
            raise
        self.notify("on_train_end", X=train, y=valid)
        self._let_go()
        if checkpoint is not None and ended:
            checkpoint.remove()

    def _all_epochs(
        self, train: Feed, valid: Feed | None, checkpoint: Checkpoint | None
    ) -> Iterator[int]:
        """Epochs as the caller is told of them; without what follows the last."""
        done = self._begin(train, valid, checkpoint)
        module = self.module_
        try:
            for epoch in range(done, self.max_epochs):
                # Whatever mode the caller is in.
                with torch.inference_mode(False), torch.enable_grad():
                    ends = self._run_epoch(epoch, train, valid)
                module.eval()
                self.ends_ = ends or epoch + 1 == self.max_epochs
                if checkpoint is not None and not self.ends_:
                    checkpoint.write(self, train, epoch + 1)
                yield epoch + 1
                if self.ends_:  # whoever looks may have set it
                    break
            if valid is None:
                self._settle_norms(train)
            elif self.best_[2]:
                module.load_state_dict(self.best_[2])
        finally:
            if isinstance(module, Network):
                module.set_generator(None)
            del self.generator_, self.alone_, self.best_
            del self.step_, self.n_steps_, self.ends_
            self.earlier_ = None
            module.eval()

    @torch.inference_mode(False)
    def _begin(
        self, train: Feed, valid: Feed | None, checkpoint: Checkpoint | None
    ) -> int:
        """Make what lives as long as training does; tell how many epochs are done."""
        if not self.initialized_:
            self.initialize()
        self.start_generators()
        self.alone_ = draws_by_itself(self.module_)
        if self.alone_:
            self.module_.set_generator(self.generator_)
        self.best_: tuple[float, int, dict] = (math.inf, 0, {})
        self.step_, self.ends_ = 0, False
        self.notify("on_train_begin", X=train, y=valid)
        # Callbacks have begun: what they have gathered since comes back as well.
        done = 0 if checkpoint is None else checkpoint.restore(self, train, valid)
        self.n_steps_ = max(1, self.horizon * train.n_batches)
        self.n_seen_ = len(train) + (self.earlier_[0] if self.earlier_ else 0)
        return done

    def _let_go(self) -> None:
        """Forget callbacks of this fit alone: they hold files, which do not pickle."""
        for name in ("callbacks", "callbacks_"):
            kept = [cb for cb in getattr(self, name) if not is_of_this_fit(cb)]
            setattr(self, name, kept)

    def _run_epoch(self, epoch: int, train: Feed, valid: Feed | None) -> bool:
        """One epoch and all that follows it; True if it is to be the last."""
        sides = {"dataset_train": train, "dataset_valid": valid}
        self.notify("on_epoch_begin", **sides)
        start = time.perf_counter()
        self.run_single_epoch(train, True, "train", self.train_step)
        if valid is not None:
            self._settle_norms(train)
        self.run_single_epoch(valid, False, "valid", self.validation_step)
        self._record(train, time.perf_counter() - start)
        self._keep_best(epoch)
        try:
            self.notify("on_epoch_end", **sides)
        except KeyboardInterrupt:
            if self._callback_stopped():
                return True
            raise
        return self.patience is not None and epoch - self.best_[1] >= self.patience

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **_: Any
    ) -> None:
        """One pass over a feed; the losses stay on the device until its end."""
        if iterator is None:
            return
        start_state = self._snapshot() if training else {}
        self._set_training(training)
        listeners = self._batch_listeners()
        # In place: a small tensor kept from each step would pin the memory between
        # them, a gigabyte after ten thousand steps.
        losses = torch.zeros(iterator.n_batches, device=self.device)
        correct = torch.zeros(2, device=self.device)
        sizes = []
        for step, batch in enumerate(iterator):
            if listeners:
                pair = batch[:2]
                self.notify("on_batch_begin", batch=pair, training=training)
            loss, y_pred = step_fn(batch)
            losses[step] = loss
            sizes.append(len(batch[0]))
            if not training:
                correct += self._correct(y_pred, batch)
            if listeners:
                seen = {"loss": loss, "y_pred": y_pred}
                self.notify("on_batch_end", batch=pair, training=training, **seen)
        if training:
            # The loss does not tell what its last step did to the weights.
            losses[-1] = losses[-1].where(self._finite(), math.nan)
        values = losses.cpu().double().numpy()
        if not np.isfinite(values).all():
            self._stop_at(int(np.argmin(np.isfinite(values))), start_state)
        loss = float(np.average(values, weights=sizes))
        # skorch's Checkpoint looks for a batch; a row for each would swell the model.
        self.history.new_batch()
        self.history.record_batch(f"{prefix}_loss", float(values[-1]))
        # Earlier fits of a warm start may have had no validation.
        before = [row.get(f"{prefix}_loss", math.inf) for row in self.history[:-1]]
        best = all(loss < value for value in before)
        self.history.record(f"{prefix}_loss", loss)
        self.history.record(f"{prefix}_loss_best", best)
        if not training:
            hits = correct.cpu().double().numpy()
            self.history.record(f"{prefix}_acc", float(hits[0] / hits[1]))

    def train_step(self, batch: Any, **_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """One step of the optimizer."""
        x, y, w = batch
        self._schedule()
        self.optimizer_.zero_grad(set_to_none=True)
        mix = None
        if self.augment is not None:
            x, mix = self.augment(x, self.generator_)
        y_pred = self.infer(x)
        if not isinstance(y_pred, torch.Tensor):
            raise TypeError(
                f"The network gives a {type(y_pred).__name__} while it trains, and a "
                "tensor otherwise: let it give the logits alone, for example by "
                "aux_logits=False in torchvision."
            )
        loss = self._weighted_loss(y_pred, y, w, mix)
        penalised = loss + self.l1 * self._absolute_weights() if self.l1 else loss
        with nullcontext() if self.alone_ else undisturbed():
            penalised.backward()
        if self._listens("on_grad_computed"):
            self.notify(
                "on_grad_computed",
                named_parameters=self.module_.named_parameters(),
                batch=(x, y),
                training=True,
            )
        self.optimizer_.step()
        return loss.detach(), y_pred.detach()

    def validation_step(
        self, batch: Any, **_: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and logits of a batch, without a gradient."""
        x, y, w = batch
        with torch.inference_mode():
            y_pred = self.infer(x)
            return self._weighted_loss(y_pred, y, w), y_pred

    def infer(self, x: torch.Tensor, **_: Any) -> torch.Tensor:
        """Logits of a batch of prepared images."""
        x = x.to(self.device)
        if self.module_.training and not self.channels_last_:
            x = torch.empty(x.shape, device=x.device).copy_(x)
        module = self.module_
        drawing: AbstractContextManager[None]
        if hasattr(self, "generator_"):  # gone when training ends
            drawing = nullcontext() if self.alone_ else drawing_from(self.generator_)
        else:
            generator = torch.Generator(self.device).manual_seed(self.seed)
            drawing = drawing_for(module, generator)
        with autocast(x.device, self._precision_now()), drawing:
            return module(x)

    def _precision_now(self) -> torch.dtype:
        return self.precision if self.module_.training else self.inference_precision

    def _set_training(self, training: bool = True) -> None:
        super()._set_training(training)
        if all(p.requires_grad for p in self.module_.parameters()):
            return
        for module in self.module_.modules():
            # The statistics of frozen features are frozen too.
            own = [*module.parameters(), *module.buffers()]
            if own and not any(p.requires_grad for p in own):
                module.eval()

    def _settle_norms(self, feed: Feed) -> None:
        """Take the statistics of BatchNorm from images as they are.

        Those of augmented images differ, which moves all probabilities and the accuracy
        at .5 with them (Wu & Johnson, "Rethinking 'Batch' in BatchNorm", 2021). Those
        of earlier calls count by their number of images, as a few of one class say
        little about all.
        """
        if self.augment is None:
            return
        self._set_training(True)  # which leaves frozen features out
        norms = {
            name: m
            for name, m in self.module_.named_modules()
            if isinstance(m, _BatchNorm) and m.training and m.running_mean is not None
        }
        self.module_.eval()
        momenta = [norm.momentum for norm in norms.values()]
        for norm in norms.values():
            norm.train().reset_running_stats()
            norm.momentum = None  # the mean over all batches
        few = -(-_SETTLING_IMAGES * feed.n_batches // len(feed))
        with torch.inference_mode(False), torch.no_grad():
            for x, _, _ in itertools.islice(feed, few if norms else 0):
                self.infer(x)
        for norm, momentum in zip(norms.values(), momenta, strict=True):
            norm.momentum = momentum
        self.module_.eval()
        if self.earlier_ and norms:
            self._blend_with_earlier(norms, *self.earlier_, feed, few)

    def _blend_with_earlier(
        self,
        norms: dict[str, Any],
        n_before: int,
        before: dict[str, torch.Tensor],
        feed: Feed,
        few: int,
    ) -> None:
        """Unless it is the newest images' own statistics that fit them far better.

        They do where these come from another scanner.
        """
        share = max(len(feed) / (n_before + len(feed)), _LEAST_SHARE)
        named = [
            (getattr(norm, key), before[f"{name}.{key}"])
            for name, norm in norms.items()
            for key in ("running_mean", "running_var")
        ]
        own, loss = [now.clone() for now, _ in named], self._loss_on(feed, few)
        for now, earlier in named:
            now.lerp_(earlier.to(now.device), 1 - share)
        if loss < _FAR_BETTER * self._loss_on(feed, few):
            for (now, _), fresh in zip(named, own, strict=True):
                now.copy_(fresh)

    def _loss_on(self, feed: Feed, few: int) -> torch.Tensor:
        """Mean loss on the first batches, as they are; it stays on the device."""
        batches = itertools.islice(feed, few)
        parts = [(self.validation_step(batch)[0], len(batch[0])) for batch in batches]
        total = torch.stack([loss * n for loss, n in parts]).sum()
        return total / sum(n for _, n in parts)

    def _weighted_loss(
        self,
        y_pred: torch.Tensor,
        y: torch.Tensor,
        w: torch.Tensor,
        mix: Mix | None = None,
    ) -> torch.Tensor:
        loss = self.criterion_(y_pred, y) * w
        if mix is None:
            return loss.mean()
        partner, share = mix
        share = share.view((-1,) + (1,) * (loss.ndim - 1))
        other = self.criterion_(y_pred, y[partner]) * w[partner]
        return torch.lerp(other, loss, share).mean()

    def _absolute_weights(self) -> torch.Tensor:
        weights = [p.abs().sum() for p in self.module_.parameters() if p.ndim > 1]
        return torch.stack(weights).sum()

    def _schedule(self) -> None:
        factor = schedule_factor(self.schedule, min(self.step_ / self.n_steps_, 1.0))
        for group in self.optimizer_.param_groups:
            group["lr"] = self.lr * factor * group["lr_scale"]
        self.step_ += 1

    def _correct(self, y_pred: torch.Tensor, batch: Any) -> torch.Tensor:
        """Weight of the right answers and of all, as a pair."""
        _, y, w = batch
        if self.criterion_.kind == "sigmoid":
            right = (y_pred.view(y.shape) > 0) == (y > 0.5)
        else:
            right = y_pred.argmax(1) == y
        return torch.stack([(right * w).sum(), w.sum()])

    # -- between epochs --------------------------------------------------------------

    def _record(self, feed: Feed, seconds: float) -> None:
        self.history.record("lr", max(g["lr"] for g in self.optimizer_.param_groups))
        self.history.record("seconds", seconds)
        self.history.record("images_per_second", len(feed) / seconds)
        if self.verbose:
            shown = self.history[-1]
            keys = ["train_loss", "valid_loss", "valid_acc", "seconds"]
            values = [f"{k} {shown[k]:.4f}" for k in keys if k in shown]
            print(f"epoch {shown['epoch']:4d}  {'  '.join(values)}")

    def _keep_best(self, epoch: int) -> None:
        if self.patience is None:
            return
        loss = self.history[-1, "valid_loss"]
        if loss < self.best_[0]:
            self.best_ = (loss, epoch, self._snapshot())

    def _snapshot(self) -> dict[str, Any]:
        # Not all of it need be tensors.
        return copy.deepcopy(self.module_.state_dict())

    def _finite(self) -> torch.Tensor:
        """Whether all weights and running statistics are finite.

        Other buffers may be infinite for good: the mask of attention, for one.
        """
        values: list[torch.Tensor] = list(self.module_.parameters())
        for module in self.module_.modules():
            if isinstance(module, _BatchNorm):
                values += module.buffers(recurse=False)
        return torch.stack([v.isfinite().all() for v in values]).all()

    def _stop_at(self, batch: int, last_finite: dict[str, Any]) -> None:
        epoch = self.history[-1, "epoch"]
        module = copy.deepcopy(self.module_)
        if last_finite:
            module.load_state_dict(last_finite)
        module.eval()
        raise NonFiniteLossError(
            f"Loss or weights became NaN or infinite in epoch {epoch}, batch "
            f"{batch + 1}: "
            f"training has diverged. Lower lr (it is {self.lr:g}) or check the images. "
            "The network with the last finite weights is this error's `module`.",
            epoch=epoch,
            batch=batch + 1,
            module=module,
        )

    def _listens(self, hook: str) -> bool:
        standard = getattr(Callback, hook)
        return any(getattr(type(cb), hook) is not standard for _, cb in self.callbacks_)

    def _batch_listeners(self) -> bool:
        return self._listens("on_batch_begin") or self._listens("on_batch_end")

    def _callback_stopped(self) -> bool:
        """Whether skorch's EarlyStopping raised the KeyboardInterrupt, not the user."""
        return any(
            isinstance(cb, EarlyStopping) and cb.misses_ >= cb.patience
            for _, cb in self.callbacks_
        )

    # -- pickling --------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Weights travel in main memory, so that a machine without a GPU can load."""
        state = self.__dict__.copy()
        if torch.device(self.device).type != "cpu":
            module = copy.deepcopy(self.module_).to("cpu")
            state["module"] = state["module_"] = module
            state["optimizer_"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        kind = torch.device(self.device).type
        if kind != "cpu":
            try:
                self.device = check_device(self.device)
            except ValueError:
                # bfloat16 would be ten times slower on most CPUs.
                self.device, self.precision = "cpu", torch.float32
                self.inference_precision = torch.float32
            self.module_.to(self.device)
            self.initialize_optimizer()


def as_frame(history: Any) -> Any:
    """The history of a net as the table that users see."""
    import pandas as pd

    columns = ["epoch", "train_loss", "valid_loss", "valid_acc", "lr", "seconds"]
    columns.append("images_per_second")
    frame = pd.DataFrame([dict(row) for row in history])
    # Whatever else callbacks have recorded, skorch's EpochScoring for one, follows.
    own = [c for c in frame if not str(c).endswith("_best") and c not in columns]
    own = [c for c in own if c not in ("batches", "dur")]
    return frame[[c for c in columns if c in frame] + own]
