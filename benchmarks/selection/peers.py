"""Each peer's strategies, so called that only choosing is timed: what a model would say has been computed before.

A function here takes the inputs and the batch size and returns a call without arguments that chooses row numbers,
which is timed. Every library, ours too, starts from the same arrays of all rows and takes the pool's rows out of them
within that time. Axes in another order and labels in another form are prepared before. Where a library asks its
classifier, a stand-in hands out the ready predictions.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from inputs import Inputs

Chosen = Callable[[], np.ndarray]
Prepare = Callable[[Inputs, int], Chosen]
SEED = 0
BALD_CONFIGURATIONS = 500
"""baal's default number of draws per head in the joint entropy of BatchBALD."""

warnings.filterwarnings("ignore")


# scikit-activeml -----------------------------------------------------------------------------------------------


def _activeml_known(data: Inputs):
    """A classifier of the library's own type that knows the answers; X holds row numbers where it allows that."""
    from skactiveml.base import SkactivemlClassifier

    class Known(SkactivemlClassifier):
        def fit(self, X, y, sample_weight=None):
            return self

        def predict_proba(self, X, with_rows=False):
            ids = X[:, 0]
            return (data.probs[ids], data.embeddings[ids]) if with_rows else data.probs[ids]

        def predict(self, X):
            return (X @ data.head.T).argmax(axis=1)

        def sample(self, X):
            return draws[:, X[:, 0]]

    draws = None if data.draws is None else np.ascontiguousarray(data.draws.swapaxes(0, 1))
    known = Known()
    known.classes_ = np.arange(next(p.shape[-1] for p in (data.probs, data.draws) if p is not None))
    return known


def _activeml_labels(data: Inputs) -> np.ndarray:
    y = np.full(len(data), np.nan)
    y[data.labelled] = data.labels
    return y


def _activeml_scores(method: str) -> Prepare:
    def prepare(data: Inputs, n: int) -> Chosen:
        from skactiveml.pool import UncertaintySampling

        rows, y, known = np.arange(len(data))[:, None], _activeml_labels(data), _activeml_known(data)
        rule = UncertaintySampling(method=method, random_state=SEED)
        return lambda: rule.query(rows, y, known, fit_clf=False, batch_size=n)

    return prepare


def _activeml_rows(name: str, **settings) -> Prepare:
    """Strategies that look at the embeddings and at what is labelled."""

    def prepare(data: Inputs, n: int) -> Chosen:
        from skactiveml import pool

        if name == "ProbCover":
            settings["n_classes"] = int(data.labels.max()) + 1
        rule, y = getattr(pool, name)(random_state=SEED, **settings), _activeml_labels(data)
        return lambda: rule.query(data.embeddings, y, batch_size=n)

    return prepare


def _activeml_random(data: Inputs, n: int) -> Chosen:
    from skactiveml.pool import RandomSampling

    rows, y, rule = np.arange(len(data))[:, None], _activeml_labels(data), RandomSampling(random_state=SEED)
    return lambda: rule.query(rows, y, batch_size=n)


def _activeml_badge(data: Inputs, n: int) -> Chosen:
    from skactiveml.pool import Badge

    rows, y, known = np.arange(len(data))[:, None], _activeml_labels(data), _activeml_known(data)
    rule = Badge(clf_embedding_flag_name="with_rows", random_state=SEED)
    return lambda: rule.query(rows, y, known, fit_clf=False, batch_size=n)


def _activeml_dropquery(data: Inputs, n: int) -> Chosen:
    """Predicts under dropout by itself, with the head that is given."""
    from skactiveml.pool import DropQuery

    y, known = _activeml_labels(data), _activeml_known(data)
    rule = DropQuery(n_dropout_samples=3, random_state=SEED)
    return lambda: rule.query(data.embeddings, y, known, fit_clf=False, batch_size=n)


def _activeml_ensemble(name: str, **settings) -> Prepare:
    def prepare(data: Inputs, n: int) -> Chosen:
        from skactiveml import pool

        rows, y, known = np.arange(len(data))[:, None], _activeml_labels(data), _activeml_known(data)
        rule = getattr(pool, name)(sample_predictions_method_name="sample", random_state=SEED, **settings)
        return lambda: rule.query(rows, y, known, fit_ensemble=False, batch_size=n)

    return prepare


