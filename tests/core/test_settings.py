"""What can be set from outside."""

import math

import pytest

from qp_core.errors import SettingsError
from qp_core.partitioner import QuantumPartitioner
from qp_core.settings import Settings


def test_what_is_not_set_has_its_default():
    """An empty environment is as good as `Settings()`."""
    assert Settings.from_environment({}) == Settings() == Settings(grace_s=1.0, autoload=True, blocked_plugins=())


def test_the_environment_is_read_when_it_is_asked(monkeypatch):
    """Not when the module is imported."""
    monkeypatch.setenv("QP_GRACE", "2.5")
    assert Settings.from_environment().grace_s == 2.5
    assert QuantumPartitioner()._settings.grace_s == 2.5


def test_given_settings_count_more_than_the_environment(monkeypatch):
    """They are not read at all then."""
    monkeypatch.setenv("QP_GRACE", "nonsense")
    assert QuantumPartitioner(settings=Settings(grace_s=3))._settings.grace_s == 3


@pytest.mark.parametrize(("text", "seconds"), [("2.5", 2.5), (" 3 ", 3.0), ("1e-3", 0.001), ("inf", math.inf)])
def test_grace_is_a_number_of_seconds(text, seconds):
    """As Python reads numbers."""
    assert Settings.from_environment({"QP_GRACE": text}).grace_s == seconds


@pytest.mark.parametrize("text", ["", "soon", "0", "-1", "nan", "2,5"])
def test_a_wrong_grace_names_the_variable_and_the_value(text):
    """And says what would be right."""
    with pytest.raises(SettingsError) as raised:
        Settings.from_environment({"QP_GRACE": text})
    assert str(raised.value) == f"setting QP_GRACE is {text!r}; expected seconds above 0, such as 2.5"
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    ("text", "autoload"),
    [("", True), ("0", True), ("false", True), ("No", True), ("1", False), ("TRUE", False), (" yes ", False)],
    ids=["empty", "zero", "false", "no", "one", "true", "yes"],
)
def test_loading_of_plugins_is_turned_off_by_a_word(text, autoload):
    """Whatever its case."""
    assert Settings.from_environment({"QP_DISABLE_PLUGIN_AUTOLOAD": text}).autoload is autoload


def test_an_unclear_word_is_an_error():
    """Rather than a guess."""
    with pytest.raises(SettingsError, match="QP_DISABLE_PLUGIN_AUTOLOAD is 'perhaps'; expected 1 or 0"):
        Settings.from_environment({"QP_DISABLE_PLUGIN_AUTOLOAD": "perhaps"})


@pytest.mark.parametrize(
    ("text", "names"),
    [("", ()), ("a", ("a",)), (" a , b ,", ("a", "b")), (",,", ())],
    ids=["empty", "one", "two", "commas"],
)
def test_blocked_plugins_are_a_list_with_commas(text, names):
    """Spaces and empty places do not count."""
    assert Settings.from_environment({"QP_BLOCK_PLUGINS": text}).blocked_plugins == names


@pytest.mark.parametrize("grace", [0, -1, math.nan, None, "2", True], ids=repr)
def test_a_wrong_grace_given_in_python_is_the_same_error(grace):
    """It says what would be right."""
    with pytest.raises(SettingsError, match=r"setting grace_s is .*; expected seconds above 0"):
        Settings(grace_s=grace)


def test_blocked_plugins_given_in_python():
    """Any list; one string is surely a slip: every plugin whose name is part of it would be blocked."""
    assert Settings(blocked_plugins=["a", "b"]).blocked_plugins == ("a", "b")
    with pytest.raises(SettingsError, match=r"blocked_plugins is 'a,b'; expected a list of names, such as \['a,b'\]"):
        Settings(blocked_plugins="a,b")


def test_settings_do_not_change():
    """They are a value: equal, hashable, frozen."""
    assert hash(Settings(grace_s=2)) == hash(Settings(grace_s=2))
    with pytest.raises(AttributeError):
        Settings().grace_s = 2
