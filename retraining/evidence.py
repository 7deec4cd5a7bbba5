"""What others measured and the gate asks for: the leak audit of the training set, the parity certificate of serving."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retraining.verdict import Check


def leaks_checked(proof: Mapping[str, Any]) -> Check:
    """Return the check on a leak audit.

    Parameters
    ----------
    proof
        Plain data of :class:`training.dataset_files.Proof`, or of :func:`training.leaks.as_data`.
    """
    leaks, probes = proof["leaks"], proof["probes"]
    if leaks:
        worst = leaks[0]
        said = (
            f"{worst['feature']} changed with {worst['kind']} in {worst['rows']} of {probes} audited rows; "
            f"{len(leaks)} findings in all"
        )
    elif proof.get("rows_mismatched"):
        said = f"{proof['rows_mismatched']} of {proof['rows_compared']} rows are not what the audited path says of them"
    else:
        untested = len(proof.get("untested", ()))
        said = f"no feature of {probes} audited rows saw what its payment could not; {untested} features not tested"
    clean = not leaks and not proof.get("rows_mismatched") and probes > 0
    return Check("no_feature_sees_the_future", clean, said)


def parity_checked(path: Path) -> Check:
    """Return the check on a certificate that ``python -m monitoring parity --json`` wrote.

    A certificate that cannot be read certifies nothing: the check fails and says why.
    """
    name = "served_as_trained"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        compared, mismatched = int(found["compared"]), int(found["mismatched"])
        worst = sorted(found["mismatches"], key=lambda feature: -found["mismatches"][feature]["count"])[:3]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Check(name, passed=False, evidence=f"{path} is no parity certificate: {error!r}")
    said = f"{mismatched} of {compared} served vectors differ from what the log says"
    if worst:
        said += f", most in {', '.join(worst)}"
    return Check(name, compared > 0 and mismatched == 0, said)
