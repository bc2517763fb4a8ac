"""Training: `fit` runs the epochs, `evaluate` measures, and what happened is in a `History`.

history = gb.train.fit(model, (X, y), loss="cross_entropy", optimizer="adam", epochs=10, metrics=["accuracy"])
history["accuracy"]  # one value an epoch
"""

from __future__ import annotations

from .callbacks import Callback, EarlyStopping, Run
from .history import History
from .loop import evaluate, fit, make_step
from .metrics import Metric
from .names import LOSSES, METRICS, OPTIMIZERS, SCHEDULES
from .precision import PRECISIONS

# fmt: off
__all__ = [
    "LOSSES", "METRICS", "OPTIMIZERS", "PRECISIONS", "SCHEDULES",
    "Callback", "EarlyStopping", "History", "Metric", "Run", "evaluate", "fit", "make_step",
]
# fmt: on
