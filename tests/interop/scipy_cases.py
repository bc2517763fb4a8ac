"""SciPy's functions on Tensors against the same calls on NumPy arrays.

SciPy reads SCIPY_ARRAY_API when it is imported, so test_scipy.py runs this file in a process of its own, which prints a
JSON object: for each case what was wrong, the types of the results, and whether SciPy itself says that the function
takes other arrays than NumPy's.
"""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy import differentiate, integrate, interpolate, ndimage, optimize, signal, special, stats
from scipy._lib._array_api import xp_capabilities_table
from scipy.cluster import hierarchy, vq
from scipy.optimize import elementwise
from scipy.spatial.transform import RigidTransform, Rotation

import gpu_backprop as gb

POINTS = np.random.default_rng(0).normal(size=(12, 3))
NOISE = np.random.default_rng(1).normal(size=64)
IMAGE = np.random.default_rng(2).normal(size=(9, 8))
INPUTS: dict[str, Any] = {
    "p": np.linspace(0.05, 0.95, 7),
    "x": np.array([-3.0, -1.5, -0.1, 0.2, 1.0, 2.5, 7.0]),
    "positive": np.array([0.1, 0.5, 1.0, 1.5, 2.0, 3.5, 9.0]),
    "n": np.arange(7),
    "counts": np.array([16, 18, 16, 14, 12, 20]),
    "rows": POINTS,
    "other": POINTS[::-1] * 1.5 + 0.2,
    "lengths": abs(POINTS) + 0.5,
    "first": POINTS[:, 0],
    "second": POINTS[::-1, 1] * 1.5,
    "centres": POINTS[[0, 4, 8]],
    "square": POINTS[:3] + 4 * np.eye(3),
    "linkage": hierarchy.ward(POINTS),
    "signal": NOISE,
    "short": NOISE[:9],
    "b": np.array([0.2, 0.5, 0.3]),
    "a": np.array([1.0, -0.4]),
    "sos": signal.butter(4, 0.2, output="sos"),
    "image": IMAGE,
    "weights": np.array([[0.0, 0.5, 0.0], [0.5, 1.0, 0.5], [0.0, 0.5, 0.0]]),
    "mask": IMAGE > 0,
}

