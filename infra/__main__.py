"""AWS from the command line: render and check templates, plan and deploy stacks, roll models out and back."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from time import time_ns
from typing import Annotated, Any

import typer
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from fraud.errors import TollgateError, sentence
from infra import rendering, rules, sbom, trees
from infra.changes import Account, Plan
from infra.command_line import JsonFile, checked_url, tell, wants_only_json, write_figures
from infra.deployer import Rollout
from infra.environment import Environment, read_environment
from infra.errors import EndpointStuck, InvalidEnvironment, RolledBack, StaleTemplates
from infra.names import plain_name
from infra.publishing import publish as publish_file
from infra.quotas import SERVICE, Quotas
from infra.redrive import redrive as put_back
from infra.screens import plan_as_json, show_advice, show_json, show_plan, show_rows, show_unready
from infra.served import NONE, look
from infra.stacks import STACKS, Stack
from infra.wiring import Wired, bucket_of, clients, prefix_lists, wire

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
console = Console(stderr=True)

Name = Annotated[str, typer.Argument(help="Environment: a file in infra/environments/.", metavar="ENVIRONMENT")]
Url = Annotated[str, typer.Option("--endpoint-url", help="An emulator instead of AWS.", callback=checked_url)]
One = Annotated[str, typer.Option("--stack", help="One stack only.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command()
def render(check: Annotated[bool, typer.Option("--check", help="Only compare; fail on a difference.")] = False) -> None:
    """Write the templates to infra/templates/."""
    if check:
        rendering.check()
        typer.echo(f"{len(STACKS)} templates are what the code renders")
        return
    changed = rendering.write()
    typer.echo(f"wrote {', '.join(path.name for path in changed)}" if changed else "nothing changed")


@app.command(name="rules")
def rules_(json_file: JsonFile = None) -> None:
    """Check our own rules: least privilege, encryption, nothing public, tags, data kept, logs that end."""
    found = [(stack.name, item) for stack in STACKS for item in rules.findings(stack.name, rendering.as_data(stack))]
    write_figures([{"stack": stack, **asdict(item)} for stack, item in found], json_file)
    for stack, item in found:
        typer.echo(f"{stack}.{item.resource}: {item.rule}: {item.detail}", err=True)
    if found:
        raise StaleTemplates(f"{len(found)} rules are broken")
    if not wants_only_json(json_file):
        typer.echo(f"no rule is broken; {len(rules.WILDCARDS)} exceptions, each with its reason")


@app.command()
def plan(name: Name, url: Url = "", one: One = "", json_file: JsonFile = None) -> None:
    """Show what deploying would change and which quotas are too small, and change nothing."""
    account, environment = _account(name, url)
    plans = []
    for stack in _stacks(one):
        with _waiting(f"planning {stack.name}"):
            made = account.plan(stack)
            account.discard(made)
        plans.append((stack, made))
        show_plan(console, made, account.name(stack))
    show_unready(console, environment)
    advice = Quotas(clients(environment, url)(SERVICE), environment).advice()
    show_advice(console, advice)
    stacks = [plan_as_json(made, account.name(stack)) for stack, made in plans]
    write_figures({"stacks": stacks, "unready": environment.unready(), "advice": advice}, json_file)


@app.command()
def deploy(name: Name, url: Url = "", one: One = "", yes: Yes = False, json_file: JsonFile = None) -> None:
    """Deploy the stacks in order: plan, show, ask, execute. Safe to run again after any interruption."""
    account, environment = _account(name, url)
    done = []
    for stack in _stacks(one):
        if stack.name not in ("network", "data"):
            _ready(environment)
        with _waiting(f"planning {stack.name}"):
            made = account.plan(stack, clear=True)
        show_plan(console, made, account.name(stack))
        if made.waits_for:
            raise InvalidEnvironment(f"{stack.name} waits for {', '.join(made.waits_for)}: deploy that first")
        _execute(account, made, yes=yes)
        account.protect(stack)
        done.append(plan_as_json(made, account.name(stack)))
    write_figures(done, json_file)


def _ready(environment: Environment) -> None:
    unready = environment.unready()
    if unready:
        raise InvalidEnvironment(
            f"infra/environments/{environment.name}.toml: {', '.join(unready)} still made of zeros; network and data "
            "are deployed: push the images, publish the registry (docs/aws.md), put their digests in and run again"
        )


def _execute(account: Account, made: Plan, *, yes: bool) -> None:
    if not made.change_set:
        return
    if not yes and not typer.confirm("Execute?", err=True):
        account.discard(made)
        raise typer.Exit(1)
    with _waiting(f"deploying {made.stack.name}") as say:
        account.execute(made, say)


@app.command()
def status(name: Name, url: Url = "", json_file: JsonFile = None) -> None:
    """Show the stacks and what the endpoint serves."""
    account, environment = _account(name, url)
    states = {stack.name: account.status(stack) for stack in STACKS}
    served = look(clients(environment, url)("sagemaker"), plain_name(environment.name, "scorer"))
    write_figures({"stacks": states, "endpoint": asdict(served)}, json_file)
    if wants_only_json(json_file):
        return
    show_rows(Console(), environment.name, ("stack", "status"), list(states.items()))
    rows = [(key, str(value) or "-") for key, value in asdict(served).items()]
    show_rows(Console(), plain_name(environment.name, "scorer"), ("endpoint", ""), rows)


@app.command()
def destroy(name: Name, url: Url = "", one: One = "", yes: Yes = False) -> None:
    """Delete the stacks that keep nothing; data, keys and images stay, and so does a serving endpoint."""
    account, environment = _account(name, url)
    chosen = _stacks(one) if one else [stack for stack in reversed(STACKS) if not stack.keeps_data]
    if not any(stack.keeps_data for stack in chosen):  # those are refused whatever stands on them
        _refuse_serving(environment, url)  # before anything is deleted
    for stack in chosen:
        if not yes and not stack.keeps_data and not typer.confirm(f"Delete {account.name(stack)}?", err=True):
            raise typer.Exit(1)
        with _waiting(f"deleting {stack.name}"):
            there = account.destroy(stack)
        typer.echo(f"{account.name(stack)}: {'deleted' if there else 'was not there'}")
    kept = [account.name(stack) for stack in STACKS if stack.keeps_data]
    typer.echo(f"kept: {', '.join(kept)}")


def _refuse_serving(environment: Environment, url: str) -> None:
    """Refuse to take role, alarms, fresh features or the way back away from an endpoint that stands."""
    endpoint = plain_name(environment.name, "scorer")
    if look(clients(environment, url)("sagemaker"), endpoint).status != NONE:
        raise EndpointStuck(
            f"{endpoint} stands on these stacks; if nothing calls it any more, run "
            f"'aws sagemaker delete-endpoint --endpoint-name {endpoint}' first"
        )


@app.command()
def release(
    name: Name,
    package: Annotated[str, typer.Argument(help="ARN of an approved model package.")],
    url: Url = "",
    recreate: Annotated[
        bool, typer.Option("--recreate", help="Delete an endpoint that failed and serves nothing.")
    ] = False,
    shadow: Annotated[str, typer.Option(help="ARN of a package that scores along and decides nothing.")] = "",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the end of the rollout.")] = True,
    json_file: JsonFile = None,
) -> None:
    """Roll an approved model package out, canary first; the same package again changes nothing."""
    environment = read_environment(name)
    wired = _wired(environment, url)
    show_advice(console, wired.quotas.advice())
    rollout = wired.deployer.deploy(package, recreate=recreate, shadow_arn=shadow)
    if wait:
        try:
            _settle(wired, environment, rollout)
        except RolledBack as error:
            wired.deployer.mark(package, "rolled back", str(error))
            raise
        wired.deployer.mark(package, "deployed")
    _tell_rollout(rollout, json_file)


@app.command()
def rollback(name: Name, url: Url = "", json_file: JsonFile = None) -> None:
    """Serve what was served before, at once."""
    environment = read_environment(name)
    wired = _wired(environment, url)
    rollout = wired.deployer.rollback()
    _settle(wired, environment, rollout)
    _tell_rollout(rollout, json_file)


def _settle(wired: Wired, environment: Environment, rollout: Rollout) -> None:
    """Wait for a rollout's end and register scaling."""
    with _waiting(f"{rollout.step} {rollout.config}") as say:
        wired.deployer.settle(rollout.config, lambda now: say(f"{now.status} towards {now.coming or now.config}"))
    wired.scale(environment, now_ms=_now_ms())


