"""Search for less discriminatory alternatives: models nearly as good whose outcomes differ less between groups.

Offline only. Candidates leave features out, constrain their directions, or are regularised more; groups take part in
the comparison only, never in a model. The lender must justify the tolerance that counts as comparable performance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from candor.reasons import Catalogue
from training.dataset.read import TrainingSet
from training.dataset.split import Floats, Split
from training.evaluate.fairness import Outcomes, groups
from training.fit.recipe import Recipe, raw_scores
from training.metrics.scores import auc

TOLERANCE: Final = 0.005
"""An AUC lower by no more than this is comparable performance."""

REGULARISED: Final[Mapping[str, Mapping[str, Any]]] = {
    "stronger ridge": {"lambda_l2": 50.0},
    "smaller trees": {"num_leaves": 4},
    "larger leaves": {"min_data_in_leaf": 400},
    "stumps": {"num_leaves": 2},
}


@dataclass(frozen=True)
class AlternativeModel:
    """A candidate: the features it leaves out, its monotone directions, and the parameters it overrides."""

    name: str
    without: tuple[str, ...] = ()
    directions: Mapping[str, int] | None = None
    parameters: Mapping[str, Any] | None = None


Fitted = Callable[[AlternativeModel], Floats]
"""Function that fits a candidate on the earlier rows and returns the PDs of the compared rows."""


@dataclass(frozen=True)
class ComparisonSet:
    """Rows on which candidates are compared: outcomes, group columns, and the approval rate for every candidate."""

    bad: NDArray[np.int8]
    columns: Mapping[str, NDArray[np.object_]]
    approval_rate: float
    references: Mapping[str, str] | None = None

    def measure(self, candidate: AlternativeModel, pd: Floats) -> dict[str, Any]:
        """Measure AUC, and the lowest adverse impact ratio with its group, at the common approval rate."""
        outcomes = Outcomes(self.bad, pd, float(np.quantile(pd, self.approval_rate)))
        measures = groups(outcomes, self.columns, self.references)
        worst = min(measures, key=lambda measure: float(measure["air"] or 0.0))
        return {
            "name": candidate.name,
            "without": list(candidate.without),
            "auc": auc(self.bad, pd),
            "air": worst["air"],
            "smd": max(abs(float(measure["smd"])) for measure in measures),
            "group": worst["group"],
        }


def candidates(features: Sequence[str], directions: Mapping[str, int]) -> Iterator[AlternativeModel]:
    """Yield the model as it is, without each feature, with monotone directions, and regularised."""
    yield AlternativeModel("as it is")
    for name in features:
        yield AlternativeModel(f"without {name}", (name,))
    if directions:
        yield AlternativeModel("monotone", directions=directions)
    for name, parameters in REGULARISED.items():
        yield AlternativeModel(name, parameters=parameters)
        if directions:
            yield AlternativeModel(f"monotone, {name}", directions=directions, parameters=parameters)


def alternatives(
    fitted: Fitted,
    compared: ComparisonSet,
    features: Sequence[str],
    directions: Mapping[str, int],
    tolerance: float = TOLERANCE,
) -> list[dict[str, Any]]:
    """Measure every candidate, the model as it is first; an `alternative` is comparable and has a better ratio.

    Pairs are formed of the features whose absence alone improved the ratio at a comparable AUC. `on_frontier`: no other
    candidate is better in one of AUC and ratio and as good in the other.
    """
    singles = [
        compared.measure(candidate, fitted(candidate)) for candidate in candidates(features, directions)
    ]
    base = singles[0]
    helpful = [
        measure["without"][0]
        for measure in singles[1:]
        if measure["without"] and measure["air"] > base["air"] and measure["auc"] >= base["auc"] - tolerance
    ]
    pairs = [(a, b) for index, a in enumerate(helpful) for b in helpful[index + 1 :]]
    both = [AlternativeModel(f"without {' and '.join(pair)}", pair) for pair in pairs]
    measured = [*singles, *(compared.measure(candidate, fitted(candidate)) for candidate in both)]
    return [
        {
            **measure,
            "alternative": measure["auc"] >= base["auc"] - tolerance and measure["air"] > base["air"],
            "on_frontier": not any(_better(other, measure) for other in measured),
        }
        for measure in measured
    ]


def _better(candidate: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """True if `candidate` is at least as good in AUC and ratio, and better in one of them."""
    as_good = candidate["auc"] >= other["auc"] and candidate["air"] >= other["air"]
    return bool(as_good and (candidate["auc"] > other["auc"] or candidate["air"] > other["air"]))


def by_factor(
    data: TrainingSet, split: Split, recipe: Recipe, seed: int, catalogue: Catalogue, compared: ComparisonSet
) -> list[dict[str, Any]]:
    """`alternatives` of a lender's own model, leaving out whole factors: all the features behind one reason.

    Fitted on the earlier part, compared on the latest, with the recipe's directions. PDs are not calibrated: the
    approval rate is the same for all.
    """
    factors = {reason.factor for reason in catalogue.reasons if reason.features}
    of = dict(
        zip(recipe.features, (catalogue.reasons[index].factor for index in catalogue.factor_of), strict=True)
    )
    used = sorted(factors & set(of.values()))

    def fitted(candidate: AlternativeModel) -> Floats:
        kept = [index for index, name in enumerate(recipe.features) if of[name] not in candidate.without]
        part = replace(data, values=data.values[:, kept])
        chosen = recipe.only([recipe.features[index] for index in kept])
        chosen = replace(chosen, parameters={**chosen.parameters, **(candidate.parameters or {})})
        raw = raw_scores(chosen.fit(part, split.early, seed), part.values[split.late])
        return np.asarray(expit(raw))

    return alternatives(fitted, compared, used if len(used) > 1 else [], {})
