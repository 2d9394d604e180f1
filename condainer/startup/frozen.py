"""dataclasses for what every command imports: frozen ones, whose methods are not compiled for each.

The standard library's decorator writes the source of the methods of each class and compiles it,
which takes 0.6 ms a class; a hit imports fifteen. What is decorated here behaves the same, and is a
dataclass for the functions of `dataclasses`, too.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import MISSING, dataclass, field, fields, replace

    __all__ = ["MISSING", "dataclass", "field", "fields", "replace"]
else:

    class _Missing:
        """Stands for a default that there is not."""

    MISSING = _Missing()

    class _Field:
        """What is known of a field: its name, its type as it is written, its default."""

        def __init__(self, default, default_factory, metadata):
            self.name = self.type = ""
            self.default = default
            self.default_factory = default_factory
            self.metadata = metadata or {}

        @property
        def given(self):
            """What dataclasses.field() is to be called with."""
            values = {"default": self.default, "default_factory": self.default_factory}
            chosen = {name: value for name, value in values.items() if value is not MISSING}
            return {**chosen, "metadata": self.metadata}

    def field(*, default=MISSING, default_factory=MISSING, metadata=None):
        """Declare a field that has more than a type; see dataclasses.field()."""
        return _Field(default, default_factory, metadata)

    def fields(value):
        """Return the fields of a dataclass, or of an instance; see dataclasses.fields()."""
        return tuple(value.__condainer_fields__.values())

    def replace(value, /, **changes):
        """Return a copy that differs in some fields; see dataclasses.replace()."""
        kept = {item.name: value.__dict__[item.name] for item in fields(value)}
        return type(value)(**{**kept, **changes})

    def dataclass(*, frozen):
        """Return a decorator that makes a frozen dataclass; see dataclasses.dataclass()."""
        assert frozen
        return _decorated

    def _decorated(cls):
        # What dataclasses have besides is not needed, and must not be missed silently.
        assert not hasattr(cls, "__condainer_fields__"), "a dataclass cannot be inherited from"
        assert not hasattr(cls, "__post_init__"), "__post_init__ is not called"
        known = {}
        for name, kind in cls.__annotations__.items():
            default = cls.__dict__.get(name, MISSING)
            item = default if isinstance(default, _Field) else field(default=default)
            assert not isinstance(item.default, (list, dict, set)), "all would share this default"
            assert not str(kind).startswith(("ClassVar", "InitVar")), "every name is a field"
            defaults = [len(other.given) > 1 for other in (*known.values(), item)]
            assert defaults == sorted(defaults), "fields without a default come first"
            item.name, item.type = name, kind
            if item.default is not MISSING:
                setattr(cls, name, item.default)
            elif default is not MISSING:
                delattr(cls, name)
            known[name] = item
        cls.__condainer_fields__ = known
        cls.__match_args__ = tuple(known)
        for name, method in vars(_Methods).items():
            if name.startswith("__") and callable(method) and name not in cls.__dict__:
                setattr(cls, name, method)
        cls.__dataclass_fields__ = _Standard()
        return cls

    class _Methods:
        """What dataclasses have; they are copied into each class."""

        def __init__(self, *values, **named):
            # What is frozen is so for assignments.
            own, count = self.__dict__, len(values)
            for place, (name, item) in enumerate(self.__condainer_fields__.items()):
                if place < count:
                    own[name] = values[place]
                elif name in named:
                    own[name] = named.pop(name)
                elif item.default is not MISSING:
                    own[name] = item.default
                elif item.default_factory is not MISSING:
                    own[name] = item.default_factory()
                else:
                    raise TypeError(f"{type(self).__name__}() needs a value for {name!r}")
            if named or count > len(own):
                raise TypeError(f"{type(self).__name__}() has no place for {[*named] or values!r}")

        def __eq__(self, other):
            if other.__class__ is not self.__class__:
                return NotImplemented
            return _content(self) == _content(other)

        def __hash__(self):
            return hash(_content(self))

        def __repr__(self):
            shown = [f"{item.name}={self.__dict__[item.name]!r}" for item in fields(self)]
            return f"{type(self).__qualname__}({', '.join(shown)})"

        def __setattr__(self, name, value):
            from dataclasses import FrozenInstanceError

            raise FrozenInstanceError(f"cannot assign to field {name!r}")

        def __delattr__(self, name):
            from dataclasses import FrozenInstanceError

            raise FrozenInstanceError(f"cannot delete field {name!r}")

    def _content(value):
        return tuple([value.__dict__[name] for name in value.__condainer_fields__])

    class _Standard:
        """The fields as the functions of `dataclasses` want them, made when they are asked for."""

        def __get__(self, value, owner):
            import dataclasses

            kinds = owner.__annotations__
            made = {item.name: dataclasses.field(**item.given) for item in fields(owner)}
            twin = type(owner.__name__, (), {"__annotations__": kinds, "__doc__": "", **made})
            dataclasses.dataclass(frozen=True)(twin)
            owner.__dataclass_params__ = twin.__dataclass_params__
            owner.__dataclass_fields__ = twin.__dataclass_fields__
            return twin.__dataclass_fields__
