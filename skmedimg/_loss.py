"""From logits to a loss, and to probabilities."""

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax

_FOCAL_GAMMA = 2.0


class ClassificationLoss(nn.Module):
    """Loss of every target on its own, before weighting.

    Parameters
    ----------
    kind : {"softmax", "sigmoid"}
        "softmax": one class an image, target (n,) of class indices, logits (n, K).
        "sigmoid": target (n,) or (n, L) of 0 and 1, logits (n, 1) or (n, L).
    loss : {"cross_entropy", "focal"}, default="cross_entropy"
        "focal" multiplies the cross-entropy by (1 - p)^2, p the probability of the true
        class (Lin et al., ICCV 2017).
    label_smoothing : float, default=0.0
        Share of the target that is spread evenly over the classes.
    """

    def __init__(
        self, kind: str, loss: str = "cross_entropy", label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        self.kind, self.loss, self.label_smoothing = kind, loss, label_smoothing

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        logits = logits.float()
        smooth = self.label_smoothing
        if self.kind == "sigmoid":
            logits = logits.view(target.shape)
            soft = target * (1 - smooth) + smooth / 2
            loss = binary_cross_entropy_with_logits(logits, soft, reduction="none")
            p_true = torch.sigmoid(logits * (2 * target - 1))
        else:
            log_p = log_softmax(logits, dim=1)
            log_p_true = log_p.gather(1, target[:, None])[:, 0]
            loss = -(1 - smooth) * log_p_true - smooth * log_p.mean(1)
            p_true = log_p_true.exp()
        return loss * (1 - p_true) ** _FOCAL_GAMMA if self.loss == "focal" else loss


def probabilities(logits: torch.Tensor, kind: str, n_outputs: int) -> torch.Tensor:
    """Class (label) probabilities in double precision, two columns for one logit."""
    logits = logits.double()
    if kind == "softmax":
        return logits.softmax(1)
    p = torch.sigmoid(logits)
    return torch.cat([torch.sigmoid(-logits), p], 1) if n_outputs == 1 else p
