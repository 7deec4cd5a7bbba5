"""What can be wrong between a repository and an account."""

from fraud.errors import TollgateError


class InvalidEnvironment(TollgateError):
    """An environment's settings file misses a key, holds an unknown one, or a value out of range."""

    code = "invalid_environment"


class WrongAccount(TollgateError):
    """The credentials in use belong to another account than the environment names."""

    code = "wrong_account"


class StackStuck(TollgateError):
    """A stack is in a state in which AWS refuses changes; the message says what gets it out."""

    code = "stack_stuck"


class StackRefused(TollgateError):
    """AWS refused a change set or its execution; the message carries AWS's own reasons."""

    code = "stack_refused"


class ProtectedStack(TollgateError):
    """The stack holds data or keys; no command of ours deletes it."""

    code = "protected_stack"


class MissingPrerequisite(TollgateError):
    """A role, alarm, parameter, package or quota that a rollout needs is not there."""

    code = "missing_prerequisite"


class AlarmRaised(TollgateError):
    """An alarm that guards rollouts is raised already; a rollout would come back at once."""

    code = "alarm_raised"


class EndpointBusy(TollgateError):
    """The endpoint is being changed; the same command may succeed when that has ended."""

    code = "endpoint_busy"
    retryable = True


class EndpointStuck(TollgateError):
    """The endpoint is in a state that a person has to decide about; the message names the command."""

    code = "endpoint_stuck"


class RolledBack(TollgateError):
    """A rollout failed and the endpoint serves what it served before."""

    code = "rolled_back"


class StaleTemplates(TollgateError):
    """Templates in the repository are not what the code renders."""

    code = "stale_templates"
