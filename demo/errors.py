"""Why the demo stopped: one sentence a person can act on."""

from fraud.errors import TollgateError


class DemoStopped(TollgateError):
    """The demo could not go on; everything it had started was stopped again."""

    code = "demo_stopped"
