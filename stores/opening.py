"""Feast, opened for one environment."""

from pathlib import Path

from feast import FeatureStore

from fraud.errors import InvalidSetting


def environment_file(repository: Path, environment: str) -> Path:
    """Return the configuration that an environment (the setting ``TOLLGATE_ENVIRONMENT``) chooses.

    Raises
    ------
    InvalidSetting
        There is none of that name.
    """
    path = repository / f"feature_store.{environment}.yaml"
    if not path.is_file():
        known = sorted(item.name.split(".")[1] for item in repository.glob("feature_store.*.yaml"))
        raise InvalidSetting(f"environment {environment!r} has no {path.name} in {repository}; there are {known}")
    return path


def open_feature_store(repository: Path, environment: str, config: Path | None = None) -> FeatureStore:
    """Return Feast over a folder of definitions.

    Feature services and views are best resolved once and kept: Feast reads its registry again on each such call.

    Parameters
    ----------
    repository
        The folder of ``definitions.py``; relative paths in the registry are relative to it.
    environment
        As in the settings.
    config
        Another configuration file than the environment's own.

    Raises
    ------
    InvalidSetting
        The environment is unknown.
    """
    path = environment_file(repository, environment) if config is None else config
    return FeatureStore(repo_path=str(repository), fs_yaml_file=path)
