"""What each status of a stack allows, and what a person does about those that allow nothing."""

from typing import Final

NONE: Final = "NONE"
"""Status of a stack that does not exist."""

NEW: Final = frozenset({NONE, "REVIEW_IN_PROGRESS", "DELETE_COMPLETE"})
"""It has to be created; a change set that nobody executed may have left its name."""

SHELL: Final = frozenset({"ROLLBACK_COMPLETE"})
"""A creation that failed and was taken back: only the name is left, and in the way."""

GOOD: Final = frozenset(
    {
        "CREATE_COMPLETE",
        "UPDATE_COMPLETE",
        "UPDATE_ROLLBACK_COMPLETE",
        "IMPORT_COMPLETE",
        "IMPORT_ROLLBACK_COMPLETE",
    }
)
"""It can be updated."""

_MOVING: Final = "_IN_PROGRESS"
_DELETE: Final = "look at its events, then run 'aws cloudformation delete-stack --stack-name {name}'"
_ROLL_BACK: Final = "run 'aws cloudformation rollback-stack --stack-name {name}', which takes back what was begun"
_REMEDIES: Final = {
    "CREATE_FAILED": _ROLL_BACK,
    "UPDATE_FAILED": _ROLL_BACK,
    "UPDATE_ROLLBACK_FAILED": "run 'aws cloudformation continue-update-rollback --stack-name {name}'",
    "ROLLBACK_FAILED": _DELETE,
    "DELETE_FAILED": f"{_DELETE} again",
}
_UNKNOWN: Final = "look at its events ('aws cloudformation describe-stack-events --stack-name {name}')"


def remedy(status: str, name: str) -> str:
    """Return what gets a stack out of a status in which it can be neither created nor updated.

    Examples
    --------
    >>> remedy("UPDATE_IN_PROGRESS", "tollgate-dev-data")
    'wait for its end and run the command again'
    >>> remedy("UPDATE_ROLLBACK_FAILED", "tollgate-dev-data")
    "run 'aws cloudformation continue-update-rollback --stack-name tollgate-dev-data', then the command again"
    """
    if status.endswith(_MOVING):
        return "wait for its end and run the command again"
    return f"{_REMEDIES.get(status, _UNKNOWN).format(name=name)}, then the command again"
