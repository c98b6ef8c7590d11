"""What can be set from outside, read from the environment when the first partitioner asks.

Files (`qp.toml`, `pyproject.toml`) and options per plugin are not read yet.
"""

import os
from collections.abc import Iterable, Mapping

import attrs

from qp_core.errors import SettingsError, shown

_SECONDS = "seconds above 0, such as 2.5"


def _names(names: Iterable[str]) -> tuple[str, ...]:
    if isinstance(names, str):  # its letters are meant by nobody
        raise SettingsError("blocked_plugins", names, f"a list of names, such as [{shown(names)}]")
    return tuple(names)


def _is_limit(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _check_grace(_: object, __: object, grace_s: object) -> None:
    if not _is_limit(grace_s):
        raise SettingsError("grace_s", grace_s, _SECONDS)


@attrs.frozen(kw_only=True)
class Settings:
    """Settings of one process.

    Attributes:
        grace_s: Seconds that running units get after the first Ctrl-C (`QP_GRACE`).
        autoload: Whether plugins of other distributions are loaded (`QP_DISABLE_PLUGIN_AUTOLOAD=1` turns it off; the built-ins stay).
        blocked_plugins: Plugins that are not loaded, by entry-point name (`QP_BLOCK_PLUGINS=a,b`).
    """

    grace_s: float = attrs.field(default=1.0, validator=_check_grace)
    autoload: bool = True
    blocked_plugins: tuple[str, ...] = attrs.field(default=(), converter=_names)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read the variables that begin with `QP_`.

        Args:
            environment: Where they stand.

        Returns:
            The settings; what is not set has its default.

        Raises:
            SettingsError: A value cannot be understood; the message names the variable.
        """
        grace = environment.get("QP_GRACE")
        disabled = environment.get("QP_DISABLE_PLUGIN_AUTOLOAD", "0").strip().lower()
        if disabled not in {"", "0", "1", "true", "false", "yes", "no"}:
            raise SettingsError("QP_DISABLE_PLUGIN_AUTOLOAD", disabled, "1 or 0")
        blocked = environment.get("QP_BLOCK_PLUGINS", "")
        return cls(
            grace_s=1.0 if grace is None else _seconds("QP_GRACE", grace),
            autoload=disabled in {"", "0", "false", "no"},
            blocked_plugins=tuple(name.strip() for name in blocked.split(",") if name.strip()),
        )


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not _is_limit(seconds):
        raise SettingsError(name, text, _SECONDS)
    return seconds
