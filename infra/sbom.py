"""Bills of material of the images, from the lock files: every package, version and hash, as CycloneDX 1.6 JSON."""

import re
from pathlib import Path
from typing import Any, Final

from infra.errors import MissingPrerequisite

ROOT: Final = Path(__file__).parent.parent
LOCKS: Final = {"inference": ("serving",), "job": ("training",), "lambda": ("streaming",)}
"""Lock files that each image installs."""

_PIN: Final = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]+\])?==([^ ;\\]+)")
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
    for lock in LOCKS[image]:
        path = root / "requirements" / f"{lock}.txt"
        if not path.is_file():
            raise MissingPrerequisite(f"{path.name} is missing; run 'make lock'")
        for component in _components(path.read_text(encoding="utf-8")):
            components[component["purl"]] = component
    product = {"type": "container", "name": f"tollgate-{image}", "bom-ref": f"tollgate-{image}"}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": product},
        "components": [components[purl] for purl in sorted(components)],
    }


def _components(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for line in text.splitlines():
        if pin := _PIN.match(line):
            name, version = re.sub(r"[-_.]+", "-", pin[1]).lower(), pin[2]
            purl = f"pkg:pypi/{name}@{version}"
            found.append({"type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl})
        elif (digest := _HASH.search(line)) and found:
            # Every file that the lock admits; the image holds one of them.
            reference = found[-1].setdefault("externalReferences", [])
            hashes = [{"alg": "SHA-256", "content": digest[1]}]
            reference.append({"type": "distribution", "url": f"urn:sha256:{digest[1]}", "hashes": hashes})
    return found
