"""The scorecard: each claim of the paper as one function of the collected results.

The decision rules stand in the docstrings and were fixed before any result was seen. A claim is judged on
cases (regimes, measures): "reproduced" if its rule holds in every case, "not reproduced" if in none, else
"partly". The row shows the weakest case: the one whose 95% interval does least for the claim. Intervals are
pointwise: not corrected for the number of cases.
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from bnrepro.analysis import frame as tidy
from bnrepro.analysis.claims import figure1, imagenet, jacobian, noise, regularization, tolerance
from bnrepro.analysis.claims.judge import Frames, Verdict
from bnrepro.analysis.frame import MissingData

EXPERIMENTS = (
    "fig1_mnist",
    "sensitivity_mnist",
    "tolerance_maps",
    "batch_noise",
    "dropout_bn",
    "why_it_works",
    "fig2_imagenet",
    "fig2_imagenet_gpu",
    "ablation_imagenet",
    "fig4_ensemble",
)
JUDGES: dict[str, Callable[[Frames], Verdict]] = {
    **figure1.JUDGES,
    **tolerance.JUDGES,
    **noise.JUDGES,
    **regularization.JUDGES,
    **jacobian.JUDGES,
    **imagenet.JUDGES,
}
STATEMENTS = {
    "C1": "BN is more accurate than the baseline at matched steps, throughout training (Fig. 1a)",
    "C2": "BN reaches the baseline's best accuracy in fewer steps (Fig. 1a)",
    "C3": "the input distribution of a last-layer sigmoid is steadier with BN (Fig. 1b, c)",
    "C4": "BN(Wu) = BN((aW)u), with the gradients that follow (3.3)",
    "C5": "BN can represent the identity (3)",
    "C6": "inference is deterministic, one affine map, independent of the batch (3.1)",
    "C7": "the baseline diverges at 5 times its learning rate, BN does not (4.2.1)",
    "C8": "BN-Baseline needs fewer than half the steps (4.2.2)",
    "C9": "BN-x5 needs about 1/14 of the steps (4.2.2)",
    "C10": "BN-x30 starts slower than x5 and ends higher (4.2.2)",
    "C11": "with sigmoids BN trains and the baseline stays at chance (4.2.2)",
    "C12": "with BN, dropout can be removed without loss (3.4, 4.2.1)",
    "C13": "L2 can shrink, LRN can go, distortions can shrink, shuffling helps (4.2.1)",
    "C14": "an ensemble beats its best member (4.2.3)",
    "C15": "layer Jacobians have singular values nearer 1 with BN (3.3)",
    "C16": "BN cares less about initialization (abstract)",
    "C17": "a bigger mini-batch means less noise in its statistics, so less regularization (elsewhere)",
    "C18": "BN and dropout together regularize more than either (elsewhere)",
}


def scorecard(results_dir: Path | str) -> pd.DataFrame:
    """One row per claim, from what is in results/; where an input is missing, "not tested" and why."""
    folder, frames = Path(results_dir), {}
    for name in EXPERIMENTS:
        if (folder / f"{name}.parquet").exists():
            frames[name] = tidy.load(folder / f"{name}.parquet")
    if (folder / "exact.csv").exists():
        frames["exact"] = pd.read_csv(folder / "exact.csv")
    rows = []
    for claim, statement in STATEMENTS.items():
        try:
            verdict = JUDGES[claim](frames) if claim in JUDGES else Verdict(claim, "not tested")
        except MissingData as reason:
            verdict = Verdict(claim, "not tested", note=str(reason))
        rows.append({"claim": claim, "statement": statement, **asdict(verdict)})
    return pd.DataFrame(rows)
