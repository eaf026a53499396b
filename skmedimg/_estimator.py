"""What the image estimators share: the steps of fit, one path from images to logits."""

import copy
import os
import warnings
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, _fit_context
from sklearn.frozen import FrozenEstimator
from sklearn.utils._param_validation import HasMethods, Interval, Options, StrOptions
from sklearn.utils.validation import check_consistent_length, check_is_fitted
from torch import nn

from skmedimg._checkpoint import check_folder, open_checkpoint
from skmedimg._checks import (
    PRECISIONS,
    check_callbacks,
    check_device,
    check_precision,
    check_weight,
)
from skmedimg._course import (
    LEARNING_RATES,
    auto_batch_size,
    auto_epochs,
    make_optimizer,
)
from skmedimg._feed import Feed, TrainingSet, make_training_set, split_units
from skmedimg._fingerprints import Fingerprints, patient_key
from skmedimg._inference import ImageInference
from skmedimg._intensity import ShiftMonitor, measure, patterns_of
from skmedimg._modules import hand_over_moments
from skmedimg._net import ImageNet, as_frame
from skmedimg._per_image import one_per_image
from skmedimg._probing import (
    blank,
    keep_to_its_layout,
    output_shape,
    warn_of_probabilities,
)
from skmedimg._random import drawing_from, seed_of
from skmedimg._sklearn_callbacks import CallbackSupportMixin, begin_context, told
from skmedimg._weights import as_pretrained, head_of, load_weights
from skmedimg.architectures import Pretrained, make_architecture
from skmedimg.architectures._layers import Network
from skmedimg.augmentation import PRESETS, Augmentation, make_augment


