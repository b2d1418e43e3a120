"""W&B dashboards as code: a workspace for each experiment, made by wandb-workspaces.

The panels read what runs/wandb.py records: metrics by their own names over `step`, one W&B run per seed, grouped by
variant, with the band from the lowest to the highest seed.
"""

from __future__ import annotations

import json
from typing import Any

import wandb_workspaces.reports.v2
import wandb_workspaces.workspaces

wr: Any = wandb_workspaces.reports.v2  # their hints refuse what they take
ws: Any = wandb_workspaces.workspaces

RANDOM = ("__id__", "id", "ref", "openRunSet", "createdAt", "updatedAt")  # drawn anew, or today's
PERCENTILES = ("p15", "p50", "p85")
VIEWS = {
    # experiment: layers whose inputs are probed, accuracy's split, settings that the sweep varies
    "fig1_mnist": (["hidden3"], "test", ["regime", "optim.lr"]),
    "fig1_quick": (["hidden3"], "test", ["optim.lr"]),
    "sensitivity_mnist": ([], "val", ["optim.lr", "model.init_std"]),
    "tolerance_maps": ([], "val", ["model.activation", "optim.lr", "model.init_std"]),
    "design_grid": ([], "val", ["model.activation", "model.dropout", "data.batch_size", "optim.lr"]),
    "dropout_bn": ([], "val", ["model.activation", "model.dropout"]),
    "fig2_imagenet": (["conv1", "3a", "4a", "4e", "5b"], "test", ["optim.lr_scale"]),
}


def workspace(entity: str, project: str, experiment: str) -> Any:
    """The view of one experiment. Raises KeyError for one that has none."""
    layers, split, varied = VIEWS[experiment]
    over = {"x": "step", "smoothing_type": "none"}
    bands = over | {"groupby": "variant", "groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}
    accuracy = wr.LinePlot(title=f"{split} accuracy", y=[f"{split}/accuracy"], **bands)
    early = wr.LinePlot(
        title=f"{split} accuracy, steps logarithmic", y=[f"{split}/accuracy"], log_x=True, **bands
    )
    loss = wr.LinePlot(title="loss", y=["train/loss", f"{split}/loss"], log_y=True, **bands)
    sections = [ws.Section(name="Accuracy", is_open=True, panels=[accuracy, early, loss])]
    if layers:
        fans = [
            wr.LinePlot(
                title=f"{layer}: one unit", y=[f"probe/{layer}/typical/{p}" for p in PERCENTILES], **bands
            )
            for layer in layers
        ]
        sections.append(ws.Section(name="Inputs to nonlinearities", is_open=True, panels=fans))
        over_time = [
            wr.LinePlot(title=f"{layer}: histograms", y=[f"probe/{layer}/histogram"], x="step")
            for layer in layers
        ]
        sections.append(ws.Section(name="Their distribution over time", is_open=False, panels=over_time))
    reached = wr.SummaryMetric(f"{split}/accuracy")
    final = [wr.ParallelCoordinatesPlotColumn(wr.Config(key)) for key in varied]
    final.append(wr.ParallelCoordinatesPlotColumn(reached))
    parallel = wr.ParallelCoordinatesPlot(title="settings and accuracy", columns=final)
    scatter = wr.ScatterPlot(title="rate and accuracy", x=wr.Config("optim.lr"), y=reached, log_x=True)
    sections.append(ws.Section(name="The sweep", is_open=True, panels=[parallel, scatter]))
    runs = ws.RunsetSettings(
        groupby=[ws.Config("variant")],
        filters=[ws.Config("experiment") == experiment],
        order=[ws.Ordering(ws.Summary(f"{split}/accuracy"))],
    )
    return ws.Workspace(
        entity=entity, project=project, name=experiment, sections=sections, runset_settings=runs
    )


def spec(made: Any) -> Any:
    """What would be sent, as plain JSON values, without what is drawn at random."""
    return _clean(json.loads(made._to_model().model_dump_json(by_alias=True, exclude_none=True)))


def _clean(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _clean(value) for key, value in node.items() if key not in RANDOM}
    return [_clean(value) for value in node] if isinstance(node, list) else node