# small-text ----------------------------------------------------------------------------------------------------


class _Rows:
    """What small-text takes for a data set; its classifier's stand-in reads only which rows are asked for."""

    def __init__(self, ids: np.ndarray) -> None:
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, positions: np.ndarray) -> _Rows:
        return _Rows(self.ids[positions])


class _Known:
    """Row numbers in, ready predictions out. All rows in order come back without a copy."""

    def __init__(self, data: Inputs) -> None:
        self.data = data

    def predict_proba(self, rows: _Rows, dropout_sampling: int = 1) -> np.ndarray:
        ready = self.data.probs if dropout_sampling == 1 else self.data.draws
        return ready if len(rows) == len(ready) else ready[rows.ids]

    def embed(self, rows: _Rows, return_proba: bool = False, pbar: object = None):
        return self.data.embeddings[rows.ids], self.data.probs[rows.ids]


def _small_text(make: Callable[[Inputs], object], rows: bool = False) -> Prepare:
    def prepare(data: Inputs, n: int) -> Chosen:
        np.random.seed(SEED)  # noqa: NPY002 (its generator is the global one)
        rule, known, free = make(data), _Known(data), data.unlabelled
        every, order = _Rows(np.arange(len(data))), np.concatenate([free, data.labelled])
        more = {"embeddings": data.embeddings[order], "pbar": None} if rows else {}
        return lambda: rule.query(known, every, free, data.labelled, data.labels, n=n, **more)

    return prepare


def _small_text_rule(name: str, **settings) -> Callable[[Inputs], object]:
    def make(data: Inputs) -> object:
        import small_text

        return getattr(small_text, name)(**settings)

    return make


def _small_text_badge(data: Inputs) -> object:
    from small_text.integrations.pytorch.query_strategies import BADGE

    return BADGE(data.probs.shape[1])


def _small_text_bald(data: Inputs) -> object:
    from small_text.query_strategies.bayesian import BALD

    return BALD(data.draws.shape[1])


# modAL ---------------------------------------------------------------------------------------------------------


class _Ready:
    """An estimator or a committee that is asked about the pool only, by row number, and has its answers ready."""

    def __init__(self, data: Inputs) -> None:
        self.data = data
        if data.draws is not None:
            self.votes, self.classes_ = data.draws.argmax(axis=2), np.arange(data.draws.shape[2])

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return self.data.probs[X[:, 0]]

    def vote(self, X: np.ndarray) -> np.ndarray:
        return self.votes[X[:, 0]]

    def __len__(self) -> int:
        return self.votes.shape[1]


def _modal(module: str, name: str) -> Prepare:
    def prepare(data: Inputs, n: int) -> Chosen:
        import importlib

        rule, ready = getattr(importlib.import_module(f"modAL.{module}"), name), _Ready(data)

        def call() -> np.ndarray:
            free = data.unlabelled
            return free[rule(ready, free[:, None], n_instances=n)[0]]

        return call

    return prepare


def _modal_density(data: Inputs, n: int) -> Chosen:
    """As its documentation uses it: the similarity of every pair, averaged, times the uncertainty."""
    from modAL.density import information_density
    from modAL.uncertainty import classifier_entropy
    from modAL.utils.selection import multi_argmax

    ready = _Ready(data)

    def call() -> np.ndarray:
        free = data.unlabelled
        density = information_density(data.embeddings[free], "euclidean")
        return free[multi_argmax(density * classifier_entropy(ready, free[:, None]), n_instances=n)[0]]

    return call


# baal ----------------------------------------------------------------------------------------------------------


def _baal(make: Callable[[int], object]) -> Prepare:
    """baal's heuristics take predictions of shape (images, classes) or (images, classes, draws)."""

    def prepare(data: Inputs, n: int) -> Chosen:
        rule = make(n)
        ready = data.probs if data.draws is None else np.ascontiguousarray(data.draws.swapaxes(1, 2))

        def call() -> np.ndarray:
            free = data.unlabelled
            return free[rule.get_ranks(ready[free])[0][:n]]

        return call

    return prepare


