"""Registries: names, lines and origins, refusals, and that nothing is imported before it is used."""

import subprocess
import sys

import pytest

from cokv_bench import registries
from cokv_bench.catalogue import KINDS, REGISTRIES, catalogue, check, origins
from cokv_bench.errors import RequestError, unknown
from cokv_bench.registry import PACKAGE, Registry, adding


def made() -> Registry[object]:
    return Registry("fruit", {"pear": ("sweet", "json:loads"), "plum": ("blue", "json:dumps")})


def test_a_registry_is_read_like_a_dict_in_the_order_of_its_names() -> None:
    import json

    fruit = made()
    fruit.add("apple", "round", 3)
    assert list(fruit) == fruit.keys() == ["pear", "plum", "apple"]
    assert fruit.values() == [json.loads, json.dumps, 3]
    assert fruit.items() == [*zip(fruit, fruit.values(), strict=True)]
    assert dict(fruit) == dict(fruit.items())
    assert fruit["pear"] is fruit.get("pear") is json.loads
    assert "apple" in fruit
    assert "fig" not in fruit
    del fruit["apple"]
    assert len(fruit) == 2


def test_names_have_a_line_and_an_origin() -> None:
    fruit = made()
    with adding("a plug-in"):
        fruit.add("apple", "round", 3)
    fruit.add("fig", "soft", 4)
    assert [fruit.line(name) for name in fruit] == ["sweet", "blue", "round", "soft"]
    assert [fruit.origin(name) for name in fruit] == [PACKAGE, PACKAGE, "a plug-in", "this process"]


def test_refusals_name_what_is_there() -> None:
    fruit = made()
    for ask in (fruit.get, fruit.check, fruit.line, fruit.origin, fruit.__getitem__, fruit.__delitem__):
        with pytest.raises(RequestError, match="Unknown fruit 'paer'; did you mean pear"):
            ask("paer")
    with pytest.raises(RequestError, match="There is a fruit 'pear' already, from cokv-bench; choose another name"):
        fruit.add("pear", "again", 5)
    fruit.add("kiwi", "green", "no_such_module:thing")
    fruit.add("lime", "sour", "json:no_such_thing")
    assert list(fruit)[-2:] == ["kiwi", "lime"]
    for name in ("kiwi", "lime"):
        with pytest.raises(RequestError, match=f"The fruit '{name}' of this process cannot be imported: .*no_such"):
            fruit.get(name)


def test_every_name_of_the_package_is_there_once_and_can_be_imported() -> None:
    for kind, registry in REGISTRIES.items():
        assert set(origins(kind).values()) == {PACKAGE}
        assert catalogue(kind) == {name: registry.line(name) for name in registry}
        for name, thing in registry.items():
            # What an entry says of itself is what its registry lists.
            assert getattr(thing, "name", name) == name
            assert getattr(thing, "description", registry.line(name)) == registry.line(name)
            assert "\n" not in registry.line(name)
    for name, metric in registries.METRICS.items():
        assert metric.__name__ == name


def test_lists_and_checks_by_kind() -> None:
    assert set(KINDS) == {"tasks", "models", *REGISTRIES}
    check("metrics", ["qa_f1", "rouge"])
    with pytest.raises(RequestError, match="Unknown utility 'logilk'; did you mean loglik"):
        check("utilities", ["metric", "logilk"])
    with pytest.raises(RequestError, match="Unknown list 'method'"):
        catalogue("method")


def test_names_are_listed_and_checked_without_the_heavy_libraries() -> None:
    code = (
        "import sys\n"
        "from cokv_bench.catalogue import KINDS, REGISTRIES, catalogue, check\n"
        "[catalogue(kind) for kind in KINDS]\n"
        "[check(kind, REGISTRIES[kind]) for kind in REGISTRIES]\n"
        "print({'torch', 'transformers', 'scipy', 'sklearn'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"


def test_of_many_names_whole_ones_are_told_and_how_many_more_there_are() -> None:
    names = [f"option-{number:02}" for number in range(60)]
    said = str(unknown("option", "zzz", names))
    told = said.partition("known: ")[2].removesuffix(" more.").replace(" and ", ", ").split(", ")
    assert told[:-1] == names[: len(told) - 1]
    assert len(told) - 1 + int(told[-1]) == len(names)
    assert len(said) < 400


def test_what_failed_half_way_leaves_nothing_behind() -> None:
    fruit, nuts = made(), Registry[object]("nut")

    def fail() -> None:
        with adding("a plug-in"):
            fruit.add("apple", "round", 3)
            nuts.add("hazel", "brown", 1 / 0)

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(fruit) == ["pear", "plum"]
    with adding("a plug-in"):
        fruit.add("apple", "round", 3)
    assert fruit.origin("apple") == "a plug-in"
