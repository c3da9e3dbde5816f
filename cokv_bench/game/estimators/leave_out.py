"""Ridge regression with the errors of leaving out whole units, exactly and from one decomposition."""

from dataclasses import dataclass

import numpy as np

from cokv_bench.game.coalitions import FloatArray, IntArray


@dataclass(frozen=True)
class LevelledFit:
    """A linear model with a free level for each group of rows and coefficients that a penalty shrinks.

    The levels are those of coalition sizes. They are not penalised, so they drop out: design and target are centred
    within each group, which is what is stored.

    Attributes:
        design: float64 [m, columns], centred.
        target: float64 [m], centred.
        groups: int64 [m], the group of each row, 0 to the number of groups less 1.
        units: int64 [m], the unit of each row, 0 to the number of units less 1.
        left, singular, right: singular value decomposition of the design, float64 [m, k], [k] and [k, columns].
    """

    design: FloatArray
    target: FloatArray
    groups: IntArray
    units: IntArray
    left: FloatArray
    singular: FloatArray
    right: FloatArray

    @classmethod
    def of(cls, design: FloatArray, target: FloatArray, groups: IntArray, units: IntArray) -> "LevelledFit":
        """Centre the rows (float [m, columns] and [m]) within their groups and decompose the design."""
        design, target = design.copy(), target.copy()
        for group in range(int(groups.max()) + 1):
            same = groups == group
            # The mean of the sample, not size / players: else chance in who was sampled would be left in the target.
            design[same] -= design[same].mean(axis=0)
            target[same] -= target[same].mean()
        left, singular, right = np.linalg.svd(design, full_matrices=False)
        return cls(design, target, groups, units, left, singular, right)

    def coefficients(self, penalty: float) -> FloatArray:
        """The coefficients at that penalty, float64 [columns]."""
        found: FloatArray = self.right.T @ (self.singular / (self.singular**2 + penalty) * (self.left.T @ self.target))
        return found

    def left_out(self, penalty: float) -> FloatArray:
        """What is left of the target of each row by the fit to all units but its own, float64 [m].

        With H the matrix that takes the target to its fit, g the rows of a unit and e the residuals of the fit to all
        rows, these are (1 - H_gg)^-1 e_g: no fit is made again.

        A group that only one unit has loses its level together with the unit. What is left to foretell are then the
        differences within the unit, which the centred rows hold, so such a group counts as having no level.
        """
        kept = self.singular**2 / (self.singular**2 + penalty)
        residuals = self.target - self.left @ (kept * (self.left.T @ self.target))
        level = self._level_weights()
        errors = np.empty_like(residuals)
        order = np.argsort(self.units, kind="stable")
        counts = np.bincount(self.units)
        starts = np.cumsum(counts) - counts
        for count in np.unique(counts):
            rows = order[starts[counts == count][:, None] + np.arange(count)]  # [units, rows of a unit]
            left, groups = self.left[rows], self.groups[rows]
            fitted = (left * kept) @ left.transpose(0, 2, 1)
            fitted += np.where(groups[:, :, None] == groups[:, None, :], level[rows][:, :, None], 0.0)
            errors[rows] = np.linalg.solve(np.eye(count) - fitted, residuals[rows][:, :, None])[:, :, 0]
        return errors

    def _level_weights(self) -> FloatArray:
        """What each row counts in the level of its group, float64 [m]; 0 where only one unit has the group."""
        owners = np.unique(np.stack([self.groups, self.units]), axis=1)[0]
        weights: FloatArray = np.where(np.bincount(owners) > 1, 1 / np.bincount(self.groups), 0.0)[self.groups]
        return weights
