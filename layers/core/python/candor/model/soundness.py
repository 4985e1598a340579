"""Whether a bundle may be built: its policy says what it means, its reasons can be told, and its model tells people apart."""

from __future__ import annotations

from candor.errors import BundleRefused
from candor.features.definitions import Definitions
from candor.model.bundle import Bundle
from candor.policy.validation import Known, faults
from candor.reasons import unspecific_reasons


def require_sound(bundle: Bundle, definitions: Definitions) -> None:
    """BundleRefused with everything that is wrong, in one line. It is for who builds a bundle, not for who serves it."""
    known = Known(
        definitions.features,
        [view.name for view in definitions.views],
        [reason.code for reason in bundle.reasons if not reason.features],
    )
    wrong = [*faults(bundle.policy, known), *unspecific_reasons(bundle.reasons)]
    if "\nsplit_feature=" not in bundle.model.replace("\nsplit_feature=\n", "\n"):
        wrong.append("the model looks at no feature: there would be no reason to tell")
    if wrong:
        raise BundleRefused("the bundle cannot be built: " + "; ".join(wrong))
