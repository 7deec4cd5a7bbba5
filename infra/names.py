"""Names that templates, deployer and functions share; see :mod:`infra.blueprint` for how templates spell them."""

from typing import Final

from fraud.windows import ENTITIES

PRODUCT: Final = "tollgate"

DECISIONS: Final = "decisions"
"""Suffix of the delivery stream that takes decisions; the templates make it, the deployer tells the scorer of it."""

CAPTURED: Final = "decisions/captured"
"""Folder of the bucket with requests and answers as SageMaker captures them, by the scorer's role."""

MODELS: Final = "models/"
"""Folder of the bucket with the registry's model archives."""

LISTS: Final = "lists/"
"""Folder of the bucket with allow and block lists: their editors write it, the scorer reads it."""

VIEWS: Final = (*(f"{entity}_velocity" for entity in ENTITIES), "card_profile", "merchant_profile")
"""Feature views with rows in the online store."""

GROUP: Final = "scorer"
"""Suffix of the model package group: the registry."""

SCORER: Final = "scorer"
STREAM: Final = "stream"
JOBS: Final = "jobs"
"""Users of the online store."""


def plain_name(environment: str, suffix: str) -> str:
    """Return the name of something of an environment.

    Examples
    --------
    >>> plain_name("dev", "scorer")
    'tollgate-dev-scorer'
    """
    return f"{PRODUCT}-{environment}-{suffix}"


def repository_name(environment: str, image: str) -> str:
    """Return the repository of an image.

    Examples
    --------
    >>> repository_name("dev", "inference")
    'tollgate-dev/inference'
    """
    return f"{PRODUCT}-{environment}/{image}"


def environment_of(name: str) -> str:
    """Return the environment of something that :func:`plain_name` has named.

    Examples
    --------
    >>> environment_of("tollgate-dev-scorer")
    'dev'
    """
    return name.removeprefix(f"{PRODUCT}-").partition("-")[0]


def address(environment: str, stack: str, key: str) -> str:
    """Return the SSM parameter in which ``stack`` says ``key``.

    Examples
    --------
    >>> address("dev", "network", "vpc-id")
    '/tollgate/dev/network/vpc-id'
    """
    return f"/{PRODUCT}/{environment}/{stack}/{key}"
