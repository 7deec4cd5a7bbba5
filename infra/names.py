"""Names that templates, deployer and functions share; see :mod:`infra.blueprint` for how templates spell them."""

from typing import Final

PRODUCT: Final = "tollgate"

DECISIONS: Final = "decisions"
"""Suffix of the delivery stream that takes decisions; the templates make it, the deployer tells the scorer of it."""


def plain_name(environment: str, suffix: str) -> str:
    """Return the name of something of an environment.

    Examples
    --------
    >>> plain_name("dev", "scorer")
    'tollgate-dev-scorer'
    """
    return f"{PRODUCT}-{environment}-{suffix}"


def address(environment: str, stack: str, key: str) -> str:
    """Return the SSM parameter in which ``stack`` says ``key``.

    Examples
    --------
    >>> address("dev", "network", "vpc-id")
    '/tollgate/dev/network/vpc-id'
    """
    return f"/{PRODUCT}/{environment}/{stack}/{key}"
