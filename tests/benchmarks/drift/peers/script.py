"""Feeds streams to a method of another library; runs in that library's own environment.

`python script.py METHOD IN.npz OUT.npz`. IN holds `references` (R, m) or (R, m, d), `seed`, and
streams (R, K, rows) or (R, K, rows, d) under names; OUT gets, under the same names, the row of the
first alarm (R, K, P), -1 = none, and the P `parameters`. A statistic is computed once and compared
with all thresholds; a method that hides its own is run once a parameter.
"""

import contextlib
import random
import sys
import warnings
from typing import ClassVar

import numpy as np

EVERY_ROW = 1
WINDOW = 100
"""Rows of a window that is tested for drift, then forgotten."""


class Adwin:
    """River's ADWIN, looking after every row."""

    parameters = np.array([0.9, 0.7, 0.5, 0.35, 0.25, 0.15])

    def __init__(self, reference):
        self.reference = reference

    def alarms(self, rows, seed):
        return [self.alarm(rows, value) for value in self.parameters]

    def made(self, value):
        from river.drift import ADWIN

        return ADWIN(delta=value, clock=EVERY_ROW)

    def alarm(self, rows, value):
        detector = self.made(value)
        for row in self.reference.tolist():
            detector.update(row)
        for number, row in enumerate(rows.tolist()):
            detector.update(row)
            if detector.drift_detected:
                return number
        return -1


class PageHinkley(Adwin):
    """River's Page-Hinkley with its tolerance as it comes."""

    parameters = np.geomspace(20.0, 80.0, 7)
    tolerance = 0.005

    def made(self, value):
        from river.drift import PageHinkley

        return PageHinkley(delta=self.tolerance, threshold=value)


class TunedPageHinkley(PageHinkley):
    """The same, for shifts of half a deviation: the tolerance is half of that."""

    parameters = np.geomspace(6.0, 16.0, 7)
    tolerance = 0.25


class Recorded:
    """A method that says how far it is from its alarm after every row."""

    def alarms(self, rows, seed):
        """First rows at which the statistic reaches each parameter."""
        found = np.full(len(self.parameters), -1)
        for number, value in self.values(rows, seed):
            found[(found < 0) & (value >= self.parameters)] = number
            if value >= self.parameters.max():
                break
        return found


class Kswin(Recorded):
    """River's KSWIN; the statistic is -log10 of its p-value."""

    parameters = np.linspace(1.5, 7.0, 23)

    def __init__(self, reference):
        self.reference = reference

    def values(self, rows, seed):
        from river.drift import KSWIN

        detector = KSWIN(alpha=0.0, seed=seed, window=list(self.reference))
        for number, row in enumerate(rows):
            detector.update(row)
            yield number, -np.log10(max(detector.p_value, 1e-300))


class Online(Recorded):
    """alibi-detect's online detectors; the statistic is measured in thresholds for 1,000 rows."""

    parameters = np.linspace(0.5, 1.3, 17)
    name = ""
    settings: ClassVar[dict] = {}

    def __init__(self, reference):
        import torch
        from alibi_detect import cd

        torch.set_num_threads(1)
        rows = np.asarray(reference, dtype=np.float32).reshape(len(reference), -1)
        made = getattr(cd, self.name)
        self.detector = made(rows, ert=1_000.0, verbose=False, **self.settings)

    def values(self, rows, seed):
        self.detector.reset_state()
        for number, row in enumerate(np.asarray(rows, dtype=np.float32)):
            said = self.detector.predict(np.atleast_1d(row))["data"]
            if np.isfinite(said["test_stat"]).any() and np.isfinite(said["threshold"]).all():
                yield number, float(np.nanmax(said["test_stat"]) / np.max(said["threshold"]))


class CvmOnline(Online):
    """Cramer-von Mises windows of 10, 20 and 50 rows; thresholds do not depend on the data."""

    name = "CVMDriftOnline"
    settings: ClassVar[dict] = {"window_sizes": [10, 20, 50], "n_bootstraps": 2_000}


class MmdOnline(Online):
    """Maximum mean discrepancy of 20 rows."""

    name = "MMDDriftOnline"
    settings: ClassVar[dict] = {
        "backend": "pytorch",
        "window_size": 20,
        "n_bootstraps": 5_000,
        "device": "cpu",
    }


class LsddOnline(MmdOnline):
    """Least-squares density difference of 20 rows."""

    name = "LSDDDriftOnline"


class EvidentlyKs(Recorded):
    """Evidently's Kolmogorov-Smirnov test on window after window; -log10 of the p-value."""

    parameters = np.linspace(0.4, 4.0, 37)

    def __init__(self, reference):
        import pandas as pd

        self.series, self.reference = pd.Series, pd.Series(reference)

    def values(self, rows, seed):
        first = 37 * seed % WINDOW  # a change falls anywhere in a window, not on its first row
        for start in range(first, len(rows) - WINDOW + 1, WINDOW):
            current = self.series(rows[start : start + WINDOW])
            yield start + WINDOW - 1, self.score(current)

    def score(self, current):
        from evidently.legacy.calculations.stattests import ks_stat_test

        return -np.log10(max(self.tested(ks_stat_test, current), 1e-300))

    def tested(self, test, current):
        return test(self.reference, current, "num", test.default_threshold).drift_score


class EvidentlyWasserstein(EvidentlyKs):
    """Evidently's normed Wasserstein distance, the same way."""

    parameters = np.linspace(0.1, 0.5, 81)

    def score(self, current):
        from evidently.legacy.calculations.stattests import wasserstein_stat_test

        return self.tested(wasserstein_stat_test, current)


METHODS = {
    "River ADWIN": Adwin,
    "River Page-Hinkley": PageHinkley,
    "River Page-Hinkley, tolerance .25": TunedPageHinkley,
    "River KSWIN": Kswin,
    "alibi-detect CVM online": CvmOnline,
    "alibi-detect MMD online": MmdOnline,
    "alibi-detect LSDD online": LsddOnline,
    "Evidently KS, windows of 100": EvidentlyKs,
    "Evidently Wasserstein, windows of 100": EvidentlyWasserstein,
}


def main(method, source, target):
    """Reads, feeds, writes."""
    warnings.filterwarnings("ignore")
    with np.load(source) as arrays:
        given = {name: arrays[name] for name in arrays.files}
    references, seed = given.pop("references"), int(given.pop("seed"))
    found = {name: [] for name in given}
    for number, reference in enumerate(references):
        settle(seed + number)
        watcher = METHODS[method](reference)
        for name, streams in given.items():
            alarms = [watcher.alarms(rows, seed + k) for k, rows in enumerate(streams[number])]
            found[name].append(alarms)
    np.savez(target, parameters=METHODS[method].parameters, **found)


def settle(seed):
    """Seeds every generator that the libraries draw from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    with contextlib.suppress(ImportError):
        import torch

        torch.manual_seed(seed)


if __name__ == "__main__":
    main(*sys.argv[1:])
