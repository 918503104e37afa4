"""Every shipped machine is sound; what is unknown or contradicts itself is found with its path."""

from __future__ import annotations

from pathlib import Path

import pytest

from qmkd.shell.machines import SHIPPED, load, read
from qvm.blocks import Inventory
from qvm.machine import Hardware, failed, working
from syscalls.fault import Fault, FaultKind

TWO = '[[module]]\nname = "a"\nqubits = 100\n[[module]]\nname = "b"\nqubits = 50\n'
NAME = 'name = "t"\n'
FAULT = '[[fault]]\nkind = "module"\n'
LINK = '[[link]]\nbetween = ["a", "b"]\ncycles = 3\nfidelity = 0.9\n'


def found(tmp_path: Path, text: str) -> Hardware | list[str]:
    path = tmp_path / "machine.toml"
    path.write_text(text)
    return read(path)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_machine_is_sound_and_has_room(name: str) -> None:
    hardware = load(name)
    assert isinstance(hardware, Hardware), hardware
    assert hardware.name == name
    assert hardware.about
    assert Inventory(hardware).total == sum(hardware.spare) < hardware.qubits
    assert hardware.t_rate


def test_shipped_machines_reach_from_two_thousand_qubits_to_a_million() -> None:
    sizes = []
    for name in SHIPPED:
        hardware = load(name)
        assert isinstance(hardware, Hardware)
        sizes.append(hardware.qubits)
    assert (min(sizes), max(sizes)) == (2_000, 1_000_000)
    assert len(sizes) >= 4


def test_a_description_is_read_as_it_is_written(tmp_path: Path) -> None:
    text = NAME + TWO + LINK + '[[factory]]\nmodule = "b"\nqubits = 10\ncycles = 4\nnumber = 2\n'
    hardware = found(tmp_path, text)
    assert isinstance(hardware, Hardware)
    assert hardware.qubits == 150
    assert hardware.spare == (100, 30)
    assert hardware.t_rate == 500_000
    assert hardware.neighbours == (frozenset({1}), frozenset({0}))
    assert hardware.cycle_ns == 1000


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (NAME, "$"),
        (NAME + TWO + "colour = 1", "$.module[1]"),
        ("colour = 1\n" + NAME + TWO, "$"),
        (NAME + "cycle_ns = 0\n" + TWO, "$.cycle_ns"),
        (NAME + TWO + '[[module]]\nname = "a"\nqubits = 1', "$.module[2].name"),
        (NAME + TWO.replace("50", "0"), "$.module[1].qubits"),
        (NAME + TWO + LINK.replace("0.9", "1.1"), "$.link[0].fidelity"),
        (NAME + TWO + LINK.replace('"b"', '"c"'), "$.link[0].between[1]"),
        (NAME + TWO + LINK.replace('"b"', '"a"'), "$.link[0].between"),
        (NAME + TWO + LINK + LINK.replace('"a", "b"', '"b", "a"'), "$.link[1].between"),
        (NAME + TWO + '[[factory]]\nmodule = "c"\nqubits = 1\ncycles = 1', "$.factory[0].module"),
        (NAME + TWO + '[[factory]]\nmodule = "a"\nqubits = 1\ncycles = 0', "$.factory[0].cycles"),
        (NAME + TWO + '[[factory]]\nmodule = "b"\nqubits = 50\ncycles = 1', "$.module[1].qubits"),
        (NAME + TWO + FAULT + 'what = ["c"]', "$.fault[0].what"),
        (NAME + TWO + FAULT + 'what = ["a", "b"]', "$.fault[0].what"),
        (NAME + TWO + FAULT + 'what = ["a"]\nstrength = 2', "$.fault[0].strength"),
        (NAME + TWO + FAULT + 'what = ["a"]\nfrom_cycle = 5\nto_cycle = 5', "$.fault[0].to_cycle"),
        (NAME + TWO + FAULT + 'what = ["a"]\nseverity = 2', "$.fault[0]"),
        (NAME + TWO + '[[fault]]\nkind = "fire"', "$.fault[0].kind"),
        (NAME + TWO + '[[fault]]\nkind = "link"\nwhat = ["a", "b"]', "$.fault[0].what"),
        (NAME + TWO + '[[fault]]\nkind = "factory"\nwhat = ["a"]', "$.fault[0].what"),
        (NAME + TWO + '[[fault]]\nkind = "decoder"\nstrength = 2', "$.fault[0].kind"),
        (NAME + TWO + '[[fault]]\nkind = "calibration"', "$.fault[0].strength"),
        (NAME + TWO + '[[fault]]\nkind = "calibration"\nstrength = 0.5', "$.fault[0].strength"),
    ],
)
def test_what_does_not_hold_is_found_with_its_path(tmp_path: Path, text: str, place: str) -> None:
    findings = found(tmp_path, text)
    assert isinstance(findings, list)
    (finding,) = findings
    assert f": {place}: " in finding


