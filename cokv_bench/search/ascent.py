"""The steps of a search: gradient ascent on log-shares that a minibatch of examples decides."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cokv_bench.search.examples import Point, SearchExamples
from cokv_bench.search.ledger import Round

# Of a log-share, a step: Adam moves each by about this much at first.
_RATE = 0.2
_LAST_RATE = 0.02
# The second moment of a minibatch's gradient is remembered over about a hundred steps.
_BETAS = (0.9, 0.99)
# Of the moving average that budgets are made from.
_AVERAGE = 0.97
# The most that one example may pull: without a limit a few whose derivatives are far larger decide where a search goes.
_CLIP = 0.3


def follow(
    examples: SearchExamples, points: Sequence[Point], log_shares: Sequence[Tensor], weights: Sequence[float]
) -> list[float]:
    """Scores of a minibatch; its gradient is added to what the log-shares were made from.

    Each point's gradient, times its weight, is cut to the length `_CLIP`, and the mean of them is what is added.

    Args:
        log_shares: one [layers, kv_heads] a point, made from parameters that require a gradient.
        weights: a number a point.
    """
    own = [each.detach().requires_grad_() for each in log_shares]
    scores = examples.score(points, own, weights)
    pulls = []
    for each in own:
        assert each.grad is not None
        # A constant added to all log-shares changes nothing.
        pull = each.grad - each.grad.mean()
        pulls.append(pull * min(1.0, _CLIP / max(float(pull.norm()), 1e-12)) / len(points))
    torch.autograd.backward(list(log_shares), pulls)
    return scores


@dataclass
class Ascent:
    """Log-shares on their way up.

    Attributes:
        parameters: float32 [budgets, layers, kv_heads], log-shares at each budget.
        average: their moving average, of the same shape.
        step: steps done.
    """

    parameters: Tensor
    average: Tensor
    step: int
    _adam: torch.optim.Adam

    @classmethod
    def start(cls, parameters: Tensor) -> "Ascent":
        """From a starting point."""
        own = parameters.clone().requires_grad_(True)
        return cls(own, parameters.clone(), 0, torch.optim.Adam([own], lr=_RATE, betas=_BETAS, maximize=True))

    @classmethod
    def resume(cls, round_: Round) -> "Ascent":
        """From the end of a round; the steps that follow are those of a search that never stopped."""
        ascent = cls.start(torch.tensor(round_.parameters))
        ascent.average, ascent.step = torch.tensor(round_.average), round_.step
        ascent._adam.state[ascent.parameters] = {
            "step": torch.tensor(float(round_.step)),
            "exp_avg": torch.tensor(round_.first),
            "exp_avg_sq": torch.tensor(round_.second),
        }
        return ascent

    def advance(self, progress: float) -> None:
        """A step along the gradient that was accumulated; the rate falls as `progress` goes from 0 to 1."""
        fall = 0.5 * (1 + torch.cos(torch.tensor(min(progress, 1.0)) * torch.pi).item())
        self._adam.param_groups[0]["lr"] = _LAST_RATE + (_RATE - _LAST_RATE) * fall
        self._adam.step()
        self._adam.zero_grad()
        self.step += 1
        with torch.no_grad():
            # A constant added to all heads changes nothing and must not grow.
            self.parameters -= self.parameters.mean(dim=(1, 2), keepdim=True)
            remembered = min(_AVERAGE, self.step / (self.step + 9))
            self.average.mul_(remembered).add_(self.parameters.detach(), alpha=1 - remembered)

    def round(self, seconds: float, followed: float, chosen: dict[str, float]) -> Round:
        """What the ledger needs to know."""
        state = self._adam.state[self.parameters]
        return Round(
            self.step,
            seconds,
            followed,
            chosen,
            self.parameters.detach().tolist(),
            self.average.tolist(),
            state["exp_avg"].tolist(),
            state["exp_avg_sq"].tolist(),
        )
