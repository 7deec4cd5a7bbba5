"""Executes a SageMaker pipeline's *definition* on this machine: what is tested is the file that is deployed.

Processing and training jobs are subprocesses that run the image's own entry points between real ``/opt/ml`` folders
(under a temporary root, named by ``SM_OPT_ML``); S3 and the registry are an emulator's. Each job's resolved arguments
are first checked against botocore's model of the call that SageMaker would make. Emulated and not SageMaker's: there is
no instance, no image, no network; retry policies are read and never needed.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

import botocore.session
import botocore.validate

from tests.support.emulators import aws_environment

PROJECT = Path(__file__).parents[2]
CALLS = {
    "Processing": ("CreateProcessingJob", "ProcessingJobName"),
    "Training": ("CreateTrainingJob", "TrainingJobName"),
}
KINDS: dict[str, tuple[type, ...]] = {"String": (str,), "Integer": (int,), "Float": (float, int), "Boolean": (bool,)}


class StepFailed(Exception):
    """A step ended as SageMaker would end it."""


class StartRefused(Exception):
    """StartPipelineExecution would refuse these parameters."""


@dataclass
class Execution:
    """How an execution went: each step's outcome and properties, in the order in which they ran."""

    outcome: Literal["Succeeded", "Failed"] = "Succeeded"
    reason: str = ""
    steps: dict[str, str] = field(default_factory=dict)
    properties: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[tuple[str, str], Any] = field(default_factory=dict)


