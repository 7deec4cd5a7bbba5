"""Watching a canary until it is everything or nothing, and going back.

SageMaker moves the traffic and returns it when a guard is raised; this decides, from what canary and control decide,
whether the breaker's guard is. The registry follows what the endpoint ended with. Every function begins by looking, so
that a process that died half way is replaced by running the same command again.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from retraining.breaker import LIMITS, BreakerLimits, Counts, judge_canary
from retraining.endpoint import MOVING, POLL_S, Endpoint, Serving
from retraining.errors import NoSuchVersion
from retraining.meters import CloudWatchMeters
from retraining.sagemaker_registry import Package, SageMakerRegistry
from retraining.verdict import Verdict

Ending = Literal["full", "rolled back", "unchanged"]


@dataclass(frozen=True)
class Canary:
    """A canary and what it decided so far beside the control.

    Parameters
    ----------
    version, control_version
        Of the bundles that come and serve.
    canary, control
        What each decided since the rollout began.
    verdict
        The breaker's.
    """

    version: str
    control_version: str
    canary: Counts
    control: Counts
    verdict: Verdict


@dataclass(frozen=True)
class RolloutReport:
    """How a rollout ended: what serves now, why it went back (empty when it did not), what the breaker last saw."""

    ending: Ending
    version: str
    reason: str = ""
    seen: Canary | None = None


class Conductor:
    """One endpoint with its registry and its meters.

    Parameters
    ----------
    now_ms
        Gives the time, epoch ms.
    pause
        Waits that many seconds.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        registry: SageMakerRegistry,
        meters: CloudWatchMeters,
        *,
        now_ms: Callable[[], int],
        pause: Callable[[float], None],
        limits: BreakerLimits = LIMITS,
    ) -> None:
        self._endpoint = endpoint
        self._registry = registry
        self._meters = meters
        self._now_ms = now_ms
        self._pause = pause
        self._limits = limits

    def compare(self, now: Serving) -> Canary | None:
        """Return the canary beside the control; null when nothing comes, or nothing that the registry knows."""
        packages = self._packages()
        coming, serving = packages.get(now.coming_package), packages.get(now.package)
        if coming is None or serving is None:
            return None
        canary, control = (
            self._meters.read(package.version, since_ms=now.since_ms, now_ms=self._now_ms())
            for package in (coming, serving)
        )
        verdict = judge_canary(control, canary, self._limits)
        return Canary(coming.version, serving.version, canary, control, verdict)

    def watch(self, advance: Callable[[Serving, Canary | None], None] = lambda *_: None) -> RolloutReport:
        """Stay with a rollout to its end, and call it back when the breaker says so.

        Raises
        ------
        RegistryUnreachable
            AWS does not answer; the rollout goes on under its other guards.
        RolloutFailed
            The endpoint serves nothing, or a mixture.
        """
        began = now = self._endpoint.look()
        seen: Canary | None = None
        while now.status in MOVING:
            found = self.compare(now)
            advance(now, found)
            if found is not None:
                seen = found
                if not found.verdict.passed and now.status == "Updating":
                    self._endpoint.call_back("; ".join(found.verdict.reasons))
            self._pause(POLL_S)
            now = self._endpoint.look()
        ended = self._endpoint.settle()
        return self._end(began, ended, seen)

    def roll_back(self, advance: Callable[[Serving], None] = lambda _: None) -> RolloutReport:
        """Serve what was served before: stop the canary that is under way, or return to the version before.

        Raises
        ------
        NothingToRollBack
            Nothing was served before.
        RolloutFailed
            The endpoint serves nothing, or a mixture.
        """
        now, packages = self._endpoint.look(), self._packages()
        if now.status in MOVING:
            coming, serving = self._known(packages, now.coming_package), self._known(packages, now.package)
            if coming.number > serving.number:
                self._endpoint.call_back("a person asked for a rollback")
            return self._end(now, self._endpoint.settle(advance), None)
        serving = self._known(packages, now.package)
        champion = self._registry.champion_version()
        if champion in (None, serving.version):
            with self._registry.locked():
                champion = self._registry.rollback()
        target = next(package for package in packages.values() if package.version == champion)
        self._endpoint.return_to(target.arn, target.number)
        ended = self._endpoint.settle(advance)
        reason = f"taken back from {serving.version}"
        return RolloutReport("rolled back", self._known(packages, ended.package).version, reason)

    def _end(self, began: Serving, ended: Serving, seen: Canary | None) -> RolloutReport:
        """Make the registry's champion what the endpoint ended with."""
        self._endpoint.calm()
        serving = self._known(self._packages(), ended.package)
        champion = self._registry.champion_version()
        if champion != serving.version:
            with self._registry.locked():
                self._registry.rollback(serving.version)
        stopped = "" if seen is None else "; ".join(seen.verdict.reasons)
        if ended.failure and (champion != serving.version or began.coming):
            return RolloutReport("rolled back", serving.version, stopped or ended.failure, seen)
        return RolloutReport("full" if began.coming else "unchanged", serving.version, "", seen)

    def _packages(self) -> dict[str, Package]:
        return {package.arn: package for package in self._registry.packages()}

    def _known(self, packages: dict[str, Package], arn: str) -> Package:
        if arn not in packages:
            raise NoSuchVersion(f"{self._endpoint.name} serves {arn or 'something'} that the registry does not know")
        return packages[arn]


def canary_figures(canary: Canary | None) -> dict[str, Any] | None:
    """Return a canary as plain data."""
    return None if canary is None else asdict(canary)