class BaseImageEstimator(CallbackSupportMixin, ImageInference):
    """Base of the image estimators; see `CNNImageClassifier` for the parameters."""

    _parameter_constraints: ClassVar[dict] = {
        "architecture": [str, HasMethods("build"), callable, nn.Module],
        "weights": [str, os.PathLike, Mapping, FrozenEstimator, Pretrained, None],
        "image_shape": ["array-like", None],
        "image_size": ["array-like", None],
        "spatial_dims": [Options(int, {2, 3}), None],
        "channel_axis": [Integral, None],
        "augmentation": [
            StrOptions(set(PRESETS)),
            Augmentation,
            callable,
            None,
        ],
        "max_epochs": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "batch_size": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "lr": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "optimizer": [StrOptions(set(LEARNING_RATES)), callable],
        "schedule": [StrOptions({"one_cycle", "cosine", "constant"})],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "l1": [Interval(Real, 0, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "warm_start": ["boolean"],
        "device": [str, torch.device],
        "precision": [StrOptions({"auto", *PRECISIONS})],
        "callbacks": [list, None],
        "checkpoint": [str, os.PathLike, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    # Requested by default: with metadata routing on, searches, calibration and
    # pipelines then deliver the groups without being told.
    __metadata_request__fit: ClassVar[dict] = {"groups": True}

    classes_: np.ndarray
    _n_outputs: int
    _patients: Fingerprints
    _images: Fingerprints
    _split_seed: int

    # -- fit ---------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None
    ) -> "BaseImageEstimator":
        """Fit the network.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            Any layout of the class docstring; uint8 stays uint8, and arrays on disk
            stay there.
        y : array-like of shape (n,), (n, 1) or (n, n_labels)
            Labels of any kind, or label indicators with NaN for missing.
        sample_weight : array-like of shape (n,), default=None
            Weights; 2 counts exactly as much as the row twice, 0 as leaving it out.
        groups : array-like of shape (n,), default=None
            Patient of each image: `early_stopping` never splits one. None takes
            ``X.groups`` where X is an `ImageSequence`.

        Returns
        -------
        self
            The fitted estimator.

        Raises
        ------
        ValueError
            If an argument does not fit; says which, what was seen and what to do. The
            estimator is then as it was before.
        """
        keep, context = self.checkpoint, begin_context(self)
        for _ in self._epochs(
            X, y, sample_weight, groups, folder=keep, context=context
        ):
            pass
        return self

    def _epochs(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        groups: Any = None,
        stop_at: float = 1.0,
        folder: str | os.PathLike | None = None,
        context: Any = None,
    ) -> Iterator[int]:
        """Fit epoch by epoch; after each, the estimator predicts as it stands.

        Tells how many epochs are done, of this call. With `stop_at` training ends
        after that share of the epochs that its schedule is laid out for. With a
        `folder` for its checkpoint, epochs of an interrupted call are not repeated;
        scikit-learn's callbacks hear of those in `context`. An iterator that is not run
        to its end leaves the estimator as it was.
        """
        check_folder(folder, self.random_state)
        with self._all_or_nothing():
            goes_on = self.warm_start and hasattr(self, "net_")
            data = self._prepare(X, y, sample_weight, groups, reset=not goes_on)
            rng = self._generator(goes_on)
            if not goes_on or not hasattr(self, "_split_seed"):
                # Kept by warm_start: validation images must stay unseen.
                self._split_seed = int(rng.integers(2**31))
            train, valid = self._split(data)
            if not goes_on:
                self.image_spec_ = data.fit_spec(train)
            course = self._course(len(train))
            course["max_epochs"] = max(1, round(stop_at * course["max_epochs"]))
            self._remember(data, goes_on)
            epochs = self._train(data, train, valid, rng, goes_on, course, folder)
            n_epochs = course["max_epochs"]
            yield from told(self, context, epochs, n_epochs, X, y, sample_weight)
            self._publish()

    def _generator(self, goes_on: bool) -> np.random.Generator:
        """Of one call: one that goes on does not repeat the shuffles of the last."""
        done = len(self.net_.history) if goes_on else 0
        return np.random.default_rng([seed_of(self.random_state), done])

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Leave the estimator as it was if anything fails, Ctrl-C included."""
        before = self.__dict__.copy()
        try:
            yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _prepare(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        groups: Any,
        *,
        reset: bool,
        classes: Any = None,
    ) -> TrainingSet:
        """Validate everything and make the canonical training set."""
        images = self._check_images(X, reset=reset)
        target = self._check_target(y, reset=reset, classes=classes)
        check_consistent_length(images, target)
        n = len(images)
        weight = check_weight(sample_weight, images)
        if target.ndim == 2:
            # An image none of whose labels is known weighs nothing.
            weight = np.where(np.isnan(target).all(1), 0.0, weight)
            if not weight.any():
                raise ValueError("y has no label for any image of positive weight.")
        groups = images.groups if groups is None else groups
        if groups is not None:
            groups = one_per_image("groups", groups, "patient", n)
        if classes is None:
            self._check_enough(target[weight > 0])
        data = make_training_set(images, target, weight, groups)
        if not reset:
            monitor, new = ShiftMonitor(self.image_spec_), data.measures
            monitor.note(new.low, new.high, patterns_of(images, data.rows))
            monitor.warn()
        return data

    def _split(self, data: TrainingSet) -> tuple[np.ndarray, np.ndarray | None]:
        if not self.early_stopping:
            return np.arange(len(data)), None
        return split_units(
            data, self.validation_fraction, np.random.default_rng(self._split_seed)
        )

    def _train(
        self,
        data: TrainingSet,
        train: np.ndarray,
        valid: np.ndarray | None,
        rng: np.random.Generator,
        goes_on: bool,
        course: dict[str, Any],
        folder: str | os.PathLike | None = None,
    ) -> Generator[int, None, None]:
        """Train, with half the batch size after each out-of-memory error of a GPU."""
        batch_size = self.batch_size
        if batch_size == "auto":
            batch_size = auto_batch_size(len(train))
        seeds = rng.integers(2**31, size=3).tolist()
        before, checkpoint = getattr(self, "net_", None), None
        while True:
            # Lets go of the images of an attempt that has failed.
            sides: tuple[Feed, Feed | None] | None = None
            net = self._make_net(
                data, train, int(batch_size), seeds, before if goes_on else None, course
            )
            try:
                sides = self._feeds(data, train, valid, int(batch_size), seeds[1])
                params = self.get_params(deep=False)
                checkpoint = open_checkpoint(folder, params, net, *sides)
                # Closed here, not when it is collected: callbacks are told of the end.
                with closing(net.epochs(*sides, checkpoint)) as epochs:
                    for epoch in epochs:
                        self.net_ = net
                        yield epoch
                return
            except torch.OutOfMemoryError as error:
                if net.batch_size <= 2:
                    raise
                batch_size = net.batch_size // 2
                if checkpoint is not None:
                    checkpoint.remove()
                warnings.warn(
                    f"Out of memory on {self.device_} ({error}): training starts again "
                    f"with batch_size={batch_size}.",
                    UserWarning,
                    stacklevel=4,
                )
                del net

    @torch.inference_mode(False)  # whatever mode the caller is in
    def _make_net(
        self,
        data: TrainingSet,
        train: np.ndarray,
        batch_size: int,
        seeds: list[int],
        before: ImageNet | None,
        course: dict[str, Any],
    ) -> ImageNet:
        """A skorch net ready to train: new, or with the weights of the one before."""
        self.device_ = check_device(self.device)
        device = torch.device(self.device_)
        spec = self.image_spec_
        if before is not None:
            self._check_same_network()
            module = copy.deepcopy(before.module_).to(device)
            if getattr(self, "_frozen", False):
                module.requires_grad_(True)  # what is to stay frozen is so again below
        else:
            module = self._build_module(data, train, seeds[0])
        training, inference = check_precision(
            self.precision,
            device,
            narrow_on_cpu=isinstance(module, Network) and not spec.tabular,
        )
        net = ImageNet(
            module.to(device),
            criterion=self._make_criterion(),
            n_outputs=self._n_outputs,
            optimizer=partial(
                make_optimizer,
                optimizer=self.optimizer,
                weight_decay=self.weight_decay,
                **self._let_features_learn(module),
            ),
            lr=self._learning_rate(),
            batch_size=batch_size,
            augment=make_augment(self.augmentation, spec, self.device_),
            l1=self.l1,
            precision=training,
            inference_precision=inference,
            seed=seeds[2],
            callbacks=check_callbacks(self.callbacks, self),
            device=self.device_,
            verbose=int(self.verbose),
            classes=np.arange(len(self.classes_)),
            **course,
        )
        net.initialize()
        if before is not None:
            # Only `partial_fit` goes on in the same course; it knows no patience.
            _hand_over(before, net, same_course="patience" not in course)
        return net

    def _learning_rate(self) -> float:
        if self.lr == "auto":
            return LEARNING_RATES.get(str(self.optimizer), 1e-3)
        return float(self.lr)

    def _check_same_network(self) -> None:
        if self._architecture != shown(self.architecture):
            raise ValueError(
                f"training goes on with the fitted network, {self._architecture}, but "
                f"architecture={self.architecture!r} by now: put it back, or fit anew "
                "with warm_start=False."
            )

    def _let_features_learn(self, module: nn.Module) -> dict[str, Any]:
        """Let pretrained features learn as `Pretrained` says: slower, or not at all."""
        if not isinstance(self.weights, Pretrained):
            return {}
        self.weights._validate_params()
        probe = blank(self.image_spec_, 2).to(self.device_)
        name, head = head_of(module.eval(), probe)
        if self.weights.freeze == "features":
            module.requires_grad_(False)
            head.requires_grad_(True)
        return {"lr_scale": self.weights.lr_scale, "head": name}

    def _course(self, n_images: int) -> dict[str, Any]:
        """How long a fit of n images trains, and at what rates."""
        epochs = self.max_epochs
        if epochs == "auto":
            epochs = auto_epochs(n_images)
        return {
            "max_epochs": int(epochs),
            "horizon": int(epochs),
            "schedule": self.schedule,
            "patience": self.n_iter_no_change if self.early_stopping else None,
        }

    def _build_module(
        self, data: TrainingSet, train: np.ndarray, seed: int
    ) -> nn.Module:
        """Build, load weights, and try a batch before hours of work."""
        spec = self.image_spec_
        generator = torch.Generator().manual_seed(seed)
        with drawing_from(generator):
            module = make_architecture(
                as_pretrained(self.architecture, self.weights),
                spec.channels,
                self._n_outputs,
                spec.spatial_dims,
                image_size=spec.size,
                n_images=len(train),
            )
            module = module.to("cpu").eval()
            # One image: a network that squeezes gives (n_outputs,) for it.
            name = self.architecture
            shapes = {n: output_shape(module, blank(spec, n), name) for n in (2, 1)}
        if shapes[2] == (2, 2) and self._n_outputs == 1:
            # A head with one logit a class is as good for two classes.
            self._n_outputs = 2
        for n, shape in shapes.items():
            if shape != (n, self._n_outputs):
                raise ValueError(
                    f"architecture={self.architecture!r} gave outputs of shape {shape} "
                    f"for {n} image(s); the labels need {(n, self._n_outputs)} logits."
                )
        with drawing_from(generator):
            keep_to_its_layout(module, blank(spec, 2))
            warn_of_probabilities(module, blank(spec, 2))
        new_head = not isinstance(self.architecture, nn.Module)
        if self.weights is not None:
            new_head = load_weights(
                module, self.weights, blank(spec, 2), self._encoding
            )
        if new_head:
            self._start_head(module, data, train)
        return module

    def _start_head(
        self, module: nn.Module, data: TrainingSet, train: np.ndarray
    ) -> None:
        """Let untrained outputs be the class frequencies rather than one half."""
        # A callable may have given one of our networks another head.
        head = module.head if isinstance(module, Network) else None
        if isinstance(head, nn.Linear) and head.bias is not None:
            prior = torch.from_numpy(self._prior_logits(data, train))
            with torch.no_grad():
                head.bias.zero_()
                # Log-odds are one number, and that of the last where two classes have
                # a logit each.
                head.bias[-len(prior) :] = prior

    @torch.inference_mode(False)
    def _feeds(
        self,
        data: TrainingSet,
        train: np.ndarray,
        valid: np.ndarray | None,
        batch_size: int,
        seed: int,
    ) -> tuple[Feed, Feed | None]:
        target, weight = self._loss_targets(data, train)
        make_feed = partial(
            Feed,
            data,
            spec=self.image_spec_,
            batch_size=batch_size,
            device=torch.device(self.device_),
        )
        scaled = weight / weight[train].mean()
        shuffler = np.random.default_rng(seed)
        feed = make_feed(index=train, target=target, weight=scaled, rng=shuffler)
        if valid is None:
            return feed, None
        scaled = weight / (weight[valid].mean() or 1.0)
        return feed, make_feed(index=valid, target=target, weight=scaled)

    def _partial_fit(self, data: TrainingSet, first: bool) -> None:
        """One epoch at a constant rate, going on with the state of the optimizer."""
        everyone = np.arange(len(data))
        if first:
            self.image_spec_ = data.fit_spec(everyone)
        rng = self._generator(not first)
        course = {"max_epochs": 1, "horizon": 1, "schedule": "constant"}
        self._remember(data, not first)
        try:
            for _ in self._train(data, everyone, None, rng, not first, course):
                pass
        except ValueError as error:
            if len(data) == 1 and "more than 1 value per channel" in str(error):
                raise ValueError(
                    "partial_fit was given a single image, and this network makes one "
                    "value a channel of it, of which BatchNorm knows no variance: pass "
                    "two or more distinct images at a time."
                ) from error
            raise
        self._publish(keep_optimizer=True)

    def _publish(self, *, keep_optimizer: bool = False) -> None:
        """Set the fitted attributes."""
        net = self.net_
        if not keep_optimizer:
            net.optimizer_.state.clear()
        self._architecture = shown(self.architecture)
        self._frozen = getattr(self.weights, "freeze", None) is not None
        self._note_history()

    def _note_history(self) -> None:
        self.n_iter_ = len(self.net_.history)
        self.history_ = as_frame(self.net_.history)

    def _as_it_stands(self) -> dict[str, Any]:
        """Fitted attributes, by now, of a copy that further epochs leave alone."""
        net = copy.copy(self.net_)
        net._let_go()
        # Training's generator stays with training.
        apart = {id(net.__dict__.pop("generator_", None)): None}
        net.module = net.module_ = copy.deepcopy(net.module_, apart)
        history = {"history_": as_frame(net.history), "n_iter_": len(net.history)}
        return {"net_": net, **history}

    def _remember(self, data: TrainingSet, goes_on: bool) -> None:
        """Note who is in training, so as to know them again, and not who they are."""
        patients = self._patients if goes_on else Fingerprints()
        images = self._images if goes_on else Fingerprints()
        used = data.groups_at(np.arange(len(data)))
        if used is not None:
            patients = patients.joined_by(map(patient_key, used.tolist()))
        self._patients = patients
        self._images = images.joined_by(row.tobytes() for row in data.measures.digest)

    def known_images(self, X: Any) -> np.ndarray:
        """Whether each image was among those of fit, pixel for pixel in the same dtype.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            In the layout of fit.

        Returns
        -------
        ndarray of shape (n,)
            True where it was; fit keeps a keyed hash of 8 bytes an image.

        Raises
        ------
        ValueError
            If X is not like the images of fit.
        """
        check_is_fitted(self)
        digest = measure(self._check_images(X, reset=False)).digest
        return self._images.know(row.tobytes() for row in digest)

    def known_patients(self, groups: Any) -> np.ndarray:
        """Whether the patient of each image was among those of fit.

        Parameters
        ----------
        groups : array-like of shape (n,)
            Patient of each image.

        Returns
        -------
        ndarray of shape (n,)
            True where a patient was; all False where fit was not told of patients.
        """
        check_is_fitted(self)
        return self._patients.know(
            patient_key(group) for group in np.asarray(groups).tolist()
        )

    # -- plumbing ----------------------------------------------------------------------

    def set_params(self, **params: Any) -> "BaseImageEstimator":
        """Set parameters, those of parts as ``architecture__width`` and the like.

        Parameters
        ----------
        **params : object
            New values by name.

        Returns
        -------
        self
            The estimator.

        Raises
        ------
        ValueError
            If there is no such parameter, or the part is given by name and has none.
        """
        for name in params:
            part, _, inner = name.partition("__")
            value = params.get(part, getattr(self, part, self))
            if inner and not hasattr(value, "set_params"):
                raise ValueError(
                    f"{name} is set on an object, but {part}={value!r}. Pass one, "
                    "for example architecture=skmedimg.architectures.ResNet() or "
                    "augmentation=skmedimg.augmentation.Augmentation()."
                )
        return super().set_params(**params)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


def _hand_over(before: ImageNet, net: ImageNet, *, same_course: bool) -> None:
    """History of a fitted net; what optimizer and norms have gathered."""
    net.history.extend(copy.deepcopy(list(before.history)))
    if not same_course:
        return
    net.earlier_ = before.n_seen_, dict(before.module_.named_buffers())
    if type(net.optimizer_) is type(before.optimizer_):
        pairs = zip(before.module_.parameters(), net.module_.parameters(), strict=True)
        hand_over_moments(before.optimizer_, net.optimizer_, dict(pairs))


def shown(part: Any) -> str | None:
    """How a part reads, where that tells it from others of its kind."""
    return repr(part) if isinstance(part, str | BaseEstimator) else None
