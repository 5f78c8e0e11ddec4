"""How far confidence can be trusted: expected calibration error, and a temperature that mends it."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def expected_calibration_error(logits: Float[Tensor, "N C"], labels: Int[Tensor, " N"], bins: int = 15) -> float:
    """Return the mean gap between confidence and accuracy over equal bins of confidence, in [0, 1].

    Source: Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017).
    """
    confidence, preds = logits.double().softmax(1).max(1)
    right = (preds == labels).double()
    index = (confidence * bins).ceil().long().clamp(1, bins) - 1  # bins are (low, high]
    zeros = torch.zeros(bins, dtype=torch.double, device=logits.device)
    gap = zeros.index_add(0, index, confidence) - zeros.index_add(0, index, right)
    return gap.abs().sum().item() / max(len(labels), 1)


def fit_temperature(logits: Float[Tensor, "N C"], labels: Int[Tensor, " N"]) -> float:
    """Return the temperature that minimises cross-entropy, within [0.05, 20].

    Decide on the selection split; `logits / temperature` is then calibrated.
    """
    scores = logits.detach().double()
    log_temperature = torch.zeros(1, dtype=torch.double, device=logits.device, requires_grad=True)
    optimiser = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(scores / log_temperature.exp(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(objective)  # type: ignore[no-untyped-call]
    return float(log_temperature.detach().exp().clamp(0.05, 20).item())
