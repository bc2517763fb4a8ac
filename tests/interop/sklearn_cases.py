"""scikit-learn with array_api_dispatch on Tensors against the same calls on NumPy arrays; see test_sklearn.py."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import sklearn
from sklearn import (
    calibration,
    decomposition,
    discriminant_analysis,
    feature_selection,
    kernel_approximation,
    linear_model,
    metrics,
    mixture,
    model_selection,
    naive_bayes,
    pipeline,
    preprocessing,
)

import gpu_backprop as gb

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(40, 4))
Y = X @ np.array([1.0, 2.0, -1.0, 0.5]) + 0.1 * RANDOM.normal(size=40)
CLASSES = (Y > 0).astype(np.int64) + (Y > 1.5)
INPUTS = {
    "X": X,
    "y": Y,
    "predicted": Y + 0.1 * RANDOM.normal(size=40),
    "positive": abs(Y) + 0.1,
    "near": abs(Y) * 1.1 + 0.1,
    "classes": CLASSES,
    "guesses": np.roll(CLASSES, 3),
    "labels": (Y > 0).astype(np.int64),
    "others": np.roll((Y > 0).astype(np.int64), 5),
    "p": RANDOM.uniform(0.1, 0.9, 40),
    "A": abs(X) + 0.1,
    "B": abs(X[::-1]) + 0.2,
}

RIDGE = linear_model.Ridge(solver="svd")
ESTIMATORS: dict[str, tuple[Any, ...]] = {  # the estimator, and what it is fitted to
    "StandardScaler": (preprocessing.StandardScaler(), "X"),
    "MinMaxScaler": (preprocessing.MinMaxScaler(), "X"),
    "MaxAbsScaler": (preprocessing.MaxAbsScaler(), "X"),
    "Normalizer": (preprocessing.Normalizer(), "X"),
    "Binarizer": (preprocessing.Binarizer(), "X"),
    "PolynomialFeatures": (preprocessing.PolynomialFeatures(), "X"),
    "PCA, full": (decomposition.PCA(2, svd_solver="full"), "X"),
    "PCA, covariance_eigh": (decomposition.PCA(2, svd_solver="covariance_eigh"), "X"),
    "PCA, randomized": (decomposition.PCA(2, svd_solver="randomized", random_state=0), "X"),
    "PCA, mle, whitened": (decomposition.PCA("mle", whiten=True, svd_solver="full"), "X"),
    "Ridge": (linear_model.Ridge(), "X", "y"),
    "Ridge, svd": (RIDGE, "X", "y"),
    "RidgeCV": (linear_model.RidgeCV(), "X", "y"),
    "RidgeClassifier": (linear_model.RidgeClassifier(solver="svd"), "X", "classes"),
    "LogisticRegression": (linear_model.LogisticRegression(), "X", "labels"),
    "PoissonRegressor": (linear_model.PoissonRegressor(), "X", "positive"),
    "LinearDiscriminantAnalysis": (discriminant_analysis.LinearDiscriminantAnalysis(), "X", "classes"),
    "GaussianNB": (naive_bayes.GaussianNB(), "X", "classes"),
    "Nystroem": (kernel_approximation.Nystroem(n_components=5, random_state=0), "X"),
    "GaussianMixture": (mixture.GaussianMixture(2, random_state=0, init_params="random"), "X"),
    "a pipeline": (pipeline.make_pipeline(preprocessing.StandardScaler(), decomposition.PCA(2), RIDGE), "X", "y"),
}
ROWS = (  # arguments, functions of sklearn.metrics, or of sklearn.metrics.pairwise
    ("y predicted", "mean_squared_error mean_absolute_error root_mean_squared_error r2_score max_error"),
    ("y predicted", "explained_variance_score median_absolute_error mean_pinball_loss d2_absolute_error_score"),
    ("y predicted", "mean_absolute_percentage_error d2_tweedie_score d2_pinball_score"),
    ("positive near", "mean_squared_log_error root_mean_squared_log_error mean_gamma_deviance mean_poisson_deviance"),
    ("classes guesses", "accuracy_score balanced_accuracy_score cohen_kappa_score confusion_matrix zero_one_loss"),
    ("classes guesses", "multilabel_confusion_matrix hamming_loss matthews_corrcoef precision_recall_fscore_support"),
    ("labels others", "f1_score jaccard_score precision_score recall_score"),
    ("labels p", "brier_score_loss log_loss d2_log_loss_score roc_auc_score roc_curve precision_recall_curve"),
    ("labels p", "average_precision_score det_curve"),
    ("A B", "cosine_similarity cosine_distances euclidean_distances manhattan_distances linear_kernel rbf_kernel"),
    ("A B", "polynomial_kernel sigmoid_kernel laplacian_kernel chi2_kernel additive_chi2_kernel"),
    ("A B", "paired_cosine_distances paired_euclidean_distances paired_manhattan_distances pairwise_distances"),
)
CASES: dict[str, Callable[[Any], Any]] = {
    "train_test_split": lambda a: model_selection.train_test_split(a.X, a.y, random_state=0),
    "train_test_split, stratified": lambda a: model_selection.train_test_split(
        a.X, a.classes, random_state=0, stratify=a.classes
    ),
    "cross_val_predict": lambda a: model_selection.cross_val_predict(RIDGE, a.X, a.y, cv=3),
    "GridSearchCV": lambda a: (
        model_selection.GridSearchCV(RIDGE, {"alpha": [0.1, 1.0]}, cv=3).fit(a.X, a.y).predict(a.X)
    ),
    "LabelEncoder": lambda a: preprocessing.LabelEncoder().fit_transform(a.classes),
    "LabelBinarizer": lambda a: preprocessing.LabelBinarizer().fit_transform(a.classes),
    "calibration_curve": lambda a: calibration.calibration_curve(a.labels, a.p),
    "f1_score, macro": lambda a: metrics.f1_score(a.classes, a.guesses, average="macro"),
}
# What scikit-learn 1.9 computes with NumPy alone, or makes of its own accord.
NUMPY: dict[str, Callable[[Any], Any]] = {
    "SelectKBest": lambda a: feature_selection.SelectKBest(k=2).fit(a.X, a.y).scores_,
    "LinearRegression": lambda a: linear_model.LinearRegression().fit(a.X, a.y).singular_,
    "cross_val_score": lambda a: model_selection.cross_val_score(RIDGE, a.X, a.y),
    "RobustScaler": lambda a: preprocessing.RobustScaler().fit_transform(a.X),
    "nan_euclidean_distances": lambda a: metrics.pairwise.nan_euclidean_distances(a.A, a.B),
}
RESULTS = ("transform", "predict", "predict_proba", "decision_function", "score_samples", "predict_log_proba")


def fitted(estimator: Any, *names: str) -> Callable[[Any], dict[str, Any]]:
    """All arrays that the estimator learns, and all that it then says about X."""

    def case(a: Any) -> dict[str, Any]:
        e = sklearn.base.clone(estimator).fit(*(getattr(a, name) for name in names))
        out = {k: v for k, v in vars(e).items() if k.endswith("_") and k[0] != "_" and getattr(v, "ndim", 0)}
        out |= {name: getattr(e, name)(a.X) for name in RESULTS if hasattr(e, name)}
        if hasattr(e, "inverse_transform"):
            out["inverse"] = e.inverse_transform(out["transform"])
        return out

    return case


def measured(arguments: str, name: str) -> Callable[[Any], Any]:
    function = getattr(metrics, name, None) or getattr(metrics.pairwise, name)
    return lambda a: function(*(getattr(a, n) for n in arguments.split()))


def arrays(result: Any) -> list[Any]:
    if isinstance(result, dict):
        return [a for key in sorted(result) for a in arrays(result[key])]
    return [a for r in result for a in arrays(r)] if isinstance(result, (tuple, list)) else [result]


def compare(case: Callable[[Any], Any], ours: Any, plain: Any) -> dict[str, Any]:
    expected = arrays(case(plain))
    try:
        got = arrays(case(ours))
        assert len(got) == len(expected), (got, expected)
        for g, e in zip(got, expected):
            host = g.numpy() if isinstance(g, gb.Tensor) else np.asarray(g)
            np.testing.assert_allclose(host, np.asarray(e), rtol=1e-8, atol=1e-10)
            assert host.dtype == np.asarray(e).dtype, (host.dtype, e)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}", "types": []}
    return {"error": "", "types": sorted({type(g).__name__ for g in got if g is not None})}


def main() -> None:
    warnings.simplefilter("ignore")
    sklearn.set_config(array_api_dispatch=True)
    gb.set_default_dtype("float64")  # as NumPy's is
    plain = SimpleNamespace(**INPUTS)
    ours = SimpleNamespace(**{name: gb.asarray(value) for name, value in INPUTS.items()})
    groups = {
        "estimators": {name: fitted(*row) for name, row in ESTIMATORS.items()},
        "metrics": {name: measured(arguments, name) for arguments, names in ROWS for name in names.split()},
        "tools": CASES,
        "NumPy": NUMPY,
    }
    json.dump(
        {group: {name: compare(case, ours, plain) for name, case in cases.items()} for group, cases in groups.items()},
        sys.stdout,
    )


if __name__ == "__main__":
    main()
