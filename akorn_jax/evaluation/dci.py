"""Disentanglement, completeness and informativeness (Eastwood and Williams 2018, ICLR, section 2).

Random forests predict every factor from the code; R_ij is how much code dimension i matters for
factor j, by the impurity that splits on it take away.
"""

import numpy as np
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

TREES = 50


def importance(
    code: np.ndarray, factors: list[np.ndarray], *, seed: int = 0
) -> tuple[np.ndarray, list[RandomForestClassifier | RandomForestRegressor]]:
    """R `[D, M]` of a code, each column summing to 1, and the forests.

    Args:
        code: `[N, D]`.
        factors: M of them, `[N]` each; those of integers are classes.
        seed: of the forests.
    """
    forests = []
    for factor in factors:
        classes = np.issubdtype(factor.dtype, np.integer)
        kind = RandomForestClassifier if classes else RandomForestRegressor
        # All dimensions at every split: of a few at random, some that tell nothing would be taken.
        forest = kind(TREES, max_features=1.0, min_samples_leaf=2, random_state=seed)
        forests.append(forest.fit(code, factor))
    return np.stack([forest.feature_importances_ for forest in forests], axis=1), forests


def disentanglement(R: np.ndarray) -> float | None:
    """D = sum_i rho_i (1 - H_M(P_i)): does each code dimension tell of one factor alone, in [0, 1].

    P_ij = R_ij / sum_k R_ik, H_M is the entropy to the base M, and rho_i is the share of row i in
    the sum of R. None for a single factor.

    Args:
        R: `[D, M]`, not negative.
    """
    if R.shape[1] < 2 or not R.any():
        return None
    return float(R.sum(axis=1) @ (1 - _entropy(R)) / R.sum())


def completeness(R: np.ndarray) -> float | None:
    """C = mean_j (1 - H_D(P_j)): is each factor told by one code dimension alone, in [0, 1].

    P_ij = R_ij / sum_k R_kj, H_D is the entropy to the base D; the mean is over the factors that
    the code tells of at all. None for a code of one dimension.

    Args:
        R: `[D, M]`, not negative.
    """
    if R.shape[0] < 2 or not R.any():
        return None
    told = R.T[R.any(axis=0)]
    return float(np.mean(1 - _entropy(told)))


def _entropy(rows: np.ndarray) -> np.ndarray:
    """Entropy of each row `[n]`, once it sums to 1, to the base n; 0 of a row of zeros."""
    total = rows.sum(axis=1, keepdims=True)
    P = rows / np.where(total > 0, total, 1)
    return -np.sum(P * np.log(np.where(P > 0, P, 1)), axis=1) / np.log(rows.shape[1])
