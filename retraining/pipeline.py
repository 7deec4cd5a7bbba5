"""The weekly loop as a SageMaker pipeline: its definition, made offline and the same every time.

The jobs run our own image, whose code is the code that runs here, so nothing is uploaded; whatever differs between two
environments is a parameter of the pipeline, so that one file, committed and reviewed, serves all of them. The SDK is
imported here and only when a definition is made: it takes seconds, and wants a region and credentials at import.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from retraining.container import NONE
from retraining.errors import InvalidPipeline
from retraining.steps import CHALLENGER, LABELS, LAKE, ROWS, VERDICT

GOLDEN: Final = Path(__file__).with_name("weekly.pipeline.json")
NAME: Final = "tollgate-weekly"
INSTANCE: Final = "ml.m5.2xlarge"
LIMIT_S: Final = 2 * 3600
VOLUME_GB: Final = 100

PLACES: Final = ("Bucket", "DataKey", "JobImage", "InferenceImage", "JobRole", "Region", "Registry", "SecurityGroup")
"""Where and with what it runs: parameters without a default, given by whatever starts the pipeline."""
SUBNETS: Final = ("SubnetA", "SubnetB", "SubnetC")
SPANS: Final[Mapping[str, int]] = {"TrainDays": 30, "ValidationDays": 7, "TestDays": 7, "LabelDelayDays": 21}
KEYS: Final = ("Policy", "Parameters", "Decisions", "Parity")
"""Files in the bucket: rules around the thresholds, a recipe, what rows weigh, a parity certificate; or ``none``."""
SHARES: Final[Mapping[str, str]] = {"ReviewShare": "0.01", "InsultShare": "0.001"}

_ROLE: Final = "arn:aws:iam::000000000000:role/given-at-start"
_FAKE: Final = {
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",  # signs nothing: nothing is sent
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "SAGEMAKER_VALIDATE_ROLE": "false",
}
_QUIET: Final = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}


def render() -> str:
    """Return the definition as text; no call leaves this machine."""
    with _offline():
        made = json.loads(_pipeline().definition())
    made["Steps"] = _with_role(made["Steps"])
    return json.dumps(made, indent=1, sort_keys=True) + "\n"


def check() -> None:
    """Compare the committed definition with what the code makes.

    Raises
    ------
    InvalidPipeline
        They differ.
    """
    if not GOLDEN.is_file() or GOLDEN.read_text(encoding="utf-8") != render():
        raise InvalidPipeline(f"{GOLDEN.name} is not what the code makes; run: python -m retraining pipeline --render")


@contextmanager
def _offline() -> Iterator[None]:
    """Give the SDK the region and the credentials that it wants at import, and take them back."""
    import logging
    import warnings

    before = {name: os.environ.get(name) for name in _FAKE}
    os.environ.update(_FAKE)
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _pipeline() -> Any:
    from sagemaker.core.workflow.conditions import ConditionEquals
    from sagemaker.core.workflow.functions import Join, JsonGet
    from sagemaker.core.workflow.properties import PropertyFile
    from sagemaker.mlops.workflow.condition_step import ConditionStep
    from sagemaker.mlops.workflow.fail_step import FailStep
    from sagemaker.mlops.workflow.pipeline import Pipeline

    steps = _Steps()
    build = steps.build()
    rows = build.properties.ProcessingOutputConfig.Outputs[ROWS].S3Output.S3Uri
    fit = steps.fit(rows)
    verdict = PropertyFile(name="Verdict", output_name="verdict", path=VERDICT)
    judge = steps.judge(rows, fit.properties.ModelArtifacts.S3ModelArtifacts, verdict)

    def said(path: str) -> Any:
        return JsonGet(step_name=judge.name, property_file=verdict, json_path=path)

    why = Join(on=" ", values=["the gate refused", said("challenger"), "and the champion stays:", said("why_not")])
    refused = FailStep(name="Refused", error_message=why)
    gate = ConditionStep(
        name="Gate", conditions=[ConditionEquals(left=said("passed"), right=True)], if_steps=[], else_steps=[refused]
    )
    return Pipeline(
        name=NAME,
        parameters=list(steps.parameters.values()),
        steps=[build, fit, judge, gate],
        pipeline_experiment_config=None,
        sagemaker_session=steps.session,
    )


class _Steps:
    """The three jobs, as the SDK takes them."""

    def __init__(self) -> None:
        from sagemaker.core.workflow.execution_variables import ExecutionVariables
        from sagemaker.core.workflow.functions import Join
        from sagemaker.core.workflow.parameters import ParameterInteger, ParameterString

        self.session = _session()
        given = {name: ParameterString(name) for name in ("AsOf", *PLACES, *SUBNETS)}
        counted = {name: ParameterInteger(name, default_value=days) for name, days in {**SPANS, "Seed": 0}.items()}
        shares = {name: ParameterString(name, default_value=share) for name, share in SHARES.items()}
        approval = ParameterString("Approval", default_value="manual", enum_values=["manual", "automatic"])
        keys = {name: ParameterString(name, default_value=NONE) for name in KEYS}
        again = ParameterString("Again", default_value="no", enum_values=["no", "yes"])
        self.parameters: dict[str, Any] = {
            **given, **counted, **shares, "Approval": approval, **keys, "Again": again,
        }  # fmt: skip
        self._join = Join
        self._run = ["s3:/", given["Bucket"], "runs", ExecutionVariables.PIPELINE_EXECUTION_ID]

    def build(self) -> Any:
        lake = [
            self._input("transactions", self._join(on="/", values=["s3:/", self.parameters["Bucket"], "transactions"]),
                        f"{LAKE}/transactions"),
            self._input("profiles", self._join(on="/", values=["s3:/", self.parameters["Bucket"], "profiles"]),
                        f"{LAKE}/profiles"),
            self._input("labels", self._join(on="/", values=["s3:/", self.parameters["Bucket"], "labels.parquet"]),
                        LABELS),
        ]  # fmt: skip
        spans = {
            "--as-of": "AsOf", "--train-days": "TrainDays", "--validation-days": "ValidationDays",
            "--test-days": "TestDays", "--label-delay": "LabelDelayDays", "--review-share": "ReviewShare",
            "--insult-share": "InsultShare", "--bucket": "Bucket", "--policy": "Policy", "--parameters": "Parameters",
            "--decisions": "Decisions",
        }  # fmt: skip
        return self._processing("Build", "build", lake, ROWS, self._arguments(spans))

    def fit(self, rows: Any) -> Any:
        from sagemaker.core.shapes import OutputDataConfig, StoppingCondition
        from sagemaker.core.training.configs import Compute, InputData, Networking
        from sagemaker.mlops.workflow.steps import TrainingStep
        from sagemaker.train.model_trainer import ModelTrainer

        given = self.parameters
        trainer = ModelTrainer(
            sagemaker_session=self.session,
            role=_ROLE,  # a text is all that it takes; the parameter takes its place in the definition
            training_image=given["JobImage"],
            base_job_name="tollgate",
            compute=Compute(
                instance_type=INSTANCE,
                instance_count=1,
                volume_size_in_gb=VOLUME_GB,
                volume_kms_key_id=given["DataKey"],
            ),
            networking=Networking(
                subnets=[given[name] for name in SUBNETS],
                security_group_ids=[given["SecurityGroup"]],
                enable_network_isolation=False,
                enable_inter_container_traffic_encryption=True,
            ),
            stopping_condition=StoppingCondition(max_runtime_in_seconds=LIMIT_S),
            output_data_config=OutputDataConfig(s3_output_path=self._output("model"), kms_key_id=given["DataKey"]),
            hyperparameters={"seed": given["Seed"].to_string()},
        )
        channel = InputData(channel_name=ROWS, data_source=rows, content_type="application/x-npy")
        return TrainingStep(name="Fit", step_args=trainer.train(input_data_config=[channel]), retry_policies=_retries())

    def judge(self, rows: Any, model: Any, verdict: Any) -> Any:
        inputs = [self._input(ROWS, rows, ROWS), self._input("challenger", model, CHALLENGER)]
        told = {
            "--registry": "Registry", "--bucket": "Bucket", "--image": "InferenceImage", "--approval": "Approval",
            "--parity": "Parity", "--again": "Again",
        }  # fmt: skip
        return self._processing("Judge", "judge", inputs, "verdict", self._arguments(told), [verdict])

    def _processing(
        self, name: str, step: str, inputs: list[Any], output: str, arguments: list[Any], files: Any = None
    ) -> Any:
        from sagemaker.core.network import NetworkConfig
        from sagemaker.core.processing import Processor
        from sagemaker.core.shapes import ProcessingOutput, ProcessingS3Output
        from sagemaker.mlops.workflow.steps import ProcessingStep

        given = self.parameters
        processor = Processor(
            role=given["JobRole"],
            image_uri=given["JobImage"],
            entrypoint=["python", "-m", "retraining", "step", step],
            instance_count=1,
            instance_type=INSTANCE,
            volume_size_in_gb=VOLUME_GB,
            volume_kms_key=given["DataKey"],
            output_kms_key=given["DataKey"],
            max_runtime_in_seconds=LIMIT_S,
            env={"AWS_DEFAULT_REGION": given["Region"]},
            network_config=NetworkConfig(
                enable_network_isolation=False,
                encrypt_inter_container_traffic=True,
                subnets=[given[name] for name in SUBNETS],
                security_group_ids=[given["SecurityGroup"]],
            ),
            sagemaker_session=self.session,
        )
        place = ProcessingS3Output(
            s3_uri=self._output(output), local_path=f"/opt/ml/processing/{output}", s3_upload_mode="EndOfJob"
        )
        outputs = [ProcessingOutput(output_name=output, s3_output=place)]
        made = processor.run(inputs=inputs, outputs=outputs, arguments=arguments)
        return ProcessingStep(name=name, step_args=made, property_files=files, retry_policies=_retries())

    def _input(self, name: str, uri: Any, folder: str) -> Any:
        from sagemaker.core.shapes import ProcessingInput, ProcessingS3Input

        place = ProcessingS3Input(
            s3_uri=uri, local_path=f"/opt/ml/processing/{folder}", s3_data_type="S3Prefix", s3_input_mode="File"
        )
        return ProcessingInput(input_name=name, s3_input=place)

    def _output(self, name: str) -> Any:
        return self._join(on="/", values=[*self._run, name])

    def _arguments(self, names: Mapping[str, str]) -> list[Any]:
        """Return command line arguments; SageMaker takes texts only."""
        out: list[Any] = []
        for flag, name in names.items():
            value = self.parameters[name]
            out += [flag, value.to_string() if name in SPANS else value]
        return out


def _retries() -> list[Any]:
    """Return when a step is tried again: when AWS has no machine or failed itself, never when our code failed."""
    from sagemaker.mlops.workflow.retry import SageMakerJobExceptionTypeEnum, SageMakerJobStepRetryPolicy

    kinds = [SageMakerJobExceptionTypeEnum.CAPACITY_ERROR, SageMakerJobExceptionTypeEnum.INTERNAL_ERROR]
    return [SageMakerJobStepRetryPolicy(exception_types=kinds, interval_seconds=60, backoff_rate=2.0, max_attempts=5)]


def _session() -> Any:
    """Return a session that knows the bucket it would otherwise ask AWS for, and tells nobody."""
    import boto3
    from sagemaker.core.helper.session_helper import SessionSettings
    from sagemaker.core.workflow.pipeline_context import PipelineSession

    class Offline(PipelineSession):  # type: ignore[misc]  # the SDK ships no types
        def default_bucket(self) -> str:
            return "given-at-start"

    return Offline(
        boto_session=boto3.Session(region_name=_FAKE["AWS_DEFAULT_REGION"]),
        default_bucket="given-at-start",
        settings=SessionSettings(encrypt_repacked_artifacts=False),
        sagemaker_config=_QUIET,
    )


def _with_role(content: Any) -> Any:
    """Return the steps with the role's parameter where the SDK took a text only."""
    if isinstance(content, dict):
        return {key: _with_role(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_with_role(value) for value in content]
    return {"Get": "Parameters.JobRole"} if content == _ROLE else content