@pytest.mark.parametrize("value", ["[" * 3000 + "]" * 3000, "9" * 5000])
def test_what_the_reader_of_toml_chokes_on_is_a_finding(tmp_path: Path, value: str) -> None:
    assert isinstance(found(tmp_path, f"{NAME}about = {value}\n"), list)


def test_faults_are_read_as_they_are_written(tmp_path: Path) -> None:
    late = 'kind = "decoder"\nstrength = 2.5\nfrom_cycle = 7\nto_cycle = 9\n'
    text = f"{NAME}decoder_blocks = 9\n{TWO}{LINK}{FAULT}what = ['b']\n[[fault]]\n{late}"
    hardware = found(tmp_path, text)
    assert isinstance(hardware, Hardware)
    lost = Fault(kind=FaultKind.MODULE, what=["b"])
    slow = Fault(kind=FaultKind.DECODER, strength=2.5, from_cycle=7, to_cycle=9)
    assert hardware.fault == (lost, slow)
    assert failed(hardware, hardware.fault) == {1}
    left = working(hardware, hardware.fault)
    assert (left.decoder_blocks, left.module, left.link) == (3, hardware.module, hardware.link)


def test_of_faults_of_one_part_the_strongest_counts(tmp_path: Path) -> None:
    factory = '[[factory]]\nmodule = "b"\nqubits = 10\ncycles = 4\nnumber = 2\n'
    hardware = found(tmp_path, NAME + TWO + LINK + factory)
    assert isinstance(hardware, Hardware)
    twice, thrice, gone = (
        Fault(kind=FaultKind.LINK, what=["b", "a"], strength=each) for each in (2.0, 3.0, None)
    )
    assert [each.cycles for each in working(hardware, (twice, thrice)).link] == [9.0]
    assert not working(hardware, (twice, gone)).link
    slow, dead = (Fault(kind=FaultKind.FACTORY, what=["b"], strength=each) for each in (2.0, None))
    assert working(hardware, (slow,)).t_rate == 250_000
    assert working(hardware, (slow, dead)).t_rate == 0
    assert working(hardware, (Fault(kind=FaultKind.MODULE, what=["b"]),)).t_rate == 0
    assert working(hardware, (dead,)).spare == hardware.spare, "a lost factory is still there"
    assert working(hardware, ()) == hardware


def test_a_machine_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    unknown = load("nowhere")
    assert isinstance(unknown, list)
    assert "there are early, ions, lab, million, modular" in unknown[0]
    missing = load(str(tmp_path / "none.toml"))
    assert isinstance(missing, list)
    assert "No such file" in missing[0]
    broken = found(tmp_path, "[[module")
    assert isinstance(broken, list)
    assert "machine.toml" in broken[0]


def test_a_link_keeps_pairs_for_as_long_as_it_says_or_for_ever(tmp_path: Path) -> None:
    for text, lifetime in ((LINK, None), (LINK + "lifetime = 5000\n", 5000.0)):
        hardware = found(tmp_path, NAME + TWO + text)
        assert isinstance(hardware, Hardware)
        link = hardware.links[1, 0]
        assert link is hardware.links[0, 1]
        assert (link.lifetime, link.rate) == (lifetime, 333_333)
    refused = found(tmp_path, NAME + TWO + LINK + "lifetime = 0\n")
    assert isinstance(refused, list)
    assert ": $.link[0].lifetime: " in refused[0]