def _baal_rule(name: str) -> Callable[[int], object]:
    def make(n: int) -> object:
        from baal.active import heuristics

        if name == "BatchBALD":
            return heuristics.BatchBALD(num_samples=n, num_draw=BALD_CONFIGURATIONS)
        return getattr(heuristics, name)()

    return make


def _baal_power(n: int) -> object:
    from baal.active.heuristics import BALD
    from baal.active.heuristics.stochastics import PowerSampling

    return PowerSampling(BALD(), query_size=n)


PEERS: dict[str, dict[str, Prepare]] = {
    "scikit-activeml": {
        "random": _activeml_random,
        "least_confidence": _activeml_scores("least_confident"),
        "margin": _activeml_scores("margin_sampling"),
        "entropy": _activeml_scores("entropy"),
        "bald": _activeml_ensemble("GreedyBALD"),
        "batchbald": _activeml_ensemble("BatchBALD"),
        "variation_ratio": _activeml_ensemble("QueryByCommittee", method="variation_ratios"),
        "query_by_committee": _activeml_ensemble("QueryByCommittee", method="vote_entropy"),
        "coreset": _activeml_rows("CoreSet"),
        "typiclust": _activeml_rows("TypiClust"),
        "probcover": _activeml_rows("ProbCover"),
        "badge": _activeml_badge,
        "dropquery": _activeml_dropquery,
        "maxherding": _activeml_rows("MaxHerding"),
    },
    "small-text": {
        "random": _small_text(_small_text_rule("RandomSampling")),
        "least_confidence": _small_text(_small_text_rule("LeastConfidence")),
        "margin": _small_text(_small_text_rule("BreakingTies")),
        "entropy": _small_text(_small_text_rule("PredictionEntropy")),
        "bald": _small_text(_small_text_bald),
        "coreset": _small_text(
            _small_text_rule("GreedyCoreset", distance_metric="euclidean", normalize=False), True
        ),
        "kmeans": _small_text(_small_text_rule("EmbeddingKMeans"), True),
        "badge": _small_text(_small_text_badge),
    },
    "modAL": {
        "least_confidence": _modal("uncertainty", "uncertainty_sampling"),
        "margin": _modal("uncertainty", "margin_sampling"),
        "entropy": _modal("uncertainty", "entropy_sampling"),
        "query_by_committee": _modal("disagreement", "vote_entropy_sampling"),
        "density_weighted": _modal_density,
    },
    "baal": {
        "random": _baal(_baal_rule("Random")),
        "least_confidence": _baal(_baal_rule("Certainty")),
        "margin": _baal(_baal_rule("Margin")),
        "entropy": _baal(_baal_rule("Entropy")),
        "bald": _baal(_baal_rule("BALD")),
        "batchbald": _baal(_baal_rule("BatchBALD")),
        "power_bald": _baal(_baal_power),
    },
}


def needed_bytes(library: str, strategy: str, n: int, d: int, c: int, draws: int) -> int:
    """What a peer's algorithm holds at once beside its inputs, where that grows with N² or N·C·D; read off its code."""
    gradients, pairs = n * d * c, n * n
    needs = {
        ("scikit-activeml", "badge"): 2 * 8 * gradients,  # gradients in float64, and their squares
        ("small-text", "badge"): 8 * gradients,
        ("scikit-activeml", "probcover"): (4 + 3) * pairs,  # distances; three masks of a byte each
        ("scikit-activeml", "maxherding"): 3 * 4 * pairs,  # kernel, its difference to the maximum, clipped
        ("modAL", "density_weighted"): 4 * pairs,
        # every row's joint table at once; two arrays beside it for each 10,000 rows
        ("baal", "batchbald"): 8 * (n + 2 * min(n, 10_000)) * BALD_CONFIGURATIONS * draws * c,
        ("scikit-activeml", "batchbald"): 3 * 8 * n * draws * c,
    }
    return needs.get((library, strategy), 0)
