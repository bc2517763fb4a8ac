"""Calls of SciPy and scikit-learn, run in a process of their own with SCIPY_ARRAY_API=1 (see test_dispatch.py).

Each line is evaluated with NumPy's arrays under its names, and with Tensors; the results must agree, and be Tensors
where the library returns arrays. What came with a newer release than the oldest that is supported is left out.
"""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from typing import Any

SCIPY = """
special.erf(x)
special.erfc(x)
special.expit(x)
special.gammaln(x)
special.logit(x)
special.ndtr(x)
special.ndtri(x)
special.i0(x)
special.entr(x)
special.rel_entr(x, y)
special.xlogy(x, y)
special.betainc(x, y, x)
special.gammainc(x, y)
special.logsumexp(x, axis=1)
special.softmax(x, axis=1)
special.log_softmax(x, axis=1)
stats.zscore(x, axis=1)
stats.skew(x)
stats.kurtosis(x, axis=None)
stats.moment(x, 3)
stats.gmean(x)
stats.hmean(x, axis=1)
stats.variation(x)
stats.sem(x)
stats.entropy(x)
stats.describe(x).variance
stats.pearsonr(v, w).statistic
stats.pearsonr(v, w).pvalue
stats.ttest_1samp(v, 0.1).pvalue
stats.ttest_ind(v, w).statistic
stats.ttest_rel(v, w).pvalue
stats.normaltest(v).statistic
stats.jarque_bera(v).pvalue
stats.bartlett(v, w).pvalue
stats.chisquare(v * v).statistic
stats.circmean(x)
signal.fftconvolve(v, w)
signal.convolve(v, w, method="fft")
signal.hilbert(v)
signal.detrend(v)
signal.savgol_filter(v, 5, 2)
signal.sosfilt(xp.asarray(signal.butter(3, 0.2, output="sos")), v)
ndimage.gaussian_filter(x, 1.0)
ndimage.sobel(x)
ndimage.median_filter(x, 3)
ndimage.label(x > 0.5)[0]
ndimage.zoom(x, 2)
ndimage.rotate(x, 30)
cluster.vq.whiten(x)
cluster.vq.vq(x, y[:2])[0]
cluster.vq.kmeans2(x, x[:2], minit="matrix")[0]
cluster.hierarchy.linkage(x)
fft.fft(v)
fft.rfft(v, 12)
fft.irfftn(x)
fft.dct(v)
fft.fftshift(v)
integrate.trapezoid(x)
integrate.cumulative_trapezoid(x)
integrate.tanhsinh(lambda t: t * t, v[:2] * 0, v[:2] * v[:2]).integral
optimize.rosen(v)
optimize.rosen_der(v)
optimize.elementwise.find_root(lambda t: t**3 - 2, (v[:2] * 0, v[:2] * 0 + 2)).x
optimize.elementwise.find_minimum(lambda t: (t - 1) ** 2, (v[:1] * 0 - 1, v[:1] * 0 + 0.5, v[:1] * 0 + 3)).x
differentiate.derivative(lambda t: t**3, v[:3]).df
"""

SKLEARN = """
abs(decomposition.PCA(2, svd_solver="full").fit_transform(X))
abs(decomposition.PCA(2, svd_solver="covariance_eigh").fit_transform(X))
abs(decomposition.PCA(3, whiten=True).fit(X).transform(X))
decomposition.PCA(3).fit(X).inverse_transform(decomposition.PCA(3).fit(X).transform(X))
decomposition.PCA(3).fit(X).explained_variance_
linear_model.Ridge(solver="svd").fit(X, target).predict(X)
linear_model.Ridge(solver="svd").fit(X, target).coef_
discriminant_analysis.LinearDiscriminantAnalysis().fit(X, labels).predict(X)
discriminant_analysis.LinearDiscriminantAnalysis().fit(X, labels).predict_proba(X)
abs(discriminant_analysis.LinearDiscriminantAnalysis().fit(X, labels).transform(X))
preprocessing.StandardScaler().fit_transform(X)
preprocessing.StandardScaler().fit(X).inverse_transform(X)
preprocessing.MinMaxScaler().fit_transform(X)
preprocessing.MaxAbsScaler().fit_transform(X)
preprocessing.Normalizer().fit_transform(X)
preprocessing.LabelEncoder().fit_transform(labels)
pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.Ridge(solver="svd")).fit(X, target).predict(X)
model_selection.train_test_split(X, random_state=0)[1]
metrics.mean_squared_error(target, X[:, 1])
metrics.mean_absolute_error(target, X[:, 1])
metrics.r2_score(target, X[:, 1])
metrics.max_error(target, X[:, 1])
metrics.mean_tweedie_deviance(target, X[:, 1])
metrics.accuracy_score(labels, guess)
metrics.f1_score(labels, guess)
metrics.precision_score(labels, guess)
metrics.recall_score(labels, guess)
metrics.jaccard_score(labels, guess)
metrics.hamming_loss(labels, guess)
metrics.zero_one_loss(labels, guess)
metrics.confusion_matrix(labels, guess)
metrics.pairwise.euclidean_distances(X, X[:3] + 1)
metrics.pairwise.cosine_similarity(X)
metrics.pairwise.rbf_kernel(X)
metrics.pairwise.linear_kernel(X)
metrics.pairwise.polynomial_kernel(X)
"""

