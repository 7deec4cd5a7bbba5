"""The weekly loop's steps as the jobs of a pipeline call them: ``python -m retraining step build | fit | judge``.

A job that fails leaves its reason where SageMaker looks for it. A refusal is no failure of a job: ``judge`` ends with 0
and says in its verdict that the challenger was refused; the pipeline's condition acts on that.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer

from fraud.errors import TollgateError
from retraining.bucket import reaching
from retraining.container import NONE, Container, this_container
from retraining.errors import InvalidPipeline
from retraining.weekly import WeekPlan, WeekReport
from training.policy_rules import PolicyRules, read_rules
from training.recipes import read_recipe
from training.selective import read_decisions

ROOT: Final = Path(__file__).resolve().parents[1]
Result = TypeVar("Result")

app = typer.Typer(no_args_is_help=True, help="One step of the SageMaker pipeline, between the folders of /opt/ml.")


@app.command()
def build(  # noqa: PLR0913  # one parameter per option
    *,
    as_of: Annotated[str, typer.Option(help="Day of the iteration, or a schedule's time of that day.")],
    train_days: Annotated[int, typer.Option(help="Days that the trees are grown on.")] = 30,
    validation_days: Annotated[int, typer.Option(help="Days after them: when to stop, thresholds.")] = 7,
    test_days: Annotated[int, typer.Option(help="Held-out days, the newest whose labels are mature.")] = 7,
    label_delay: Annotated[int, typer.Option(help="Days until a label is mature.")] = 21,
    review_share: Annotated[float, typer.Option(help="Transactions people can look at.")] = 0.01,
    insult_share: Annotated[float, typer.Option(help="Good transactions that may be declined.")] = 0.001,
    bucket: Annotated[str, typer.Option(help="Bucket in which the keys below lie.")] = "",
    policy: Annotated[str, typer.Option(help="Key of a file of policy rules, or none.")] = NONE,
    parameters: Annotated[str, typer.Option(help="Key of a parameters file of `training search`, or none.")] = NONE,
    decisions: Annotated[str, typer.Option(help="Key of the decisions that rows are weighed by, or none.")] = NONE,
) -> None:
    """Build the training set; what rows weigh and how a model is fitted go with it to the other steps."""
    from retraining.steps import build_step

    def run(container: Container) -> int:
        rules, recipe, weighed = (
            given(bucket, key, container.processing(name))
            for name, key in (("policy", policy), ("parameters", parameters), ("decisions", decisions))
        )
        plan = WeekPlan(
            train_days, validation_days, test_days, label_delay, review_share=review_share, insult_share=insult_share,
            rules=PolicyRules() if rules is None else read_rules(rules), recipe=read_recipe(recipe),
        )  # fmt: skip
        return build_step(
            container,
            as_of=as_of,
            plan=plan,
            repo=ROOT / "feature_repo",
            decisions=None if weighed is None else read_decisions(weighed),
        )

    typer.echo(f"{_or_say_why(run)} rows")


@app.command()
def fit() -> None:
    """Fit a challenger."""
    from retraining.steps import fit_step

    _or_say_why(lambda container: fit_step(container, root=ROOT))
    typer.echo("fitted")


@app.command()
def judge(
    *,
    registry: Annotated[str, typer.Option(help="file:FOLDER or sagemaker:GROUP.")],
    bucket: Annotated[str, typer.Option(help="Bucket of a registry on AWS.")] = "",
    image: Annotated[str, typer.Option(help="Inference image that a package names.")] = "",
    approval: Annotated[str, typer.Option(help="On AWS: automatic, or manual to wait for a person.")] = "manual",
    parity: Annotated[str, typer.Option(help="Key of a parity certificate in the bucket, or none.")] = NONE,
    again: Annotated[str, typer.Option(help="yes judges a calendar week that has its verdict.")] = "no",
) -> None:
    """Judge the challenger and write the verdict into the registry."""
    from retraining.addresses import open_registry
    from retraining.steps import judge_step

    def run(container: Container) -> WeekReport:
        certificate = None if parity == NONE else fetched(bucket, parity, container.processing("parity"))
        opened = open_registry(registry, bucket=bucket, image=image, approval=approval)
        return judge_step(container, opened, parity=certificate, again=again == "yes")

    report = _or_say_why(run)
    typer.echo(f"{report.challenger} {'passed' if report.promoted else 'was refused'}")


def given(bucket: str, key: str, folder: Path) -> Path | None:
    """Return an input that somebody named, as a file; null for ``none``.

    Raises
    ------
    InvalidPipeline
        There is no such object, or no bucket to look in.
    RegistryUnreachable
        The bucket does not answer, or this job may not read the key.
    """
    if key == NONE:
        return None
    if not bucket:
        raise InvalidPipeline(f"--bucket is needed to find the key {key!r} in")
    place = fetched(bucket, key, folder)
    if not place.is_file():
        raise InvalidPipeline(f"s3://{bucket}/{key} is not there: put it there, or give {NONE!r}")
    return place


def fetched(bucket: str, key: str, folder: Path) -> Path:
    """Return an object of a bucket as a file; one that is not there is a file that is not there.

    Raises
    ------
    RegistryUnreachable
        The bucket does not answer.
    """
    import boto3
    from botocore.exceptions import ClientError

    place = folder / Path(key).name
    folder.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    with reaching(f"s3://{bucket}/{key}"):
        try:
            held = boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"]
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") not in {"NoSuchKey", "404"}:
                raise
            return place
        with place.open("wb") as file:
            shutil.copyfileobj(held, file)
    return place


def _or_say_why(run: Callable[[Container], Result]) -> Result:
    """Run a step in this job's folders; leave the reason of an expected failure where SageMaker looks for it."""
    container = this_container()
    try:
        return run(container)
    except (TollgateError, OSError) as error:
        container.say_why(error)
        raise
