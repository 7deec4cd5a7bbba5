"""Which registry an address names: a folder of this machine, or a model package group of SageMaker's."""

from pathlib import Path
from typing import Final, cast

from retraining.errors import InvalidAddress
from retraining.registry import ModelRegistry, Registry

SAGEMAKER: Final = "sagemaker:"
FILE: Final = "file:"
CONNECT_S: Final = 5
READ_S: Final = 30


def open_registry(address: str, *, bucket: str = "", image: str = "", approval: str = "automatic") -> ModelRegistry:
    """Return the registry at an address.

    Parameters
    ----------
    address
        ``file:FOLDER`` or plainly ``FOLDER``; ``sagemaker:GROUP``.
    bucket, image, approval
        Of a registry on AWS, see :class:`~retraining.sagemaker_registry.SageMakerRegistry`.

    Raises
    ------
    InvalidAddress
        It names neither, or a registry on AWS without its bucket.
    RegistryUnreachable
        This machine knows no region of AWS.

    Examples
    --------
    >>> open_registry("file:build/models").versions()
    []
    """
    if not address.startswith(SAGEMAKER):
        folder = address.removeprefix(FILE)
        if not folder or (":" in folder and not Path(folder).exists()):
            raise InvalidAddress(f"{address!r} names no registry; write file:FOLDER or sagemaker:GROUP")
        return Registry(Path(folder))
    group = address.removeprefix(SAGEMAKER)
    if not group or not bucket:
        raise InvalidAddress(f"{address!r} needs a group and --bucket, where archives and events are kept")
    if approval not in ("manual", "automatic"):
        raise InvalidAddress(f"approval {approval!r} is neither 'manual' nor 'automatic'")
    import boto3
    from botocore.config import Config

    from retraining.bucket import reaching
    from retraining.sagemaker_registry import Approval, SageMakerRegistry

    config = Config(
        connect_timeout=CONNECT_S, read_timeout=READ_S, retries={"total_max_attempts": 3, "mode": "standard"}
    )
    with reaching(address):
        sagemaker, s3 = (boto3.client(service, config=config) for service in ("sagemaker", "s3"))
    return SageMakerRegistry(
        sagemaker, s3, group=group, bucket=bucket, image=image, approval=cast("Approval", approval)
    )
