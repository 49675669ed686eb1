"""Writes correlate.json: rank correlations and bootstrap intervals by SciPy.

pip install numpy==2.* scipy==1.17.1; python correlate.py
"""

import json
import math
from pathlib import Path

import numpy as np
from scipy import stats

rng = np.random.default_rng(20230425)


def pair(n, rho):
    x = rng.standard_normal(n)
    return x, rho * x + math.sqrt(1 - rho**2) * rng.standard_normal(n)


columns = {
    "plain": pair(25, 0.6),
    "negative": pair(40, -0.9),
    "unrelated": pair(60, 0.0),
    "ties in x": (rng.integers(0, 4, 30).astype(float), rng.standard_normal(30)),
    "ties in both": (rng.integers(0, 3, 50).astype(float), rng.integers(0, 5, 50).astype(float)),
    "three": (np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])),
    "signed zeros": (np.array([0.0, -0.0, 1.0, 2.0]), np.array([3.0, 1.0, -0.0, 0.0])),
    "infinities": (np.array([-np.inf, 0.0, 1.0, np.inf, 2.0]), np.array([np.inf, 3.0, 3.0, -np.inf, 7.0])),
    "constant": (np.ones(6), np.arange(6.0)),
}


def number(v):
    """JSON has neither NaN nor infinities."""
    return v if math.isfinite(v) else str(v)


cases = [
    {
        "name": name,
        "x": [number(float(v)) for v in x],
        "y": [number(float(v)) for v in y],
        "spearman": number(float(stats.spearmanr(x, y).statistic)),
        "kendall": number(float(stats.kendalltau(x, y, variant="b").statistic)),
    }
    for name, (x, y) in columns.items()
]


def spearman(x, y, axis=-1):
    r, s = stats.rankdata(x, axis=axis), stats.rankdata(y, axis=axis)
    r, s = r - r.mean(axis, keepdims=True), s - s.mean(axis, keepdims=True)
    return (r * s).sum(axis) / np.sqrt((r * r).sum(axis) * (s * s).sum(axis))


kendall = np.vectorize(lambda x, y: stats.kendalltau(x, y).statistic, signature="(n),(n)->()")

intervals = []
for name in ("plain", "negative", "ties in both"):
    for which, statistic, resamples in (("spearman", spearman, 200_000), ("kendall", lambda x, y, axis=-1: kendall(x, y), 40_000)):
        for method in ("percentile", "BCa"):
            found = stats.bootstrap(
                columns[name],
                statistic,
                paired=True,
                vectorized=True,
                n_resamples=resamples,
                batch=2000,
                method=method,
                rng=np.random.default_rng(7),
            ).confidence_interval
            intervals.append(
                {"name": name, "coefficient": which, "method": method.lower(), "lower": found.low, "upper": found.high}
            )

out = {"scipy": __import__("scipy").__version__, "cases": cases, "intervals": intervals}
Path(__file__).with_suffix(".json").write_text(json.dumps(out, indent=1) + "\n")
