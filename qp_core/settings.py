"""What can be set from outside, read from the environment when the first partitioner asks.

Files (`qp.toml`, `pyproject.toml`) and options per plugin are not read yet.
"""

import os
from collections.abc import Mapping

import attrs

from qp_core.errors import SettingsError
from qp_core.unit import checked_limit


@attrs.frozen(kw_only=True)
class Settings:
    """Settings of one process.

    Attributes:
        grace_s: Seconds that running units get after the first Ctrl-C (`QP_GRACE`).
        autoload: Whether plugins of other distributions are loaded (`QP_DISABLE_PLUGIN_AUTOLOAD=1` turns it off; the built-ins stay).
        blocked_plugins: Plugins that are not loaded, by entry-point name (`QP_BLOCK_PLUGINS=a,b`).
    """

    grace_s: float = 1.0
    autoload: bool = True
    blocked_plugins: tuple[str, ...] = ()

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
        return checked_limit(float(text), name) or 0.0
    except ValueError:
        raise SettingsError(name, text, "seconds above 0, such as 2.5") from None