class Runner:
    """One definition, and the S3 and the folder that its executions work with."""

    def __init__(self, definition: Mapping[str, Any], *, s3: Any, folder: Path, endpoint: str) -> None:
        self._definition = definition
        self._s3 = s3
        self._folder = folder
        self._endpoint = endpoint
        self._service = botocore.session.get_session().get_service_model("sagemaker")

    def start(
        self, parameters: Mapping[str, Any], *, after: Execution | None = None, reused: Sequence[str] = ()
    ) -> Execution:
        """Run one execution; the ``reused`` steps' outputs are those of the execution ``after`` which it comes."""
        run = _Run(self._given(parameters), Execution())
        if after is not None:
            for name in reused:
                run.done.properties[name] = after.properties[name]
        try:
            self._run(run, [step for step in self._definition["Steps"] if step["Name"] not in reused])
        except StepFailed as failure:
            run.done.outcome, run.done.reason = "Failed", str(failure)
        return run.done

    def arguments(self, step: Mapping[str, Any], run: "_Run") -> dict[str, Any]:
        """Return a job's resolved arguments, as SageMaker would send them to itself."""
        call, name = CALLS[step["Type"]]
        resolved: dict[str, Any] = run.resolve(step["Arguments"])
        shape = self._service.operation_model(call).input_shape
        report = botocore.validate.ParamValidator().validate({name: "job", **resolved}, shape)
        if report.has_errors():
            raise StepFailed(f"{call}: {report.generate_report()}")
        return resolved

    def _given(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        declared = {item["Name"]: item for item in self._definition["Parameters"]}
        if strangers := parameters.keys() - declared.keys():
            raise StartRefused(f"unknown parameters {sorted(strangers)}")
        values = {name: parameters.get(name, item.get("DefaultValue")) for name, item in declared.items()}
        for name, value in values.items():
            item = declared[name]
            if value is None:
                raise StartRefused(f"parameter {name} has no value")
            if not isinstance(value, KINDS[item["Type"]]) or value not in item.get("EnumValues", [value]):
                raise StartRefused(f"parameter {name}={value!r} is no {item['Type']} that is allowed")
        return values

    def _run(self, run: "_Run", steps: Sequence[Mapping[str, Any]]) -> None:
        waiting = list(steps)
        while waiting:
            inner = {step["Name"] for step in waiting}
            ready = [step for step in waiting if not (_needs(step) & inner - {step["Name"]})]
            if not ready:
                raise StepFailed(f"steps wait for one another: {sorted(inner)}")
            for step in ready:
                waiting.remove(step)
                self._step(run, step)

    def _step(self, run: "_Run", step: Mapping[str, Any]) -> None:
        name, kind = step["Name"], step["Type"]
        run.done.steps[name] = "Failed"
        try:
            if kind == "Condition":
                holds = all(run.holds(condition) for condition in step["Arguments"]["Conditions"])
                run.done.properties[name] = {"Outcome": holds}
                run.done.steps[name] = "Succeeded"
                self._run(run, step["Arguments"]["IfSteps" if holds else "ElseSteps"])
                return
            if kind == "Fail":
                _fail(run.resolve(step["Arguments"])["ErrorMessage"])
            getattr(self, f"_{kind.lower()}")(run, step)
            run.done.steps[name] = "Succeeded"
        except StepFailed as failure:
            raise StepFailed(f"{name}: {failure}") from None

    def _processing(self, run: "_Run", step: Mapping[str, Any]) -> None:
        asked = self.arguments(step, run)
        root = self._root(run, step)
        outputs = {item["OutputName"]: item for item in asked["ProcessingOutputConfig"]["Outputs"]}
        for item in asked.get("ProcessingInputs", []):
            self._download(item["S3Input"]["S3Uri"], _inside(root, item["S3Input"]["LocalPath"]))
        for item in outputs.values():
            _inside(root, item["S3Output"]["LocalPath"]).mkdir(parents=True, exist_ok=True)
        app = asked["AppSpecification"]
        command = [*app.get("ContainerEntrypoint", []), *app.get("ContainerArguments", [])]
        self._job(command, root, asked, root / "output" / "message")
        for item in outputs.values():
            self._upload(_inside(root, item["S3Output"]["LocalPath"]), item["S3Output"]["S3Uri"])
        run.done.properties[step["Name"]] = {**asked, "ProcessingOutputConfig": {"Outputs": outputs}}
        for item in step.get("PropertyFiles", []):
            place = _inside(root, outputs[item["OutputName"]]["S3Output"]["LocalPath"]) / item["FilePath"]
            run.done.files[step["Name"], item["PropertyFileName"]] = json.loads(place.read_text())

    def _training(self, run: "_Run", step: Mapping[str, Any]) -> None:
        asked = self.arguments(step, run)
        root = self._root(run, step)
        config = root / "input" / "config"
        for folder in (config, root / "model", root / "output" / "data"):
            folder.mkdir(parents=True)
        (config / "hyperparameters.json").write_text(json.dumps(asked.get("HyperParameters", {})))
        channels = {item["ChannelName"]: {"TrainingInputMode": "File"} for item in asked["InputDataConfig"]}
        (config / "inputdataconfig.json").write_text(json.dumps(channels))
        (config / "resourceconfig.json").write_text(json.dumps({"current_host": "algo-1", "hosts": ["algo-1"]}))
        for item in asked["InputDataConfig"]:
            self._download(item["DataSource"]["S3DataSource"]["S3Uri"], root / "input" / "data" / item["ChannelName"])
        self._job(["train"], root, asked, root / "output" / "failure")
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for path in sorted((root / "model").iterdir()):
                archive.add(path, arcname=path.name)
        job = f"{step['Name']}-{run.id}"
        address = f"{asked['OutputDataConfig']['S3OutputPath']}/{job}/output/model.tar.gz"
        bucket, _, key = address.removeprefix("s3://").partition("/")
        self._s3.put_object(Bucket=bucket, Key=key, Body=packed.getvalue())
        run.done.properties[step["Name"]] = {**asked, "ModelArtifacts": {"S3ModelArtifacts": address}}

    def _job(self, command: Sequence[str], root: Path, asked: Mapping[str, Any], reason: Path) -> None:
        """Run what the image would run: its programs come from where its Dockerfile copies them from."""
        environment = aws_environment() | asked.get("Environment", {})
        environment |= {"SM_OPT_ML": str(root), "AWS_ENDPOINT_URL": self._endpoint, "PYTHONPATH": str(PROJECT)}
        environment |= {"FEAST_USAGE": "False", "OMP_NUM_THREADS": "1"}
        environment["PATH"] = f"{Path(sys.executable).parent}:{PROJECT / 'infra/images/job'}:{os.environ['PATH']}"
        limit_s = asked["StoppingCondition"]["MaxRuntimeInSeconds"]
        done = subprocess.run(
            command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False, timeout=limit_s
        )
        (root / "log.txt").write_text(done.stdout + done.stderr)
        if done.returncode:
            said = reason.read_text() if reason.exists() else done.stderr[-1024:]
            raise StepFailed(f"AlgorithmError: exit code {done.returncode}: {said[:1024]}")

    def _root(self, run: "_Run", step: Mapping[str, Any]) -> Path:
        root = self._folder / run.id / str(step["Name"])
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        return root

    def _download(self, address: str, folder: Path) -> None:
        bucket, _, key = address.removeprefix("s3://").partition("/")
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
        found = [item["Key"] for page in pages for item in page.get("Contents", [])]
        if not found:
            raise StepFailed(f"ClientError: no S3 objects found under {address}")
        for name in found:
            place = folder / (name.removeprefix(key).lstrip("/") or name.rpartition("/")[2])
            place.parent.mkdir(parents=True, exist_ok=True)
            self._s3.download_file(bucket, name, str(place))

    def _upload(self, folder: Path, address: str) -> None:
        bucket, _, key = address.removeprefix("s3://").partition("/")
        for path in folder.rglob("*"):
            if path.is_file():
                self._s3.upload_file(str(path), bucket, f"{key}/{path.relative_to(folder)}")


class _Run:
    """What one execution knows: its parameters and what its steps gave; speaks the definition's small language."""

    def __init__(self, parameters: Mapping[str, Any], done: Execution) -> None:
        self.id = uuid.uuid4().hex[:12]
        self.done = done
        self._parameters = parameters

    def resolve(self, content: Any) -> Any:
        if isinstance(content, list):
            return [self.resolve(item) for item in content]
        if not isinstance(content, dict):
            return content
        if content.keys() == {"Get"}:
            return self._get(content["Get"])
        if content.keys() == {"Std:Join"}:
            join = content["Std:Join"]
            return join["On"].join(str(self.resolve(item)) for item in join["Values"])
        if content.keys() == {"Std:JsonGet"}:
            _, step, _, file = content["Std:JsonGet"]["PropertyFile"]["Get"].split(".")
            return _walk(self.done.files[step, file], content["Std:JsonGet"]["Path"])
        return {key: self.resolve(value) for key, value in content.items()}

    def holds(self, condition: Mapping[str, Any]) -> bool:
        left, right = self.resolve(condition["LeftValue"]), self.resolve(condition["RightValue"])
        if condition["Type"] != "Equals" or type(left) is not type(right):
            raise StepFailed(
                f"the condition {condition['Type']} of {left!r} and {right!r} is not one that can be asked"
            )
        return bool(left == right)

    def _get(self, name: str) -> Any:
        kind, _, rest = name.partition(".")
        if kind == "Parameters":
            return self._parameters[rest]
        if kind == "Execution":
            return {"PipelineExecutionId": self.id}[rest]
        step, _, path = rest.partition(".")
        return _walk(self.done.properties[step], path)


def _walk(content: Any, path: str) -> Any:
    for part in path.replace("['", ".").replace("']", "").split("."):
        content = content[part]
    return content


def _needs(content: Any) -> set[str]:
    """Return the steps whose outputs some content names."""
    if isinstance(content, list):
        return set().union(*map(_needs, content))
    if not isinstance(content, dict):
        return set()
    if content.keys() == {"Get"} and content["Get"].startswith("Steps."):
        return {content["Get"].split(".")[1]}
    return set().union(*map(_needs, content.values()))


def _fail(reason: str) -> NoReturn:
    raise StepFailed(reason[:1024])


def _inside(root: Path, path: str) -> Path:
    return root / path.removeprefix("/opt/ml/")