# module, arguments (inputs above, or numbers), functions
ROWS = (
    ("special", "p", "logit ndtri entr ellipk erfinv gammaln"),
    ("special", "x", "expit erf erfc erfcx ndtr log_ndtr sinc i0 i0e i1 i1e exprel cbrt j0 j1 cosm1 exp2 exp10 expi"),
    ("special", "x", "sindg cosdg spence"),
    ("special", "positive", "gamma psi loggamma exp1 y0 y1 k0 k1 rgamma gammasgn"),
    ("special", "positive p", "xlogy xlog1py rel_entr kl_div gammainc gammaincc gammaincinv betaln chdtr poch binom"),
    ("special", "positive x", "stdtr huber pseudo_huber"),
    ("special", "positive positive p", "betainc betaincc betaincinv fdtr"),
    ("special", "n positive", "polygamma"),
    ("special", "rows 1", "logsumexp softmax log_softmax"),
    ("stats", "rows", "describe skew kurtosis variation zscore sem kstat kstatvar skewtest kurtosistest normaltest"),
    ("stats", "rows", "jarque_bera circmean circvar circstd moment tmean tvar tstd tsem tmin tmax iqr mode rankdata"),
    ("stats", "rows", "lmoment median_abs_deviation differential_entropy"),
    ("stats", "lengths", "gmean hmean entropy gstd gzscore"),
    ("stats", "lengths 2", "pmean"),
    ("stats", "rows other", "zmap ttest_ind ttest_rel mannwhitneyu wilcoxon"),
    ("stats", "rows 0.1", "ttest_1samp trim_mean"),
    ("stats", "0.7 lengths", "boxcox_llf yeojohnson_llf"),
    ("stats", "first second", "pearsonr spearmanrho chatterjeexi kruskal bartlett levene fligner ansari mood f_oneway"),
    ("stats", "first second", "alexandergovern brunnermunzel epps_singleton_2samp cramervonmises_2samp"),
    ("stats", "rows 2.0", "sigmaclip"),
    ("stats", "counts", "chisquare"),
    ("stats", "p", "combine_pvalues false_discovery_control"),
    ("cluster.vq", "rows", "whiten"),
    ("cluster.vq", "rows centres", "vq kmeans"),
    ("cluster.hierarchy", "rows", "linkage single complete average weighted centroid median ward"),
    ("cluster.hierarchy", "linkage", "cophenet inconsistent maxdists is_monotonic is_valid_linkage num_obs_linkage"),
    ("cluster.hierarchy", "linkage", "leaves_list to_mlab_linkage"),
    ("cluster.hierarchy", "linkage rows", "optimal_leaf_ordering"),
    ("cluster.hierarchy", "linkage 2.0", "fcluster"),
    ("cluster.hierarchy", "rows 1.5", "fclusterdata"),
    ("signal", "signal short", "convolve correlate fftconvolve oaconvolve deconvolve"),
    ("signal", "image weights", "convolve2d correlate2d"),
    ("signal", "signal", "detrend hilbert envelope cspline1d wiener medfilt"),
    ("signal", "b a signal", "lfilter filtfilt"),
    ("signal", "sos signal", "sosfilt sosfiltfilt"),
    ("signal", "signal 48", "resample"),
    ("signal", "signal 3 2", "resample_poly"),
    ("signal", "signal 5 2", "savgol_filter"),
    ("signal", "short signal", "upfirdn"),
    ("signal", "b a", "freqz freqs bilinear lp2lp lp2hp lp2bp lfilter_zi"),
    ("signal", "sos", "freqz_sos sosfilt_zi sos2tf sos2zpk"),
    ("signal", "b a 2.0", "zpk2tf"),
    ("signal", "x 2.0", "vectorstrength"),
    ("ndimage", "image 1.0", "gaussian_filter gaussian_filter1d gaussian_laplace gaussian_gradient_magnitude shift"),
    ("ndimage", "image 1.0", "fourier_gaussian"),
    ("ndimage", "image 3", "uniform_filter median_filter maximum_filter minimum_filter grey_dilation grey_erosion"),
    ("ndimage", "image 2", "zoom"),
    ("ndimage", "image 30.0", "rotate"),
    ("ndimage", "image", "sobel prewitt laplace spline_filter center_of_mass sum_labels mean variance maximum extrema"),
    ("ndimage", "image weights", "convolve correlate"),
    ("ndimage", "mask", "label binary_dilation binary_erosion binary_fill_holes distance_transform_edt"),
    ("optimize", "x", "rosen rosen_der rosen_hess"),
    ("optimize", "x p", "rosen_hess_prod"),
    ("integrate", "p x", "trapezoid cumulative_trapezoid"),
    ("fft", "image", "fft ifft rfft fft2 hfft dct idct dst fftn rfftn dctn fftshift"),
    ("fft", "signal 0.1 0.5", "fht"),
    ("linalg", "rows other", "orthogonal_procrustes"),
)


def cube(x: Any, c: Any) -> Any:
    return x**3 - c


def valley(x: Any, c: Any) -> Any:
    return (x - c) ** 2 + 0.5 * (x - c) ** 4


