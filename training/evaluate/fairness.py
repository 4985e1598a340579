"""Fair lending, offline only: differences of outcomes and scores between groups. Group columns never become features.

Measures as in Gill, Hall, Montgomery and Schmidt 2020, Information 11(3):137. The favourable outcome is approval:
a PD at or below the cut-off.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import fisher_exact, ttest_ind

from training.dataset.split import Floats

Mask = NDArray[np.bool_]
Column = NDArray[np.object_]

MIN_GROUP: Final = 30
"""A smaller group is left out: its ratios are noise."""
FOUR_FIFTHS: Final = 0.8
"""29 CFR 1607.4 (D): a lower ratio is evidence of adverse impact."""
SIGNIFICANT: Final = 0.05
QUANTILES: Final = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Outcomes:
    """Outcome and PD of each applicant, and the highest PD that is approved."""

    bad: NDArray[np.int8]
    pd: Floats
    cutoff: float

    @property
    def approved(self) -> Mask:
        return self.pd <= self.cutoff


def groups(
    outcomes: Outcomes, columns: Mapping[str, Column], references: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Compare each group of each column with its reference: the named one, else the largest. None means no group."""
    measures = []
    for name, column in columns.items():
        counts = Counter(str(value) for value in column.tolist() if value is not None)
        large = sorted(value for value, n in counts.items() if n >= MIN_GROUP)
        reference = (references or {}).get(name) or max(large, key=counts.__getitem__, default="")
        for value in large:
            if value != reference and reference in large:
                against = against_reference(outcomes, column == value, column == reference)
                measures.append({"by": name, "group": value, "reference": reference, **against})
    return measures


def against_reference(outcomes: Outcomes, group: Mask, reference: Mask) -> dict[str, Any]:
    """Compare one group with its reference, both given as masks of rows.

    `air`: ratio of approval rates. `marginal_effect`: approval rate of the reference less the group's. `smd`:
    difference of mean PD in standard deviations of all; above 0 the group is scored riskier. `fpr_ratio`: goods
    declined; `fnr_ratio`: bads approved. `air_at`: the ratio with the best quarter, half, three quarters approved.
    `fisher_p` tests approvals, `t_p` mean PDs (Welch). `flagged`: the ratio is below four fifths and significantly so.
    """
    approved, pd, bad = outcomes.approved, outcomes.pd, outcomes.bad == 1
    air = _ratio(_share(approved, group), _share(approved, reference))
    p = _fisher(approved, group, reference)
    return {
        "n": int(group.sum()),
        "n_reference": int(reference.sum()),
        "approval_rate": _share(approved, group),
        "approval_rate_reference": _share(approved, reference),
        "air": air,
        "marginal_effect": _share(approved, reference) - _share(approved, group),
        "smd": _standardised(pd, group, reference),
        "fpr_ratio": _ratio(_share(~approved, group & ~bad), _share(~approved, reference & ~bad)),
        "fnr_ratio": _ratio(_share(approved, group & bad), _share(approved, reference & bad)),
        "air_at": {str(share): adverse_impact(pd, share, group, reference) for share in QUANTILES},
        "fisher_p": p,
        "t_p": _welch(pd[group], pd[reference]),
        "flagged": air is not None and air < FOUR_FIFTHS and p < SIGNIFICANT,
    }


def adverse_impact(pd: Floats, share: float, group: Mask, reference: Mask) -> float | None:
    """Adverse impact ratio if the `share` of all with the lowest PD were approved."""
    approved = pd <= np.quantile(pd, share)
    return _ratio(_share(approved, group), _share(approved, reference))


def _standardised(pd: Floats, group: Mask, reference: Mask) -> float:
    """Difference of means in standard deviations of all; 0 where everyone has the same PD."""
    if np.ptp(pd) == 0.0:
        return 0.0
    return float((pd[group].mean() - pd[reference].mean()) / pd.std(ddof=1))


def _welch(group: Floats, reference: Floats) -> float:
    """p-value of Welch's t-test; where neither sample varies, 1 for equal means and 0 otherwise."""
    if np.ptp(group) == 0.0 and np.ptp(reference) == 0.0:
        return 1.0 if group[0] == reference[0] else 0.0
    return float(ttest_ind(group, reference, equal_var=False).pvalue)


def _share(of: Mask, among: Mask) -> float:
    return float(of[among].mean()) if among.any() else 0.0


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator > 0.0 else None


def _fisher(approved: Mask, group: Mask, reference: Mask) -> float:
    table = [[int((approved & part).sum()), int((~approved & part).sum())] for part in (group, reference)]
    return float(fisher_exact(table).pvalue)
