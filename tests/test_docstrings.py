"""Everything public is documented, in numpydoc's form."""

from __future__ import annotations

import ast
import dataclasses
import enum
import functools
import importlib
import inspect
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from numpydoc.validate import validate

import chunk_memo

HOME = Path(chunk_memo.__file__).parent

# Every check of numpydoc is on but these.
EXEMPT = {
    "ES01",  # a summary may be all there is to say
    "EX01",  # examples stand where they help; those that stand are run as doctests
    "GL01",  # the summary begins on the line of the opening quotes
    "SA01",  # a "See Also" section is for the names that one would not find otherwise
}


def module_names() -> list[str]:
    """Return the dotted name of each module of the package."""
    relative = [path.relative_to(HOME.parent) for path in sorted(HOME.rglob("*.py"))]
    return [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in relative]


def public_objects(module: types.ModuleType) -> Iterator[tuple[str, object]]:
    """Yield (dotted name, object) for each public function and class, and each public method."""
    for name in getattr(module, "__all__", []):
        thing = getattr(module, name)
        if inspect.isclass(thing):
            yield f"{module.__name__}.{name}", thing
            yield from public_members(f"{module.__name__}.{name}", thing)
        elif inspect.isfunction(thing):
            yield f"{module.__name__}.{name}", thing


def public_members(prefix: str, owner: type) -> Iterator[tuple[str, object]]:
    """Yield (dotted name, object) for the public methods and properties that a class defines."""
    callables = (types.FunctionType, classmethod, staticmethod, property, functools.cached_property)
    for name, member in vars(owner).items():
        if not name.startswith("_") and isinstance(member, callables):
            yield f"{prefix}.{name}", member


def field_names(owner: type) -> list[str]:
    """Return the fields that a dataclass, a named tuple or a model of a table defines itself."""
    if issubclass(owner, tuple):
        return list(getattr(owner, "_fields", ()))
    own = inspect.get_annotations(owner)
    if hasattr(owner, "__tablename__"):
        return [*own]
    if not dataclasses.is_dataclass(owner):
        return []
    return [field.name for field in dataclasses.fields(owner) if field.name in own]


def undocumented_fields(owner: type) -> list[str]:
    """Return the public fields with neither a string below nor a line in the docstring.

    A string under each field stands where the field is read; numpydoc knows only sections.
    """
    body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
    assert isinstance(body, ast.ClassDef)
    described = {
        ast.unparse(field.target)
        for field, below in zip(body.body, body.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
    }
    doc = inspect.getdoc(owner) or ""
    return [
        name
        for name in field_names(owner)
        if not name.startswith("_") and name not in described and f"\n{name} : " not in doc
    ]


def problems(name: str, thing: object) -> list[str]:
    """Return what numpydoc finds wrong with one docstring, exemptions aside."""
    exempt = set(EXEMPT)
    found = []
    if inspect.isclass(thing):
        if field_names(thing):
            exempt |= {"PR01", "PR02"}
            found = [f"{name}: no string below {field}" for field in undocumented_fields(thing)]
        elif issubclass(thing, BaseException | enum.Enum) or getattr(thing, "_is_protocol", False):
            exempt |= {"PR01", "PR02"}  # the signature is Python's own and says nothing
    report = validate(name)
    found += [f"{name}: {code} {text}" for code, text in report["errors"] if code not in exempt]
    return found


@pytest.mark.parametrize("name", module_names())
def test_a_module_says_what_it_owns(name: str) -> None:
    """Each module has a docstring whose first line is one sentence."""
    doc = importlib.import_module(name).__doc__
    assert doc is not None
    assert doc.split("\n")[0].endswith((".", "?", ";", ":"))


@pytest.mark.parametrize("name", module_names())
def test_public_names_are_documented(name: str) -> None:
    """The docstring of each public name of a module passes numpydoc's validation."""
    module = importlib.import_module(name)
    found = [line for each in public_objects(module) for line in problems(*each)]
    assert [] == found


@pytest.mark.parametrize("name", module_names())
def test_public_names_are_there(name: str) -> None:
    """``__all__`` names nothing twice and nothing that is missing."""
    module = importlib.import_module(name)
    listed = list(getattr(module, "__all__", []))
    assert len(set(listed)) == len(listed)
    assert [] == [each for each in listed if not hasattr(module, each)]


def test_an_undocumented_field_would_be_seen() -> None:
    """A field is documented by a string below it or by a section; others are found."""
    assert ["bare"] == undocumented_fields(Planted)


@dataclasses.dataclass
class Planted:
    """A value with three fields.

    Parameters
    ----------
    listed : int
        A field with a line in a section.
    """

    below: int
    """A field with a string below it."""
    listed: int
    bare: int


def test_a_bad_docstring_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The validation is on: a function with an undocumented parameter is reported."""

    def rebin(width: int) -> int:
        """Cut an axis anew."""
        return width

    monkeypatch.setattr(chunk_memo, "rebin", rebin, raising=False)
    codes = {line.split()[1] for line in problems("chunk_memo.rebin", rebin)}
    assert {"PR01", "RT01"} <= codes
