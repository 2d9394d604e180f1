"""Our frozen dataclasses behave as those of the standard library."""

import copy
import dataclasses
import pickle
from dataclasses import FrozenInstanceError
from typing import Any, ClassVar

import pytest

from condainer.startup import frozen


def classes() -> list[Any]:
    """Return one class, decorated by the standard library and by us."""
    made = []
    for module in (dataclasses, frozen):

        @module.dataclass(frozen=True)
        class Point:
            """A point with a name."""

            x: int
            y: int = 2
            names: list[str] = module.field(default_factory=list)
            note: str = module.field(default="", metadata={"doc": "a note"})

            @property
            def whole(self) -> int:
                return self.x + self.y

        Point.__qualname__ = "Point"
        made.append(Point)
    return made


STANDARD: Any
OURS: Any
STANDARD, OURS = classes()


@frozen.dataclass(frozen=True)
class Plain:
    """One that can be hashed, and pickled."""

    x: int
    y: tuple[int, ...] = ()


@pytest.mark.parametrize("cls", [STANDARD, OURS])
def test_values_can_be_made_compared_and_shown(cls: Any) -> None:
    assert vars(cls(1)) == {"x": 1, "y": 2, "names": [], "note": ""}
    assert list(vars(cls(note="n", x=1))) == ["x", "y", "names", "note"]
    assert cls(1) == cls(x=1, y=2) != cls(2)
    assert cls(1) != (1, 2, [], "")
    assert repr(cls(1, 3, ["a"])) == "Point(x=1, y=3, names=['a'], note='')"
    assert cls(1).names is not cls(1).names
    assert cls(3).whole == 5
    assert cls.y == 2
    assert not hasattr(cls, "x")
    assert cls.__match_args__ == ("x", "y", "names", "note")


@pytest.mark.parametrize("cls", [STANDARD, OURS])
@pytest.mark.parametrize(
    ("given", "named"), [((), {}), ((1, 2, [], "", 5), {}), ((1,), {"x": 2}), ((1,), {"z": 2})]
)
def test_wrong_arguments_are_refused(cls: Any, given: Any, named: Any) -> None:
    with pytest.raises(TypeError):
        cls(*given, **named)


@pytest.mark.parametrize("cls", [STANDARD, OURS])
def test_values_cannot_be_changed(cls: Any) -> None:
    value = cls(1)
    with pytest.raises(FrozenInstanceError):
        value.x = 2
    with pytest.raises(FrozenInstanceError):
        del value.x
    with pytest.raises(FrozenInstanceError):
        value.other = 2
    assert value == cls(1)


@pytest.mark.parametrize("cls", [STANDARD, OURS])
def test_the_functions_of_dataclasses_take_them(cls: Any) -> None:
    assert dataclasses.asdict(cls(1)) == {"x": 1, "y": 2, "names": [], "note": ""}
    assert dataclasses.replace(cls(1), y=5) == cls(1, 5)
    found = dataclasses.fields(cls)
    assert [item.name for item in found] == ["x", "y", "names", "note"]
    assert found[3].metadata["doc"] == "a note"
    assert found[1].default == 2
    assert found[0].default is dataclasses.MISSING
    assert found[2].default_factory is list
    assert dataclasses.is_dataclass(cls)


def test_so_do_ours() -> None:
    assert frozen.replace(OURS(1), y=5) == OURS(1, 5)
    with pytest.raises(TypeError):
        frozen.replace(OURS(1), z=5)
    found = frozen.fields(OURS)
    assert [item.name for item in found] == ["x", "y", "names", "note"]
    assert found[0].default is frozen.MISSING
    assert found[3].metadata["doc"] == "a note"


def test_hashes_and_copies() -> None:
    assert {Plain(1): "a"}[Plain(1)] == "a"
    assert len({Plain(1), Plain(1), Plain(1, (2,))}) == 2
    with pytest.raises(TypeError):
        hash(OURS(1))
    assert copy.deepcopy(Plain(1, (3,))) == Plain(1, (3,))
    assert pickle.loads(pickle.dumps(Plain(1, (3,)))) == Plain(1, (3,))
    match Plain(1, (3,)):
        case Plain(1, other):
            assert other == (3,)
        case _:
            pytest.fail("it does not match")


def test_what_they_do_not_do_is_refused() -> None:
    class After:
        """It has a __post_init__."""

        x: int

        def __post_init__(self) -> None: ...

    class Shared:
        """It has a default that all share."""

        x: list[int] = []  # noqa: RUF012

    class Constant:
        """It has a class variable."""

        x: "ClassVar[int]" = 1

    class Late:
        """It has a field without a default too late."""

        x: int = 1
        y: int

    class Child(Plain):
        """It is inherited."""

        z: int

    for cls in (After, Shared, Constant, Late, Child):
        with pytest.raises(AssertionError):
            frozen.dataclass(frozen=True)(cls)
