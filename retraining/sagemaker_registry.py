"""The registry on AWS: SageMaker's Model Registry for versions and approvals, the bucket for archives and events.

A version is a model package, found by its description, which is the bundle's version, so that the same bundle is
registered once however often a job is repeated. The champion is the newest approved package: an approval starts the
rollout (``infra/approval.py``), and taking the newest approval back is what a rollback writes down. Packages carry the
digests of data and code, the labels' time, the verdict and where its report lies.
"""

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from fraud.bundle import ModelBundle, open_bundle
from fraud.errors import CorruptBundle
from retraining.bucket import ModelBucket, reaching
from retraining.errors import NoSuchVersion, NothingToRollBack
from retraining.steps import ARCHIVE, VERDICT, pack, unpack
from retraining.verdict import Verdict

Approval = Literal["manual", "automatic"]
JSON_TYPE: Final = "application/json"
LINEAGE: Final = ("data_sha256", "code_sha256", "labels_as_of_ms", "seed", "train_from_ms", "validation_to_ms")
"""What a package repeats of its bundle's provenance."""


@dataclass(frozen=True)
class Package:
    """A registered version."""

    arn: str
    number: int
    version: str
    status: str


class SageMakerRegistry:
    """A model package group.

    Parameters
    ----------
    sagemaker, s3
        boto3 clients.
    group, bucket
        Model package group; bucket of archives and events.
    image
        Inference image that a package names; needed to add.
    approval
        ``automatic``: a challenger that passes is approved, and rolled out; ``manual``: it waits for a person.
    """

    def __init__(
        self, sagemaker: Any, s3: Any, *, group: str, bucket: str, image: str = "", approval: Approval = "automatic"
    ) -> None:
        self._sagemaker = sagemaker
        self._files = ModelBucket(s3, bucket, group)
        self._group = group
        self._image = image
        self._approval = approval

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep everybody else from changing the registry while the block runs.

        Raises
        ------
        RegistryBusy
            Somebody else holds it.
        RegistryUnreachable
            The bucket does not answer.
        """
        with self._files.locked(f"process {os.getpid()} on {socket.gethostname()}"):
            yield

    def packages(self) -> list[Package]:
        """Return every version, oldest first.

        Raises
        ------
        RegistryUnreachable
            SageMaker does not answer, or there is no such group.
        """
        with reaching(f"model package group {self._group}"):
            pages = self._sagemaker.get_paginator("list_model_packages")
            found = [
                Package(
                    item["ModelPackageArn"],
                    int(item["ModelPackageVersion"]),
                    item.get("ModelPackageDescription", ""),
                    item["ModelApprovalStatus"],
                )
                for page in pages.paginate(ModelPackageGroupName=self._group)
                for item in page["ModelPackageSummaryList"]
            ]
        return sorted(found, key=lambda package: package.number)

    def champion_version(self) -> str | None:
        """Return the version that the newest approved package holds; null when none is approved."""
        approved = self._approved()
        return approved[-1].version if approved else None

    def champion(self) -> ModelBundle | None:
        """Return the champion, verified; null when nothing was ever approved.

        Raises
        ------
        CorruptBundle
            Its archive was altered.
        """
        approved = self._approved()
        return self._open(approved[-1]) if approved else None

    def version(self, version: str) -> ModelBundle:
        """Return a kept version, verified.

        Raises
        ------
        NoSuchVersion
            It was never added.
        CorruptBundle
            Its archive was altered.
        """
        return self._open(self._package(version))

    def versions(self) -> list[str]:
        """Return every kept version, in the order of their names."""
        return sorted(package.version for package in self.packages())

    def add(self, files: Mapping[str, bytes]) -> ModelBundle:
        """Register a version, waiting for approval; the same files again change nothing.

        Raises
        ------
        CorruptBundle
            ``files`` are no bundle, or the version is there already and was altered.
        """
        bundle = open_bundle(files)
        known = next((package for package in self.packages() if package.version == bundle.version), None)
        if known is not None:
            return self._open(known)
        self._files.keep(bundle.version, ARCHIVE, pack(files))
        self._files.keep(bundle.version, VERDICT, b'{"checks": null}')
        lineage = {name: str(bundle.provenance[name]) for name in LINEAGE if name in bundle.provenance}
        report = {"ContentType": JSON_TYPE, "S3Uri": self._files.address(bundle.version, VERDICT)}
        container = {"Image": self._image, "ModelDataUrl": self._files.address(bundle.version, ARCHIVE)}
        with reaching(f"registering {bundle.version} in {self._group}"):
            self._sagemaker.create_model_package(
                ModelPackageGroupName=self._group,
                ModelPackageDescription=bundle.version,
                ModelApprovalStatus="PendingManualApproval",
                InferenceSpecification={
                    "Containers": [container],
                    "SupportedContentTypes": [JSON_TYPE],
                    "SupportedResponseMIMETypes": [JSON_TYPE],
                },
                ModelMetrics={"ModelQuality": {"Statistics": report}},
                CustomerMetadataProperties={"version": bundle.version, **lineage},
                ClientToken=f"tollgate-{bundle.version}",
            )
        return self.version(bundle.version)

    def promote(self, version: str, verdict: Verdict, *, as_of_ms: int) -> None:
        """Approve a version, which rolls it out; under manual approval write the verdict down and let it wait.

        Raises
        ------
        NoSuchVersion
            It was never added.
        CorruptBundle
            Its archive was altered; the champion stays.
        """
        package = self._package(version)
        self._open(package)
        self._say(package, verdict, as_of_ms)
        if self._approval == "automatic":
            self._serve(package, f"passed the gate as of {as_of_ms}")
        passed = "promoted" if self._approval == "automatic" else "passed"
        self._note(passed, version, as_of_ms=as_of_ms, **verdict.facts())

    def refuse(self, version: str, verdict: Verdict, *, as_of_ms: int) -> None:
        """Reject a version that may not serve; the champion stays."""
        package = self._package(version)
        self._say(package, verdict, as_of_ms)
        if package.status != "Approved":
            self._decide(package, "Rejected", "; ".join(verdict.reasons))
        self._note("refused", version, as_of_ms=as_of_ms, **verdict.facts())

    def keep_report(self, version: str, files: Mapping[str, bytes]) -> None:
        """Keep the report of a candidate beside its archive; a later iteration's takes its place."""
        for name, content in files.items():
            self._files.keep(version, name, content)

    def rollback(self, version: str | None = None) -> str:
        """Make an earlier version the newest approved one again and return it.

        The endpoint follows with ``python -m retraining rollback --endpoint NAME``: an approval taken back moves no
        traffic by itself.

        Raises
        ------
        NothingToRollBack
            There is no earlier champion, or ``version`` is served already.
        NoSuchVersion
            ``version`` was never added.
        CorruptBundle
            The earlier version's archive was altered; the champion stays.
        """
        served = self.served()
        now = served[-1] if served else None
        if version is None:
            if len(served) < 2:
                raise NothingToRollBack(f"{self._group} has no champion before {now or 'the first'}")
            version = served[-2]
        package = self._package(version)
        if version == now:
            raise NothingToRollBack(f"{version} is the champion already")
        self._open(package)
        self._serve(package, f"taken back from {now}")
        self._note("rolled_back", version, from_version=now)
        return version

    def served(self) -> list[str]:
        """Return the approved versions in the order of their registration; the last is the champion."""
        return [package.version for package in self._approved()]

    def history(self) -> list[dict[str, Any]]:
        """Return every event, oldest first."""
        return self._files.events()

    def _approved(self) -> list[Package]:
        return [package for package in self.packages() if package.status == "Approved"]

    def _package(self, version: str) -> Package:
        packages = self.packages()
        for package in packages:
            if package.version == version:
                return package
        kept = ", ".join(sorted(package.version for package in packages)) or "none"
        raise NoSuchVersion(f"{version!r} is not in {self._group}; kept are {kept}")

    def _open(self, package: Package) -> ModelBundle:
        """Return a package's bundle, checked to be the one that it is described as."""
        with reaching(package.arn):
            described = self._sagemaker.describe_model_package(ModelPackageName=package.arn)
        address = described["InferenceSpecification"]["Containers"][0]["ModelDataUrl"]
        bundle = open_bundle(unpack(self._files.read(address)))
        if bundle.version != package.version:
            raise CorruptBundle(f"{address} holds version {bundle.version}, not {package.version}")
        return bundle

    def _serve(self, package: Package, why: str) -> None:
        """Approve a package, and then take back what is newer: at no moment is nothing approved."""
        if package.status != "Approved":
            self._decide(package, "Approved", why)
        for newer in self._approved():
            if newer.number > package.number:
                self._decide(newer, "Rejected", f"{package.version} serves in its place")

    def _decide(self, package: Package, status: str, why: str) -> None:
        with reaching(f"{status} for {package.arn}"):
            self._sagemaker.update_model_package(
                ModelPackageArn=package.arn, ModelApprovalStatus=status, ApprovalDescription=why[:1024]
            )

    def _say(self, package: Package, verdict: Verdict, as_of_ms: int) -> None:
        """Write the verdict where the package's report lies, and its outline into the package."""
        told = {"as_of_ms": as_of_ms, "passed": verdict.passed, **asdict(verdict)}
        self._files.keep(package.version, VERDICT, json.dumps(told).encode())
        outline = {"verdict": "passed" if verdict.passed else "refused", "as_of_ms": str(as_of_ms)}
        with reaching(package.arn):
            self._sagemaker.update_model_package(ModelPackageArn=package.arn, CustomerMetadataProperties=outline)

    def _note(self, event: str, version: str, **facts: Any) -> None:
        self._files.note({"event": event, "version": version, **facts})
