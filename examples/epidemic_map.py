"""Draw the map of the quick start's search: how well each pair of rates fits the outbreak.

It asks for the results of `quickstart.py`, which lies beside it. What that program computed is read from
its cache, and what is missing is computed; so it makes no difference which of the two runs first. The picture
is written to `epidemic_map.svg`. It needs `pip install 'chunk-memo[notebook]'`.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.colors import LogNorm
from quickstart import misfit

PICTURE = Path(__file__).with_suffix(".svg")

# The same picture, byte for byte, each time that it is drawn.
mpl.rcParams["svg.hashsalt"] = "epidemic"


def main():
    """Say what is missing of the grid, compute and read it, draw it, and mark the best pair."""
    print(misfit.plan())
    result = misfit.sweep()

    error = result.to_xarray()["misfit"]
    best = error.isel(error.argmin(...))
    beta, gamma = float(best["beta"]), float(best["gamma"])

    figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained", facecolor="white")
    result.plot(x="beta", y="gamma", ax=axes)  # axes, labels and units come from the cache
    (colours,) = axes.collections
    colours.set_norm(LogNorm(float(best), float(error.max())))
    colours.set_rasterized(True)
    axes.contour(error["beta"], error["gamma"], error.T, levels=[2 * float(best)], colors="white")
    axes.plot(beta, gamma, "*", color="white", markersize=10)
    axes.annotate(
        f"β = {beta:.2f}, γ = {gamma:.2f}",
        (beta, gamma),
        xytext=(4, 48),
        textcoords="offset points",
        color="white",
        ha="center",
    )
    axes.set_title("School influenza, 1978: 201 × 201 pairs, each computed once")
    figure.savefig(PICTURE, dpi=90, metadata={"Date": None, "Creator": None})
    print(f"best fit: beta {beta:.3f} per day, gamma {gamma:.3f} per day")
    print(f"written: {PICTURE.name}, {PICTURE.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