def _tell_rollout(rollout: Rollout, json_file: Path | None) -> None:
    report = asdict(rollout)
    tell(", ".join(f"{key}: {value or '-'}" for key, value in report.items()), report, json_file)


@app.command()
def scale(name: Name, url: Url = "", json_file: JsonFile = None) -> None:
    """Register the environment's scaling plan for the endpoint."""
    environment = read_environment(name)
    done = _wired(environment, url).scale(environment, now_ms=_now_ms())
    report = asdict(done)
    tell("\n".join(f"{key}: {', '.join(v) or '-'}" for key, v in report.items()), report, json_file)


@app.command()
def publish(
    name: Name,
    kind: Annotated[str, typer.Argument(help="registry or pipeline.")],
    file: Annotated[Path, typer.Argument(help="The file.")],
    url: Url = "",
) -> None:
    """Put Feast's registry or the pipeline's definition into the bucket under its digest, and print the digest."""
    environment = read_environment(name)
    with bucket_of(environment) as bucket:
        done = publish_file(clients(environment, url)("s3"), bucket, kind, file)
    console.print(f"s3://{environment.bucket}/{done.key} {'published' if done.fresh else 'was there already'}")
    typer.echo(done.digest)


@app.command()
def redrive(name: Name, url: Url = "", json_file: JsonFile = None) -> None:
    """Put records back on the stream that Lambda gave up on and kept in the bucket."""
    environment = read_environment(name)
    client = clients(environment, url)
    stream = plain_name(environment.name, "transactions")
    total = 0
    with _waiting("putting records back") as say, bucket_of(environment) as bucket:

        def advance(count: int) -> None:
            nonlocal total
            total += count
            say(f"{total} records put back")

        done = put_back(client("s3"), client("kinesis"), bucket=bucket, stream=stream, advance=advance)
    tell(f"{done.records} records of {done.objects} invocations put back", asdict(done), json_file)
    for said in done.left:
        typer.echo(f"left, no failed invocation as Lambda keeps it: {said}", err=True)
    if done.left:
        raise typer.Exit(1)