# through which a gradient goes, because SciPy computes them with functions of the array's own library, and without item
# assignment; where it does not, a TapeError says so
DIFFERENTIABLE = """
special.softmax(x, axis=1)
stats.skew(x)
stats.kurtosis(x)
stats.moment(x, 3)
integrate.trapezoid(x)
optimize.rosen(v)
stats.sem(x)
fft.irfftn(x)
"""


def lines(table: str) -> list[str]:
    return table.strip().split("\n")


def modules(package: str, table: str) -> dict[str, Any]:
    dotted = {line.removeprefix("abs(").partition("(")[0].rsplit(".", 1)[0] for line in lines(table)}
    for name in dotted:
        importlib.import_module(f"{package}.{name}")
    return {name: sys.modules[f"{package}.{name}"] for name in {name.partition(".")[0] for name in dotted}}


def data() -> dict[str, Any]:
    import numpy as np

    random = np.random.default_rng(0)
    X = random.normal(size=(40, 5))
    return {
        "x": random.uniform(0.1, 0.9, (4, 5)), "y": random.uniform(0.1, 0.9, (4, 5)),
        "v": random.normal(size=20), "w": random.normal(size=20),
        "X": X, "target": X[:, 0] + 0.3 * random.normal(size=40), "labels": (X[:, 0] > 0).astype(np.int64),
        "guess": (X[:, 0] + random.normal(size=40) > 0).astype(np.int64),
    }  # fmt: skip


def difference(found: Any, expected: Any) -> str:
    """What is wrong with a result; nothing if it is right."""
    import numpy as np

    import gpu_backprop as gb

    if isinstance(expected, np.ndarray) and not isinstance(found, gb.Tensor):
        return f"a {type(found).__name__} instead of a Tensor"
    try:
        np.testing.assert_allclose(found.numpy() if isinstance(found, gb.Tensor) else found, expected, 1e-7, 1e-9)
    except AssertionError as error:
        return str(error)
    return ""


def main() -> dict[str, str]:
    import numpy as np
    import sklearn

    import gpu_backprop as gb

    warnings.simplefilter("ignore")
    gb.set_default_dtype("float64")
    arrays = data()
    tensors = {name: gb.asarray(value) for name, value in arrays.items()}
    answers = {}
    for package, table, dispatch in (("scipy", SCIPY, False), ("sklearn", SKLEARN, True)):
        space = modules(package, table)
        for line in lines(table):
            try:
                expected = eval(line, {**space, **arrays, "xp": np})
                with sklearn.config_context(array_api_dispatch=dispatch):
                    answers[line] = difference(eval(line, {**space, **tensors, "xp": gb}), expected)
            except Exception as error:
                answers[line] = f"{type(error).__name__}: {error}"
    space = modules("scipy", SCIPY)
    for line in lines(DIFFERENTIABLE):
        name = "x" if "(x" in line else "v"
        try:
            gb.gradcheck(lambda t: eval(line, {**space, **tensors, name: t}), tensors[name])  # noqa: B023
            answers[f"gradient of {line}"] = ""
        except Exception as error:
            answers[f"gradient of {line}"] = f"{type(error).__name__}: {error}"
    return answers


if __name__ == "__main__":
    print(json.dumps(main()))