CASES: dict[str, Callable[[Any], Any]] = {
    "special.logsumexp, signed": lambda a: special.logsumexp(a.rows, axis=1, b=a.other, return_sign=True),
    "special.multigammaln": lambda a: special.multigammaln(a.positive + 3, 2),
    "stats.ttest_ind, confidence": lambda a: stats.ttest_ind(a.rows, a.other, equal_var=False).confidence_interval(),
    "stats.power_divergence": lambda a: stats.power_divergence(a.counts, lambda_="cressie-read"),
    "stats.friedmanchisquare": lambda a: stats.friedmanchisquare(a.first, a.second, a.first * a.second),
    "stats.directional_stats": lambda a: stats.directional_stats(a.rows).mean_direction,
    "stats.quantile": lambda a: stats.quantile(a.first, a.p),
    "stats.bootstrap": lambda a: stats.bootstrap((a.signal,), a.mean, rng=np.random.default_rng(0), n_resamples=50),
    "cluster.vq.kmeans, k-means++": lambda a: vq.kmeans2(a.rows, 3, minit="++", rng=np.random.default_rng(0)),
    "signal.firwin": lambda a: signal.firwin(5, a.p[2:3]),
    "signal.tf2zpk": lambda a: a.xp.sort(abs(signal.tf2zpk(a.short[:3], a.b)[1])),  # roots are a set
    "signal.windows.hann": lambda a: signal.windows.hann(7, xp=a.xp),
    "signal.group_delay": lambda a: signal.group_delay((a.b, a.a), w=16),
    "ndimage.correlate1d": lambda a: ndimage.correlate1d(a.image, a.weights[1]),
    "ndimage.map_coordinates": lambda a: ndimage.map_coordinates(a.image, a.rows[:2] + 3),
    "ndimage.affine_transform": lambda a: ndimage.affine_transform(a.image, a.weights[:2, :2] + 1),
    "optimize.elementwise.find_root": lambda a: elementwise.find_root(
        cube, (0 * a.positive, a.positive + 1), args=(a.positive,)
    ),
    "optimize.elementwise.bracket_root": lambda a: elementwise.bracket_root(cube, 0 * a.positive, args=(a.positive,)),
    "optimize.elementwise.find_minimum": lambda a: elementwise.find_minimum(
        valley, (a.x - 3, a.x - 0.4, a.x + 2), args=(a.x,)
    ),
    "optimize.elementwise.bracket_minimum": lambda a: elementwise.bracket_minimum(valley, a.x + 0.3, args=(a.x,)),
    "differentiate.derivative": lambda a: differentiate.derivative(lambda x: x**3 + 2 * x, a.x),
    "differentiate.jacobian": lambda a: differentiate.jacobian(lambda x: x**2 + 2 * x, a.x[:3]),
    "integrate.cumulative_simpson": lambda a: integrate.cumulative_simpson(a.p, x=a.x, initial=0.5),
    "integrate.tanhsinh": lambda a: integrate.tanhsinh(lambda x: 1 / (1 + x**2), 0 * a.positive, a.positive),
    "integrate.nsum": lambda a: integrate.nsum(lambda x: 1 / x**2, a.positive**0, 20 * a.positive**0),
    "integrate.cubature": lambda a: (
        integrate.cubature(lambda x: a.xp.sum(x**2, axis=-1), a.x[:2], a.positive[:2]).estimate
    ),
    "interpolate.CubicSpline": lambda a: interpolate.CubicSpline(a.x, a.p)(a.p),
    "interpolate.Akima1DInterpolator": lambda a: interpolate.Akima1DInterpolator(a.x, a.p)(a.p),
    "interpolate.PchipInterpolator": lambda a: interpolate.PchipInterpolator(a.x, a.p)(a.p),
    "interpolate.PPoly": lambda a: interpolate.PPoly(a.rows[:4, :2], a.x[:3])(a.p),
    "interpolate.make_interp_spline": lambda a: interpolate.make_interp_spline(a.x, a.p, k=3)(a.p),
    "interpolate.RegularGridInterpolator": lambda a: interpolate.RegularGridInterpolator(
        (a.x, a.p), a.x[:, None] * a.p
    )(a.rows[:, :2] * 0.1 + 0.4),
    "spatial.Rotation.as_matrix": lambda a: Rotation.from_rotvec(a.rows).as_matrix(),
    "spatial.Rotation.apply": lambda a: Rotation.from_euler("xyz", a.rows).apply(a.other),
    "spatial.Rotation.inv": lambda a: (Rotation.from_rotvec(a.rows) * Rotation.from_rotvec(a.other)).inv().as_quat(),
    "spatial.Rotation.mean": lambda a: Rotation.from_rotvec(a.rows).mean().as_matrix(),
    "spatial.RigidTransform.apply": lambda a: RigidTransform.from_translation(a.rows).apply(a.other),
}

# What SciPy computes with NumPy's arrays alone: results are NumPy's, or an error tells so. SciPy's own table of what
# takes other arrays has no entry for the first of these, and "NumPy only" or "out of scope" for the second.
UNLISTED_ROWS = (
    ("special", "x", "log_expit log1p expm1"),
    ("special", "positive p", "beta"),
    ("linalg", "square", "inv expm det"),
    ("linalg", "x", "toeplitz"),
    ("spatial.distance", "rows other", "cdist"),
)
NUMPY_ROWS = (
    ("stats", "first second", "linregress kendalltau spearmanr ks_2samp ranksums wasserstein_distance energy_distance"),
    ("stats", "first second", "theilslopes pointbiserialr weightedtau somersd"),
    ("stats.contingency", "lengths", "expected_freq"),
    ("signal", "signal", "welch periodogram stft spectrogram find_peaks argrelmax"),
    ("signal", "signal signal", "csd coherence"),
    ("signal", "signal 2", "decimate"),
    ("signal", "x", "sawtooth square"),
    ("integrate", "p x", "simpson"),
)
REFUSED = {  # SciPy lists the function, whose source notes that .view(float) is not the standard's
    "interpolate.RBFInterpolator": lambda a: interpolate.RBFInterpolator(a.rows, a.first)(a.other),
}
GRADIENTS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {  # of the sum; what it must be
    "special.softmax": (
        lambda a: special.softmax(a.first)[0],
        lambda a: special.softmax(a.first)[0] * (np.eye(12)[0] - special.softmax(a.first)),
    ),
    "stats.gmean": (lambda a: stats.gmean(a.positive), lambda a: stats.gmean(a.positive) / (7 * a.positive)),
    "stats.tvar": (lambda a: stats.tvar(a.first), lambda a: 2 * (a.first - a.first.mean()) / 11),
    "optimize.rosen": (lambda a: optimize.rosen(a.x), lambda a: optimize.rosen_der(a.x)),
    "integrate.trapezoid": (
        lambda a: integrate.trapezoid(a.p**2),
        lambda a: 2 * a.p * np.array([0.5, *[1.0] * 5, 0.5]),
    ),
}
GRADIENT_INPUTS = ("first", "p", "positive", "x")


