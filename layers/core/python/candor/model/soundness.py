"""Checks before a bundle is built: its policy, its reasons, and that its model uses a feature."""

from __future__ import annotations

from collections.abc import Collection

from candor.errors import BundleRefused, DefinitionError
from candor.features.definitions import Definitions
from candor.model.bundle import Bundle
from candor.model.engine import engine_named
from candor.policy.validation import Known, faults
from candor.principal_reasons import require_statements
from candor.reasons import Catalogue, unspecific_reasons


def require_sound(bundle: Bundle, definitions: Definitions, currencies: Collection[str] = ()) -> None:
    """BundleRefused with all faults, in one line. Called when a bundle is built, not when it is loaded.

    `currencies` are those that the lender accepts: the table must lend in each.
    """
    known = Known(
        definitions.features,
        [view.name for view in definitions.views],
        [reason.code for reason in bundle.reasons if not reason.of_model],
        currencies,
    )
    wrong = [*faults(bundle.policy, known), *unspecific_reasons(bundle.reasons)]
    if not engine_named(bundle.engine).uses_a_feature(bundle.model):
        wrong.append("the model uses no feature, so a decline would have no reason: train again")
    if bundle.reason_basis is not None:
        try:
            require_statements(Catalogue(bundle.reasons, bundle.features), bundle.reason_basis)
        except DefinitionError as error:
            wrong.append(str(error))
    if wrong:
        raise BundleRefused("the bundle cannot be built: " + "; ".join(wrong))
