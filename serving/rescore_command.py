"""``python -m serving rescore``: make logged decisions again, all of them or one."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import msgspec

from fraud.bundle import ModelBundle, open_bundle
from fraud.errors import InvalidPolicy
from fraud.policy import Policy
from fraud.settings import read_settings
from serving.command_line import tell
from serving.log_reading import read_log
from serving.rescore import Remade, Rescored, rescore
from stores.bundle_files import read_bundle


def run_rescore_command(options: argparse.Namespace) -> int:
    """Run the command; return the status of the process: 0 when all that was asked for comes out as it was logged.

    Raises
    ------
    UnreadableLog
        There is no log, or not that decision in it.
    CorruptBundle
        A bundle does not verify.
    InvalidPolicy
        A policy is malformed, or there are not as many as models.
    """
    settings = read_settings(os.environ)
    bundles = [open_bundle(read_bundle(directory)) for directory in options.model]
    policies = _policies(bundles, options)
    log = read_log(options.log, decision_id=options.decision, region=settings.region, endpoint=settings.aws_endpoint)
    found = rescore(
        log, {bundle.version: bundle for bundle in bundles}, policies=policies, decision_id=options.decision
    )
    one = "" if found.decision is None else _told(found.decision)
    tell(one + _summary(found), asdict(found), options.json)
    return 0 if found.compared and not (found.different or found.unreadable) else 1


def _policies(bundles: Sequence[ModelBundle], options: argparse.Namespace) -> Mapping[str, Policy]:
    """Return by version the policy to count outcomes under; nothing for the bundles' own."""
    files: Sequence[Path] = options.policy
    thresholds = {
        name: value
        for name, value in (("review_at", options.review_at), ("decline_at", options.decline_at))
        if value is not None
    }
    if files and (thresholds or len(files) not in (1, len(bundles))):
        raise InvalidPolicy(
            f"{len(files)} policies for {len(bundles)} models: give one, or one each, and no thresholds beside"
        )
    if files:
        read = [_read_policy(path) for path in files]
        return {bundle.version: read[min(place, len(read) - 1)] for place, bundle in enumerate(bundles)}
    if not thresholds:
        return {}
    return {bundle.version: replace(bundle.policy, version="other", **thresholds) for bundle in bundles}


def _read_policy(path: Path) -> Policy:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Policy)
    except OSError as error:
        raise InvalidPolicy(f"{path} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidPolicy(f"{path} is no policy: {error}") from None


def _told(made: Remade) -> str:
    """Return the lines that tell one decision."""
    override = f" ({made.override})" if made.override else ""
    reasons = "".join(f"  {reason.weight:+.4f}  {reason.code}  {reason.text}\n" for reason in made.reasons)
    now = "no such tier" if made.score_now is None else f"{made.score_now!r} ({made.score_now.hex()})"
    return (
        f"decision  {made.decision_id}\n"
        f"model     {made.model_version}, tier {made.tier}\n"
        f"outcome   {made.outcome}{override}\n"
        f"reasons   {'' if made.reasons else 'none were logged'}\n{reasons}"
        f"score     {made.score!r} ({made.score.hex()})\n"
        f"again     {now}\n"
        f"          {'the same, bit for bit' if made.same else 'DIFFERENT'}; outcome now {made.outcome_now}\n"
    )


def _summary(found: Rescored) -> str:
    first = (
        f"{found.compared} decisions made again, {found.different} different, "
        f"{found.other_model} of another model, {found.unreadable} unreadable lines"
    )
    lines = [first, *(f"  {change}: {count}" for change, count in sorted(found.outcomes.items()))]
    lines += [f"  different: {decision_id}" for decision_id in found.differences]
    return "\n".join(lines) + "\n"