def expand(rows: tuple[tuple[str, str, str], ...]) -> dict[str, Callable[[Any], Any]]:
    """Cases named "module.function"."""

    def case(function: Callable[..., Any], arguments: list[str]) -> Callable[[Any], Any]:
        return lambda a: function(*(getattr(a, n) if n.isalpha() else json.loads(n) for n in arguments))

    return {
        f"{module}.{name}": case(getattr(importlib.import_module(f"scipy.{module}"), name), arguments.split())
        for module, arguments, names in rows
        for name in names.split()
    }


def arrays(result: Any) -> list[Any]:
    """The arrays of a result in order: of tuples, of dictionaries, and of SciPy's objects that have attributes."""
    if isinstance(result, dict):
        return [a for key in sorted(result) if key not in ("message", "_order_keys") for a in arrays(result[key])]
    if isinstance(result, (tuple, list)):
        return [a for r in result for a in arrays(r)]
    if hasattr(result, "__dataclass_fields__"):
        return [a for name in result.__dataclass_fields__ for a in arrays(getattr(result, name))]
    if hasattr(result, "statistic"):
        return [*arrays(result.statistic), *arrays(result.pvalue)]
    return [result]


def compare(case: Callable[[Any], Any], ours: Any, plain: Any) -> dict[str, Any]:
    expected = arrays(case(plain))
    try:
        got = arrays(case(ours))
        assert len(got) == len(expected), (got, expected)
        for g, e in zip(got, expected):
            host = g.numpy() if isinstance(g, gb.Tensor) else np.asarray(g)
            np.testing.assert_allclose(host, e, rtol=1e-9, atol=1e-9)
            assert host.dtype == np.asarray(e).dtype, (host.dtype, e)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}", "types": []}
    return {"error": "", "types": sorted({type(g).__name__ for g in got})}


def declared() -> dict[str, str]:
    """By "module.function" what SciPy says of it: "NumPy only", "out of scope" or ""."""
    said = {}
    for function, row in xp_capabilities_table.items():
        module = function.__module__.split(".")[1]
        kind = "out of scope" if row["out_of_scope"] else "NumPy only" if row["np_only"] else ""
        said[f"{module}.{getattr(function, '__qualname__', None) or function.__name__}"] = kind
    return said


def differentiate_through(name: str, plain: Any) -> dict[str, Any]:
    """The gradient of a SciPy function that is written for any array library, by its one input that is used."""
    function, expected = GRADIENTS[name]
    leaves = {n: gb.tensor(getattr(plain, n), requires_grad=True) for n in GRADIENT_INPUTS}
    try:
        gb.sum(function(SimpleNamespace(**leaves))).backward()
        (gradient,) = (leaf.grad for leaf in leaves.values() if leaf.grad is not None)
        np.testing.assert_allclose(gradient.numpy(), expected(plain), rtol=1e-9, atol=1e-12)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"error": ""}


def main() -> None:
    warnings.simplefilter("ignore")
    gb.set_default_dtype("float64")  # as NumPy's is: SciPy makes floats of integers in the default dtype
    plain = SimpleNamespace(**INPUTS, xp=np, mean=lambda x, axis: x.mean(axis=axis))
    tensors = {name: gb.asarray(value) for name, value in INPUTS.items()}
    ours = SimpleNamespace(**tensors, xp=gb, mean=lambda x, axis: gb.mean(x, axis=axis))
    said = declared()
    groups: dict[str, Any] = {
        "dispatched": expand(ROWS) | CASES,
        "unlisted": expand(UNLISTED_ROWS),
        "NumPy only": expand(NUMPY_ROWS),
        "refused": REFUSED,
    }
    found: dict[str, Any] = {group: {} for group in groups}
    for group, cases in groups.items():
        for name, case in cases.items():
            key = f"{name.split('.')[0]}.{name.split('.')[-1]}"
            found[group][name] = {"declared": said.get(key)} | compare(case, ours, plain)
    found["gradients"] = {name: differentiate_through(name, plain) for name in GRADIENTS}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
