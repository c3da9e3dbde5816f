"""Ridge regression with the errors of leaving out whole units, exactly and from one decomposition."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import orth

from cokv_bench.game.coalitions import FloatArray, IntArray
from cokv_bench.game.estimators.base import sum_by_unit

#: Directions with less than this part of what the design held before the levels were taken out are not measured.
_SINGULAR = 1e-9
#: Directions with less than this part of a unit vector left are lost together with a unit.
_LOST = 1e-9


@dataclass(frozen=True)
class LevelledFit:
    """A linear model with free levels and with coefficients that a penalty shrinks.

    The levels are not penalised, so they drop out: design and target are stored without what the levels explain.

    Attributes:
        design: float64 [m, columns].
        target: float64 [m].
        levels: float64 [m, rank], orthonormal columns.
        units: int64 [m], the unit of each row, 0 to the number of units less 1.
        left, singular, right: singular value decomposition of the design, float64 [m, rank], [rank], [rank, columns].
    """

    design: FloatArray
    target: FloatArray
    levels: FloatArray
    units: IntArray
    left: FloatArray
    singular: FloatArray
    right: FloatArray

    @classmethod
    def of(cls, design: FloatArray, target: FloatArray, levels: FloatArray, units: IntArray) -> "LevelledFit":
        """The model of a target [m] by a design [m, columns] and levels [m, any number], not centred yet."""
        basis, scale = orth(levels), np.linalg.norm(design)
        design = design - basis @ (basis.T @ design)
        target = target - basis @ (basis.T @ target)
        left, singular, right = np.linalg.svd(design, full_matrices=False)
        kept = singular > _SINGULAR * scale
        return cls(design, target, basis, units, left[:, kept], singular[kept], right[kept])

    @property
    def degrees(self) -> int:
        """Rows less the levels that are fitted to them."""
        return len(self.target) - self.levels.shape[1]

    def coefficients(self, penalty: float) -> FloatArray:
        """The coefficients at that penalty, float64 [columns]."""
        found: FloatArray = self.right.T @ (self.singular / (self.singular**2 + penalty) * (self.left.T @ self.target))
        return found

    def left_out(self, penalty: float) -> FloatArray:
        """What is left of the target of each row by the fit to all units but its own, float64 [m].

        With H the matrix that takes the target to its fit, g the rows of a unit and e the residuals of the fit to all
        rows, these are (1 - H_gg)^-1 e_g: no fit is made again. A level that only one unit has is lost together
        with it; what is left to foretell is then what does not depend on that level.
        """
        errors = np.zeros_like(self.target)
        for rows, residuals, remaining, lost in self._by_unit(penalty):
            errors[rows] = np.linalg.solve(remaining + lost, residuals[:, :, None])[:, :, 0]
        return errors

    def added(self, penalty: float) -> FloatArray:
        """Variances of the coefficients as the sum of the squares of what units add, float64 [columns].

        Residuals count as (1 - H_gg)^-1/2 e_g, which vary as much as the noise does: fitting has made them smaller,
        most where a unit decides its own fit.
        """
        errors = np.zeros_like(self.target)
        for rows, residuals, remaining, lost in self._by_unit(penalty):
            parts, axes = np.linalg.eigh(remaining + lost)
            # What only this unit measures it fits exactly, and tells no noise.
            scale = np.where(parts > _LOST, 1 / np.sqrt(np.maximum(parts, _LOST)), 0.0)
            turned = (axes.transpose(0, 2, 1) @ residuals[:, :, None]) * scale[:, :, None]
            errors[rows] = (axes @ turned)[:, :, 0]
        pulls = sum_by_unit(self.design * errors[:, None], self.units)
        variances: FloatArray = np.square(pulls @ self._bread(penalty)).sum(axis=0)
        return variances

    def jackknife(self, penalty: float) -> float:
        """Sum over units and coefficients of the square of what the unit adds, told by leaving it out."""
        pulls = sum_by_unit(self.design * self.left_out(penalty)[:, None], self.units)
        return float(np.square(pulls @ self._bread(penalty)).sum())

    def excess(self, penalty: float, noise: float) -> float:
        """How many times larger the jackknife's sum is than independent rows with noise of that variance make it.

        Were the coefficients draws with the variance noise / penalty, it would be 1 on average.
        """
        expected = 0.0
        for rows, _, remaining, lost in self._by_unit(penalty):
            pulls = self.design[rows] @ self._bread(penalty)  # [units, rows of a unit, columns]
            expected += noise * float(np.sum(pulls * np.linalg.solve(remaining + lost, pulls)))
        return self.jackknife(penalty) / expected if expected > 0 else 1.0

    def _bread(self, penalty: float) -> FloatArray:
        """Inverse of the penalised sum of squares, in the directions that were measured, float64 [columns, columns]."""
        inverse: FloatArray = (self.right.T / (self.singular**2 + penalty)) @ self.right
        return inverse

    def _by_unit(self, penalty: float) -> Iterator[tuple[IntArray, FloatArray, FloatArray, FloatArray]]:
        """For the units with equally many rows: these rows, e_g, 1 - H_gg, and projectors on what is lost with a unit.

        Shapes are [units, rows of a unit] twice and [units, rows of a unit, rows of a unit] twice.
        """
        kept = self.singular**2 / (self.singular**2 + penalty)
        residuals = self.target - self.left @ (kept * (self.left.T @ self.target))
        for rows, free, lost in self._levelled:
            left = self.left[rows]
            yield rows, residuals[rows], free - (left * kept) @ left.transpose(0, 2, 1), lost

    @cached_property
    def _levelled(self) -> list[tuple[IntArray, FloatArray, FloatArray]]:
        """What no penalty changes of `_by_unit`: rows, 1 - H_gg of the levels alone, and the projectors."""
        found = []
        order = np.argsort(self.units, kind="stable")
        counts = np.bincount(self.units)
        starts = np.cumsum(counts) - counts
        for count in np.unique(counts):
            rows = order[starts[counts == count][:, None] + np.arange(count)]
            levels = self.levels[rows]
            free = np.eye(count) - levels @ levels.transpose(0, 2, 1)
            parts, axes = np.linalg.eigh(free)
            lost = (axes * (parts < _LOST)[:, None, :]) @ axes.transpose(0, 2, 1)
            found.append((rows, free, lost))
        return found
