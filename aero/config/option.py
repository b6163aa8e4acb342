"""What an option is, and how a class of options becomes a configuration. Which options there are: aero.config.table.

An option is a class attribute that `option`, `flag`, `secret`, `repeated` or `argument` makes. To a type checker it
is a value of the type that its parser returns; at run time the class collects the declarations and leaves the
defaults in their place. This module must not know where values come from (aero.config.sources), nor open sockets,
nor log. It is imported by every start, `--help` included: nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable, ClassVar, NamedTuple, TypeVar, Union, cast

from aero.config import filed
from aero.errors import ConfigError

T = TypeVar("T")
D = TypeVar("D")
V = TypeVar("V")
C = TypeVar("C", bound="Config")
#: A value as its source has it; the items of a list are texts, or tables of a file (aero.config.targets).
Raw = Union[str, bool, list[Any], None]

#: Where the help's second column begins, and the last column that it may use.
_COLUMN, _WIDTH = 21, 79


class Option(NamedTuple):
    """One option: everything that any part of the program knows about it.

    ``name`` is ``log-size``: ``--log-size`` on the command line, ``AERO_LOG_SIZE`` in the environment, ``log-size`` in
    a file; ``field`` is the attribute that holds its value. ``metavar`` is "" for a flag, LIST where commas separate,
    [FILE] where the option may also stand alone. ``default_text`` is what the help shows as the default, "" where
    there is none to show. ``computed`` finds the default where only the host knows it. ``repeats``: it may be given
    several times. ``live``: a reload can change it. ``secret``: a code, never shown. ``part``: the option that
    switches off what this one is for ("mux"). ``positional``: a word of the command line, without dashes.
    """

    name: str
    metavar: str
    parse: Callable[[Any], Any]
    default: Any
    help: str
    default_text: str = ""
    computed: Callable[[], Any] | None = None
    repeats: bool = False
    live: bool = False
    secret: bool = False
    part: str = ""
    positional: bool = False
    field: str = ""

    @property
    def optional(self) -> bool:
        """Whether the option may stand alone. Its value is then ""; False where a source switches it off."""
        return self.metavar.startswith("[")

    def help_lines(self) -> str:
        """The option as ``--help`` shows it, and as docopt reads it."""
        short = "-h, " if self.name == "help" else ""
        text = f"{self.help} [default: {self.default_text}]" if self.default_text else self.help
        return entry(f"{short}--{self.name} {self.metavar}".rstrip(), text)


def entry(word: str, text: str) -> str:
    """The lines of a help page for one word: the word, and what it means in a column of its own."""
    left = f"  {word}"
    lines = [left.ljust(_COLUMN)] if len(left) <= _COLUMN - 2 else [left, " " * _COLUMN]
    for each in _words(text):
        if len(lines[-1].rstrip()) > _COLUMN and len(lines[-1]) + len(each) > _WIDTH:
            lines.append(" " * _COLUMN)
        lines[-1] += each + " "
    return "".join(line.rstrip() + "\n" for line in lines)


def _words(text: str) -> list[str]:
    """The words of a help line; a default in brackets is one, as docopt reads it line by line."""
    words, bracket, default = text.partition("[default: ")
    return words.split() + [bracket + default] * bool(bracket)


def option(
    name: str,
    metavar: str,
    parse: Callable[[str], T],
    default: D,
    help: str,
    *,
    show: Callable[[D], str] = str,
    computed: Callable[[], T] | None = None,
    live: bool = False,
    part: str = "",
) -> T | D:
    """Declares an option with a value. ``show`` writes the default as ``parse`` would read it.

    A default that is computed, None, "" or an empty list is not shown: ``help`` says what it means.
    """
    text = "" if computed is not None or default in (None, "", ()) else show(default)
    return cast(
        "T", Option(name, metavar, parse, default, help, text, computed=computed, live=live, part=part)
    )


def flag(name: str, help: str, *, live: bool = False, part: str = "") -> bool:
    """Declares an option without a value, off by default."""
    return cast("bool", Option(name, "", bool, False, help, live=live, part=part))


def repeated(
    name: str, metavar: str, parse: Callable[[list[Any]], T], default: T, help: str, *, live: bool = False
) -> T:
    """Declares an option that may be given several times; ``parse`` gets all its values, none too."""
    return cast("T", Option(name, metavar, parse, default, help, repeats=True, live=live))


def secret(name: str, help: str, *, live: bool = False, part: str = "") -> str:
    """Declares a code: text, or @FILE to read it from a file; "" where none is given."""
    return cast(
        "str", Option(name, "CODE", filed.auth_code, filed.Code(), help, live=live, secret=True, part=part)
    )


def hidden(
    name: str,
    metavar: str,
    parse: Callable[[str], tuple[T, tuple[str, ...], tuple[str, ...]]],
    help: str,
    *,
    live: bool = False,
) -> T | str:
    """Declares an option with a code in its value, as `secret`; "" where it is not given."""
    default = filed.Code()
    return cast("T | str", Option(name, metavar, parse, default, help, live=live, secret=True))


def argument(name: str, parse: Callable[[str], T], default: T) -> T:
    """Declares a word that the command takes besides its options."""
    return cast("T", Option(name, name.upper(), parse, default, "", positional=True))


#: Every command has these two; they never reach a configuration.
ALWAYS = (
    Option("help", "", bool, False, "Show this text"),
    Option("version", "", bool, False, "Show the version"),
)


class Options:
    """Raw option values by name (``log-size``), and how messages call each (``--log-size``)."""

    def __init__(self, given: Mapping[str, Raw], places: Mapping[str, str] | None = None) -> None:
        """``places``: for each option how messages call it, where that is not its name on the command line."""
        self._given = given
        self._places = places or {}
        #: Lines for the log: files with a code that others can read, what else is to be looked at, and what is not.
        self.exposed: list[str] = []
        self.warnings: list[str] = []
        self.notes: list[str] = []
        self.gather: Callable[[], Options] | None = None

    def raw(self) -> dict[str, tuple[Raw, str]]:
        """Every option that some source gives, with its raw value and how messages call it."""
        return {name: (self._given.get(name), place) for name, place in self._places.items()}

    def again(self) -> Options:
        """The same options, gathered anew from where they came from. Raises ConfigError."""
        if self.gather is None:
            raise ConfigError("these options have no source to be read from again")
        return self.gather()

    def take(self, option: Option) -> Any:
        """The checked value of an option, or its default where it is not given. Raises ConfigError."""
        value = self._given.get(option.name)
        if not option.metavar:
            return bool(value)
        if option.repeats:
            several = [value] if isinstance(value, str) else value if isinstance(value, list) else []
            return self._placed(option, option.parse, several)
        if isinstance(value, str):
            return self._placed(option, option.parse, value)
        return option.default if option.computed is None else option.computed()

    def has(self, option: Option) -> bool:
        """Whether some source gives the option."""
        return self.gives(option.name)

    def gives(self, name: str) -> bool:
        """Whether some source gives the option of this name."""
        return isinstance(self._given.get(name), (str, list))

    def idle(self, option: Option) -> bool:
        """Whether an option is given while what it is for is switched off by ``--part off``."""
        return self._given.get(option.part) == "off" and bool(self._given.get(option.name))

    def place(self, name: str) -> str:
        """How messages call an option."""
        return self._places.get(name, "--" + name)

    def _placed(self, option: Option, parse: Callable[[V], T], value: V) -> T:
        try:
            return parse(value)
        except ConfigError as error:
            raise type(error)(f"{self.place(option.name)}: {error}") from None


class Config:
    """Checked values of a command's options, frozen. Compare, `replace`, and look; a secret never shows."""

    #: The options of this class: its own, then those of the classes that it extends, as the help lists them.
    OPTIONS: ClassVar[tuple[Option, ...]] = ()
    #: What an option was called, and what to write now.
    MOVED: ClassVar[dict[str, str]] = {}
    #: Words of help texts that differ by command.
    WORDS: ClassVar[dict[str, str]] = {}

    #: Lines for the log: to be looked at, and for whoever looks for a fault.
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    #: Fields that nobody gave and the host knew; another user of the host may find others. Not compared.
    computed: frozenset[str] = frozenset()

    def __init_subclass__(cls) -> None:
        own = [value._replace(field=field) for field, value in vars(cls).items() if isinstance(value, Option)]
        for each in own:
            setattr(cls, each.field, "" if each.secret else each.default)
        known: dict[str, Option] = {each.name: each for each in own}
        for base in cls.__bases__:
            for each in getattr(base, "OPTIONS", ()):
                known.setdefault(each.name, each)
        cls.OPTIONS = tuple(known.values())

    def __init__(self, **values: Any) -> None:
        """Takes fields by name; what is left out has its default."""
        unknown = values.keys() - {each.field for each in self.OPTIONS} - {"warnings", "notes"}
        if unknown:
            raise TypeError(f"{type(self).__name__} has no {', '.join(sorted(unknown))}")
        self.__dict__.update(values)

    @classmethod
    def known(cls) -> dict[str, Option]:
        """What may stand on the command's line behind dashes, by name."""
        return {each.name: each for each in (*cls.OPTIONS, *ALWAYS) if not each.positional}

    @classmethod
    def argument(cls) -> str:
        """The name of the word that the command takes, "" where it takes none."""
        return next((each.name for each in cls.OPTIONS if each.positional), "")

    @classmethod
    def help_lines(cls) -> str:
        """All options as ``--help`` shows them."""
        return "".join(each.help_lines() for each in cls.known().values()).format(**cls.WORDS)

    @classmethod
    def parse(cls: type[C], given: Options) -> C:
        """Checks everything that was asked for. Raises ConfigError."""
        fields = {}
        for each in cls.OPTIONS:
            fields[each.field] = given.take(each)
            if each.secret:
                fields[each.field], warnings, notes = fields[each.field]
                given.exposed += warnings
                given.notes += notes
        if fields.get("strict") and given.exposed:
            raise ConfigError(given.exposed[0])
        idle = [
            f"{given.place(each.name)} does nothing while {given.place(each.part)} is off"
            for each in cls.OPTIONS
            if each.part and given.idle(each)
        ]
        config = cls(**fields, warnings=(*given.exposed, *given.warnings, *idle), notes=tuple(given.notes))
        config.__dict__["computed"] = frozenset(
            each.field for each in cls.OPTIONS if each.computed is not None and not given.has(each)
        )
        return config

    def replace(self: C, **changes: Any) -> C:
        """The same with other values in some fields."""
        other = type(self)(**{**self.fields(), **changes})
        other.__dict__["computed"] = self.computed - changes.keys()
        return other

    def fields(self) -> dict[str, Any]:
        """Every field and its value."""
        return {
            **{each.field: getattr(self, each.field) for each in self.OPTIONS},
            "warnings": self.warnings,
            "notes": self.notes,
        }

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen, use replace({name}=...)")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.fields() == other.fields()

    __hash__ = None  # type: ignore[assignment]  # equal by value; nobody keys a table with it

    def __repr__(self) -> str:
        secrets = {each.field for each in self.OPTIONS if each.secret}
        shown = {
            field: "***" if value and field in secrets else value for field, value in self.fields().items()
        }
        return f"{type(self).__name__}({', '.join(f'{field}={value!r}' for field, value in shown.items())})"
