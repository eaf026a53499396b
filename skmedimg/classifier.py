"""The classifier: medical images in, scikit-learn's contract out."""

import warnings
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import _check_partial_fit_first_call
from sklearn.utils.validation import _check_sample_weight, column_or_1d

from skmedimg._estimator import BaseImageEstimator
from skmedimg._feed import TrainingSet
from skmedimg._fingerprints import patient_key
from skmedimg._loss import ClassificationLoss
from skmedimg._targets import LabelEncoding
from skmedimg.images import groups_of


class CNNImageClassifier(ClassifierMixin, BaseImageEstimator):
    """Convolutional network for medical images that is a scikit-learn classifier.

    Works in pipelines, cross-validation, searches, calibration and ensembles. Targets
    may be binary, multi-class or multi-label. Images may be grey or colour, 2-D or 3-D,
    of any numeric dtype and any size, in any of these layouts:

    ==========================  ========================================================
    X                           read as
    ==========================  ========================================================
    (n, p)                      flattened images of `image_shape`; without it, images of
                                height 1, never augmented
    (n, H, W)                   grey images
    (n, C, H, W), (n, H, W, C)  images with channels: exactly one of the two axes is 1
                                or 3 (the last may be 4 in uint8)
    (n, D, H, W)                grey volumes, where neither end is 8 or less, or with
                                ``spatial_dims=3``
    (n, C, D, H, W),            volumes with channels
    (n, D, H, W, C)
    list, object array          images of one shape, or of differing ones with
                                `image_size`
    ImageSequence, memmap,      read batch by batch, never loaded whole
    h5py, zarr
    DataFrame, Series           columns are pixels, or one column of arrays
    ==========================  ========================================================

    Whatever can be read in two ways is an error that shows both.

    What fit learns depends on the weighted set of images and labels alone: not on the
    order of rows, and a row of weight 2 is exactly the row twice. Oversampled copies
    thus become weights (`class_weight` says the same more directly).

    Parameters
    ----------
    architecture : str, object, callable, type or torch.nn.Module, default="auto"
        Name ("auto", "resnet", "simple", or of MONAI's as "monai:DenseNet121"),
        parameter object such as `skmedimg.architectures.ResNet` (then
        ``architecture__width`` can be searched), callable or module class
        ``(in_channels, n_outputs, spatial_dims)``, or a module, which is copied and
        never trained in place. "auto" takes a residual network by the axes and number
        of the images.
    weights : mapping, path, FrozenEstimator or Pretrained, default=None
        Weights to start from: a state dict, a file of one, or a fitted estimator in
        `sklearn.frozen.FrozenEstimator` (scikit-learn's clone would unfit a bare one).
        `skmedimg.architectures.Pretrained` takes them from another task, for
        fine-tuning.
    image_shape : sequence of int, default=None
        Shape of one image where X is flattened to (n, p).
    image_size : sequence of int, default=None
        Size in pixels that images are resized to.
    spatial_dims : {2, 3}, default=None
        Axes of an image, where the shape of X alone does not tell.
    channel_axis : int, default=None
        Channel axis of X, 1 or the last, where its shape alone does not tell.
    augmentation : str, Augmentation, callable or None, default="auto"
        Random changes while training. "auto" rotates, shifts, scales and changes
        contrast a little, and never mirrors: it cannot know the modality. "xray",
        "mammography", "ct", "mri", "ultrasound", "microscopy" and "fundus" know what
        may change there. A callable takes and gives a batch tensor of shape
        (n, C, *spatial); what it draws by torch is seeded, by NumPy it is not.
    max_epochs : int or "auto", default="auto"
        Passes over the images; "auto" goes by the number of distinct images and leaves
        what it chose in `n_iter_`.
    batch_size : int or "auto", default="auto"
        Images in a step. Batches are made equal, and none has a single image.
    lr : float or "auto", default="auto"
        Learning rate: "auto" is 3e-3 for "adamw" and "adam", 0.05 for "sgd", 1e-3 for
        "rmsprop" and other classes.
    optimizer : {"adamw", "adam", "sgd", "rmsprop"} or type, default="adamw"
        Optimizer, or a class of `torch.optim`. "sgd" has Nesterov momentum .9,
        "rmsprop" Keras' defaults (rho .9, epsilon 1e-7).
    schedule : {"one_cycle", "cosine", "constant"}, default="one_cycle"
        Course of the learning rate over `max_epochs`.
    weight_decay : float, default=0.01
        L2 regularisation of weights, decoupled from the gradient in "adamw". Biases and
        normalisation do not decay. Warns where a class of `torch.optim` knows none.
    l1 : float, default=0.0
        Factor of the sum of absolute weights in the loss.
    loss : {"cross_entropy", "focal"}, default="cross_entropy"
        "focal" (gamma 2) looks less at what is right already; it distorts
        probabilities.
    label_smoothing : float, default=0.05
        Share of each target spread over all classes.
    class_weight : dict, list of dict, "balanced" or None, default=None
        Weights of the classes, multiplied with `sample_weight`. "balanced" makes every
        class count the same; for label indicators, present and absent of every label.
        A list has one dict a label.
    early_stopping : bool, default=False
        Whether to hold out part of the images, never cutting a group, to stop when its
        weighted loss no longer falls, and to keep the weights of its best epoch.
    validation_fraction : float, default=0.15
        Share of the images held out by `early_stopping`.
    n_iter_no_change : int, default=15
        Epochs without a better validation loss before `early_stopping` ends training.
    warm_start : bool, default=False
        Whether `fit` goes on from the fitted weights. Classes, layout and intensities
        stay those of the first fit. With `early_stopping`, pass the same images:
        added ones change the split, so that it may validate on what was trained on.
    device : str or torch.device, default="auto"
        "auto" takes an NVIDIA GPU (CUDA) if there is one; name any other.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Type of the arithmetic. "auto" is bfloat16 on a GPU that has it, in prediction
        too; on a CPU with matrix units for it (Intel AMX), networks of this package
        train on images in bfloat16 and predict in float32; all else is float32. Weights
        are float32 throughout, and so is the last layer of this package's networks.
    callbacks : list of skorch callbacks or functions, default=None
        Called with the net at every step that they ask for; each fit works on copies.
        scikit-learn's own (ProgressBar, ScoringMonitor; from 1.9 on) go to
        `set_callbacks` instead, and hear of `fit`, but not in an `OptunaSearchCV` nor
        of `partial_fit`. A function is called as ``function(name, estimator)`` when a
        fit begins, and makes a callback for that fit alone, such as one that logs to
        TensorBoard or MLflow. `name` is "study/trial-002/fold-0" or "study/refit" in an
        `OptunaSearchCV`, elsewhere "fit-" and eight hexadecimal digits that no other
        fit has.
    checkpoint : path, default=None
        Folder in which `fit` keeps its state after each epoch. After a crash or a kill
        the same call goes on, and ends as if nothing had been (see Notes). Needs an
        integer `random_state`.
    random_state : int, RandomState instance or None, default=None
        Seed of weights, shuffling, augmentation and dropout. Equal seeds give bit-equal
        models on a CPU with equal numbers of threads. None takes a fresh seed. No
        global generator is touched.
    verbose : int, default=0
        1 prints a line an epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels; for label indicators the label indices.
    n_features_in_ : int
        Pixels of an image, all channels together.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names where X was a DataFrame with string columns.
    image_spec_ : skmedimg.images.ImageSpec
        Layout and intensities found at fit.
    net_ : skorch.NeuralNet
        The trained net, usable by itself on prepared tensors (its docstring says what
        these are).
    module_ : torch.nn.Module
        The trained network.
    history_ : pandas.DataFrame
        One row an epoch: epoch, train_loss, with early stopping valid_loss and
        valid_acc (weighted as the loss is), lr, seconds, images_per_second.
    n_iter_ : int
        Epochs trained.
    device_ : str
        Device that was used.

    See Also
    --------
    sklearn.neural_network.MLPClassifier : Dense layers on tables.
    skmedimg.io.ImageSequence : Images that carry their patients into every fold.

    Notes
    -----
    A pipeline step that turns an `skmedimg.io.ImageSequence` into a plain array loses
    the groups: pass ``groups`` to fit as well (in a pipeline with metadata routing on).

    A checkpoint is one file, named by the parameters, the images, labels and weights,
    the split, and the versions of skmedimg and PyTorch. So fits may share a folder,
    those of a search too: one that differs in anything begins anew, and touches no file
    but its own, which is removed when it ends or diverges; that of a call that is never
    repeated has to be deleted by hand. A function or class of your own is known by its
    code, and by the functions, classes, numbers and text that the code names: after a
    change elsewhere, in a module that it imports for one, empty the folder.

    The file holds weights, and no images. Of skorch callbacks it keeps numbers and
    weights in attributes that end in an underscore, as those of EarlyStopping do; what
    else they hold begins anew, as does an augmentation that draws from a generator of
    its own. Arrays that they record in the history come back as lists. `partial_fit`
    writes none. Of `skmedimg.model_selection.OptunaSearchCV`, whose study keeps its
    trials, the refit does, and in a pipeline each fit.

    A class whose images all have weight zero stays in `classes_`, as elsewhere in
    scikit-learn; nothing is learnt of it.

    Where a meta-estimator of scikit-learn does not forward groups, give it an
    `skmedimg.io.ImageSequence`, which carries them. AdaBoost and Bagging copy even that
    into a plain array: inside them `early_stopping` cannot keep patients apart.

    Examples
    --------
    >>> import numpy as np
    >>> from skmedimg import CNNImageClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = rng.integers(0, 50, (40, 12, 12), dtype=np.uint8)
    >>> y = np.repeat(["healthy", "lesion"], 20)
    >>> X[20:, 4:8, 4:8] += 100
    >>> clf = CNNImageClassifier(max_epochs=15, random_state=0).fit(X, y)
    >>> clf.predict(X[[0, -1]])
    array(['healthy', 'lesion'], dtype='<U7')
    """

    _parameter_constraints: ClassVar[dict] = {
        **BaseImageEstimator._parameter_constraints,
        "loss": [StrOptions({"cross_entropy", "focal"})],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "class_weight": [StrOptions({"balanced"}), dict, list, None],
    }

    _encoding: LabelEncoding

    def __init__(
        self,
        architecture: Any = "auto",
        *,
        weights: Any = None,
        image_shape: Any = None,
        image_size: Any = None,
        spatial_dims: int | None = None,
        channel_axis: int | None = None,
        augmentation: Any = "auto",
        max_epochs: int | str = "auto",
        batch_size: int | str = "auto",
        lr: float | str = "auto",
        optimizer: Any = "adamw",
        schedule: str = "one_cycle",
        weight_decay: float = 0.01,
        l1: float = 0.0,
        loss: str = "cross_entropy",
        label_smoothing: float = 0.05,
        class_weight: Any = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.15,
        n_iter_no_change: int = 15,
        warm_start: bool = False,
        device: Any = "auto",
        precision: str = "auto",
        callbacks: list | None = None,
        checkpoint: Any = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.architecture = architecture
        self.weights = weights
        self.image_shape = image_shape
        self.image_size = image_size
        self.spatial_dims = spatial_dims
        self.channel_axis = channel_axis
        self.augmentation = augmentation
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.optimizer = optimizer
        self.schedule = schedule
        self.weight_decay = weight_decay
        self.l1 = l1
        self.loss = loss
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.device = device
        self.precision = precision
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> "CNNImageClassifier":
        """Train one epoch on these images, at a constant learning rate.

        The first call fixes the layout and intensities of the images and the classes.
        After `fit`, it goes on from the fitted network. The statistics of BatchNorm are
        then those of all calls, `fit` included, weighted by their images (the newest
        call counts a tenth at least), or those of this call alone where these serve its
        images far better, as with another scanner; with ``augmentation=None`` they
        follow the newest batches. Functions among `callbacks` are called anew at
        each call: a logger that they make has one epoch.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            A part of the data.
        y : array-like of shape (n,) or (n, n_labels)
            Its labels.
        classes : array-like of shape (n_classes,), default=None
            All classes; required in the first call.
        sample_weight : array-like of shape (n,), default=None
            Weights of the images of this call against one another: as they are scaled
            to a mean of 1 in each call, equal ones do nothing.

        Returns
        -------
        self
            The estimator.

        Raises
        ------
        ValueError
            If `classes` is missing in the first call or changes later, if y has others,
            or with ``early_stopping=True``.
        """
        if self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True.")
        with self._all_or_nothing():
            first = not hasattr(self, "net_")
            _check_partial_fit_first_call(self, classes)
            if len(self.classes_) < 2:
                raise ValueError(
                    f"classes={self.classes_.tolist()} is one class only: a classifier "
                    "needs at least 2 classes."
                )
            data = self._prepare(
                X, y, sample_weight, None, reset=first, classes=self.classes_
            )
            self._partial_fit(data, first)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict labels.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            In the layout of fit.

        Returns
        -------
        ndarray of shape (n,) or (n, n_labels)
            Classes, or label indicators.

        Raises
        ------
        ValueError
            If X is not like the images of fit.
        """
        decision = self.decision_function(X)
        if self._encoding.multilabel:
            return (decision > 0).astype(self._encoding.dtype)
        if decision.ndim == 1:
            return self.classes_[(decision > 0).astype(int)]
        return self.classes_[decision.argmax(1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict probabilities.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            In the layout of fit.

        Returns
        -------
        ndarray of shape (n, n_classes) or (n, n_labels)
            Probability of each class, in the order of `classes_`, or of each label.

        Raises
        ------
        ValueError
            If X is not like the images of fit.
        """
        return self._probabilities(self._logits(X))

    def _probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Of logits (n, n_outputs), in double precision."""
        logits = logits.astype(np.float64)
        if self._encoding.multilabel:
            return expit(logits)
        if logits.shape[1] == 1:
            return np.hstack([expit(-logits), expit(logits)])
        return softmax(logits, axis=1)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Predict logarithms of probabilities, without underflow.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            In the layout of fit.

        Returns
        -------
        ndarray of shape (n, n_classes) or (n, n_labels)
            Natural logarithms of `predict_proba`.
        """
        logits = self._logits(X).astype(np.float64)
        if self._encoding.multilabel:
            return log_expit(logits)
        if logits.shape[1] == 1:
            return np.hstack([log_expit(-logits), log_expit(logits)])
        return log_softmax(logits, axis=1)

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits; for two classes the log-odds of ``classes_[1]``.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            In the layout of fit.

        Returns
        -------
        ndarray of shape (n,), (n, n_classes) or (n, n_labels)
            Larger means more probable; float32, as the network computes.

        Raises
        ------
        ValueError
            If X is not like the images of fit.
        """
        logits = self._logits(X)
        if self._encoding.multilabel or len(self.classes_) > 2:
            return logits
        return logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy; for label indicators, of whole rows, missing labels left out.

        Parameters
        ----------
        X : array-like or ImageSequence of n images
            In the layout of fit. Warns if ``X.groups`` has a patient of the fit.
        y : array-like of shape (n,) or (n, n_labels)
            True labels.
        sample_weight : array-like of shape (n,), default=None
            Weights of the images.

        Returns
        -------
        float
            Share of right answers.
        """
        predicted = self.predict(X)
        self._warn_of_known_patients(X)
        if not self._encoding.multilabel:
            y = column_or_1d(y, warn=True)
            return accuracy_score(y, predicted, sample_weight=sample_weight)
        true = self._encoding.encode(y, self)
        known = ~np.isnan(true)
        counts = known.any(1)
        if not counts.any():
            raise ValueError("y has no label at all: every entry is NaN.")
        right = ((predicted == true) | ~known).all(1)
        weight = None
        if sample_weight is not None:
            weight = _check_sample_weight(sample_weight, true)[counts]
        return float(np.average(right[counts], weights=weight))

    # -- targets -----------------------------------------------------------------------

    def _check_target(self, y: Any, *, reset: bool, classes: Any = None) -> np.ndarray:
        """Encode y; learn its classes with ``reset=True``."""
        if not reset:
            return self._encoding.encode(y, self)
        self._encoding, target = LabelEncoding.fit(y, self, classes)
        self.classes_ = self._encoding.classes
        self._n_outputs = self._encoding.n_outputs
        return target

    def _check_enough(self, target: np.ndarray) -> None:
        if target.ndim == 1 and len(np.unique(target)) < 2:
            seen = self.classes_[target[:1]].tolist()
            raise ValueError(
                f"y has one class only, {seen} (n_samples={len(target)} with positive "
                "weight): a classifier needs at least 2 classes."
            )

    def _make_criterion(self) -> ClassificationLoss:
        sigmoid = self._encoding.multilabel or self._n_outputs == 1
        kind = "sigmoid" if sigmoid else "softmax"
        return ClassificationLoss(kind, self.loss, self.label_smoothing)

    def _loss_targets(
        self, data: TrainingSet, train: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Targets in the dtype of the loss, and the weight of every one of them."""
        factors = self._encoding.class_weights(
            data.target, data.weight, self.class_weight, train
        )
        weight = (factors.T * data.weight).T
        if not weight.any() or self._leaves_one_class(data.target, weight):
            raise ValueError(
                f"class_weight={self.class_weight!r} gives weight zero to every image, "
                "or to all of but one class: at least 2 classes must weigh something."
            )
        if self._encoding.multilabel:
            return np.nan_to_num(data.target).astype(np.float32), weight
        if self._n_outputs == 1:
            return data.target.astype(np.float32), weight
        return data.target.astype(np.int64), weight

    def _leaves_one_class(self, target: np.ndarray, weight: np.ndarray) -> bool:
        if self._encoding.multilabel:
            return False
        return len(np.unique(target)) > 1 == len(np.unique(target[weight > 0]))

    def _prior_logits(self, data: TrainingSet, train: np.ndarray) -> np.ndarray:
        weight = self._loss_targets(data, train)[1]
        return self._encoding.prior_logits(data.target[train], weight[train])

    def _warn_of_known_patients(self, X: Any) -> None:
        groups = groups_of(X)
        if groups is None:
            return
        patients = set(map(patient_key, groups.tolist()))
        known = self._patients.know(patients).sum()
        if known:
            warnings.warn(
                f"{known} of the {len(patients)} patients in X.groups were in the "
                "training images: the score says little about new patients. Split by "
                "patient, for example with skmedimg.model_selection.PatientKFold.",
                UserWarning,
                stacklevel=3,
            )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