@app.command()
def bill(
    image: Annotated[str, typer.Argument(help=f"One of {', '.join(sorted(sbom.LOCKS))}.")],
    out: Annotated[Path | None, typer.Option(help="File to write; without it, stdout.")] = None,
) -> None:
    """Write an image's bill of material (CycloneDX)."""
    content = sbom.bill(image)
    if out is None:
        typer.echo(show_json(content))
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(show_json(content) + "\n", encoding="utf-8")
    typer.echo(f"{out}: {len(content['components'])} packages")


@app.command()
def tree(
    image: Annotated[str, typer.Argument(help=f"One of {', '.join(sorted(sbom.LOCKS))}.")],
    into: Annotated[Path, typer.Option(help="New folder to build in.")],
    json_file: JsonFile = None,
) -> None:
    """Build what an image's Dockerfile builds, without Docker, and say what it weighs."""
    with _waiting(f"building {image}") as say:
        built = trees.build(image, into, say)
    write_figures(asdict(built), json_file)
    if wants_only_json(json_file):
        return
    rows = [(name, f"{size / 1e6:.1f}") for name, size in built.largest]
    show_rows(Console(), f"{image}: {built.total / 1e6:.1f} MB, {built.files} files", ("largest", "MB"), rows)


def _stacks(one: str) -> list[Stack]:
    chosen = [stack for stack in STACKS if one in ("", stack.name)]
    if not chosen:
        raise InvalidEnvironment(f"there is no stack {one!r}; known are {', '.join(stack.name for stack in STACKS)}")
    return chosen


def _account(name: str, url: str) -> tuple[Account, Environment]:
    environment = read_environment(name)
    client = clients(environment, url)
    found = prefix_lists(client, environment)
    return Account(client("cloudformation"), environment, found, emulated=bool(url)), environment


def _wired(environment: Environment, url: str) -> Wired:
    return wire(clients(environment, url), environment)


def _now_ms() -> int:
    return time_ns() // 1_000_000


@contextmanager
def _waiting(what: str) -> Iterator[Any]:
    """Show that something goes on, for how long, and what was last said."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what)
        yield lambda said: progress.update(task, description=f"{what}: {said}")


def main() -> None:
    """Run the command line; an expected failure ends with one sentence and code 1."""
    try:
        app()
    except (BotoCoreError, ClientError, ResponseParserError) as error:
        _fail(f"AWS or its emulator refused: {error}")
    except (TollgateError, OSError) as error:
        _fail(sentence(error))


def _fail(said: str) -> None:
    typer.echo(f"infra: {said}", err=True)
    raise SystemExit(1)


if __name__ == "__main__":
    main()
