"""Bills of material of the images, from the lock files, as CycloneDX 1.6 JSON.

Every package with its version, its hashes and what it asks for. The base image's own packages are not in it: the
registry's scan lists those.
"""

import re
from pathlib import Path
from typing import Any, Final

from infra.errors import MissingPrerequisite

ROOT: Final = Path(__file__).parent.parent
LOCKS: Final = {"inference": ("serving",), "job": ("training",), "lambda": ("streaming",)}
"""Lock files that each image installs."""

_PIN: Final = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]+\])?==([^ ;\\]+)")
_VIA: Final = re.compile(r"^ +# (?:via |  )([A-Za-z0-9][A-Za-z0-9._-]*)(?:$|[\[ ])")
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def bill(image: str, root: Path = ROOT) -> dict[str, Any]:
    """Return the bill of material of one image, the same for the same lock files.

    Raises
    ------
    MissingPrerequisite
        There is no such image or lock file.
    """
    if image not in LOCKS:
        raise MissingPrerequisite(f"there is no image {image!r}; known are {', '.join(sorted(LOCKS))}")
    components: dict[str, dict[str, Any]] = {}
    askers: dict[str, set[str]] = {}
    for lock in LOCKS[image]:
        path = root / "requirements" / f"{lock}.txt"
        if not path.is_file():
            raise MissingPrerequisite(f"{path.name} is missing; run 'make lock'")
        text = path.read_text(encoding="utf-8")
        for component in _components(text):
            components[component["purl"]] = component
        for name, asking in _askers(text).items():
            askers.setdefault(name, set()).update(asking)
    product = {"type": "container", "name": f"tollgate-{image}", "bom-ref": f"tollgate-{image}"}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": product},
        "components": [components[purl] for purl in sorted(components)],
        "dependencies": _dependencies(product["bom-ref"], components, askers),
    }


def _askers(text: str) -> dict[str, set[str]]:
    """Return who asked for each package, as the lock file's comments say: packages, or ``tollgate`` itself."""
    found: dict[str, set[str]] = {}
    name = ""
    for line in text.splitlines():
        if pin := _PIN.match(line):
            name = _plain(pin[1])
            found[name] = set()
        elif name and (via := _VIA.match(line)):
            found[name].add(_plain(via[1]))
    return found


def _dependencies(
    product: str, components: dict[str, dict[str, Any]], askers: dict[str, set[str]]
) -> list[dict[str, Any]]:
    """Return what each component asks for, the image first."""
    refs = {component["name"]: purl for purl, component in components.items()} | {"tollgate": product}
    asked: dict[str, list[str]] = {ref: [] for ref in (product, *sorted(components))}
    for name, asking in sorted(askers.items()):
        for other in sorted(asking & refs.keys()):
            asked[refs[other]].append(refs[name])
    return [{"ref": ref, "dependsOn": sorted(needs)} for ref, needs in asked.items()]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _components(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for line in text.splitlines():
        if pin := _PIN.match(line):
            name, version = _plain(pin[1]), pin[2]
            purl = f"pkg:pypi/{name}@{version}"
            found.append({"type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl})
        elif (digest := _HASH.search(line)) and found:
            # Every file that the lock admits; the image holds one of them.
            reference = found[-1].setdefault("externalReferences", [])
            hashes = [{"alg": "SHA-256", "content": digest[1]}]
            reference.append({"type": "distribution", "url": f"urn:sha256:{digest[1]}", "hashes": hashes})
    return found
