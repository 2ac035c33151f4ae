"""Energy: counted where the processor shows it, estimated and said so where it does not."""

import time
from pathlib import Path

import pytest

from puna.energy import EnergyMeter, rapl_packages
from puna.errors import ConfigError


def package(folder: Path, name: str, label: str, microjoules: int) -> Path:
    path = folder / name
    path.mkdir(parents=True)
    (path / "name").write_text(label + "\n")
    (path / "energy_uj").write_text(f"{microjoules}\n")
    (path / "max_energy_range_uj").write_text("1000000000\n")
    return path


def test_packages_are_counted_once(tmp_path: Path) -> None:
    """3.6 MJ are one kWh: 3.6 J on one package and 7.2 J on the other are 3e-6 kWh."""
    one = package(tmp_path, "intel-rapl:0", "package-0", 500)
    two = package(tmp_path, "intel-rapl:1", "package-1", 0)
    package(tmp_path, "intel-rapl:0:0", "core", 0)
    package(tmp_path, "intel-rapl:2", "psys", 0)
    assert rapl_packages(tmp_path) == [one, two]
    meter = EnergyMeter(powercap=tmp_path, grams_per_kwh=100.0)
    (one / "energy_uj").write_text("3600500\n")
    (two / "energy_uj").write_text("7200000\n")
    energy = meter.read()
    assert energy.kwh == pytest.approx(3e-6)
    assert energy.grams_co2 == pytest.approx(3e-4)
    assert energy.how.startswith("measured")


def test_a_counter_that_runs_over_goes_on(tmp_path: Path) -> None:
    """From 999 J to 1 J with a range of 1000 J: 2 J passed."""
    folder = package(tmp_path, "intel-rapl:0", "package-0", 999_000_000)
    meter = EnergyMeter(powercap=tmp_path)
    (folder / "energy_uj").write_text("1000000\n")
    assert meter.read().kwh == pytest.approx(2 / 3.6e6)
    assert meter.read().kwh == pytest.approx(2 / 3.6e6)


def test_without_counters_the_estimate_says_its_assumption(tmp_path: Path) -> None:
    meter = EnergyMeter(powercap=tmp_path, watts_per_core=5.0)
    end = time.process_time() + 0.1  # the system counts CPU time in steps of 0.01 s
    while time.process_time() < end:
        pass
    energy = meter.read()
    assert 0.07 * 5 / 3.6e6 < energy.kwh < 5 * 5 / 3.6e6
    assert energy.grams_co2 == pytest.approx(energy.kwh * 414)
    assert "estimated" in energy.how
    assert "5 W" in energy.how


def test_a_power_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="watts_per_core"):
        EnergyMeter(watts_per_core=0)
