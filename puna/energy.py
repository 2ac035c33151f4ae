"""What a run took from the wall: joules counted by the processor, or an estimate that says so.

Intel's and AMD's processors count the energy of each package (RAPL, read through Linux powercap).
Where that is not readable, as on most virtual machines, the CPU time of this process and its
children is multiplied by an assumed power for each busy core. Either way `how` tells the reader.
"""

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from puna.errors import ConfigError

POWERCAP = Path("/sys/class/powercap")

# Grams for each kWh. Source: implied by the model card of Llama 3.1 (tons / (GPU hours x 0.7 kW)).
GRID_GRAMS_PER_KWH = 414.0

# An assumption, not a measurement: a server socket of 16 to 64 cores draws 4 to 8 W for each busy
# core, memory and its share of the rest included.
WATTS_PER_CORE = 7.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Energy and carbon of a piece of work, and how they are known."""

    kwh: float
    grams_co2: float
    how: str

    def table(self) -> dict[str, object]:
        """Return the values for JSON."""
        return asdict(self)


class EnergyMeter:
    """Counts from its construction on; `read` may be called any number of times.

    RAPL counts the whole machine, the estimate this process and its finished children. A counter
    that runs over is noticed as long as `read` is called at least once a round, about an hour.
    """

    def __init__(
        self,
        *,
        watts_per_core: float = WATTS_PER_CORE,
        grams_per_kwh: float = GRID_GRAMS_PER_KWH,
        powercap: Path = POWERCAP,
    ) -> None:
        if watts_per_core <= 0 or grams_per_kwh < 0:
            raise ConfigError(
                f"energy: watts_per_core={watts_per_core}, grams_per_kwh={grams_per_kwh}; the "
                "first must be above 0, the second 0 or more."
            )
        self._watts, self._grams = watts_per_core, grams_per_kwh
        self._packages = rapl_packages(powercap)
        self._last = {folder: _counter(folder) for folder in self._packages}
        self._joules = 0.0
        self._cpu_s = _cpu_seconds()
        self._began = time.monotonic()

    def read(self) -> Energy:
        """Return the energy since the meter was made."""
        if self._packages:
            for folder in self._packages:
                now = _counter(folder)
                passed = now - self._last[folder]
                if passed < 0:
                    passed += int((folder / "max_energy_range_uj").read_text())
                self._joules += passed / 1e6
                self._last[folder] = now
            joules = self._joules
            count = len(self._packages)
            how = f"measured by the processor (RAPL, {count} package{'s' * (count > 1)})"
        else:
            busy = _cpu_seconds() - self._cpu_s
            joules = busy * self._watts
            how = (
                f"estimated from CPU time at an assumed {self._watts:g} W for each busy core, "
                "because this machine does not show its energy counters"
            )
        kwh = joules / 3.6e6
        return Energy(
            kwh=kwh,
            grams_co2=kwh * self._grams,
            how=f"{how}; {self._grams:g} g CO2 for each kWh",
        )


def rapl_packages(powercap: Path = POWERCAP) -> list[Path]:
    """Return the energy counters of the processor packages that may be read, none twice."""
    folders = []
    for folder in sorted(powercap.glob("intel-rapl:*")):
        # "intel-rapl:0" is a package; "intel-rapl:0:1" is a part that the package counts already.
        # "psys" counts the packages again.
        if folder.name.count(":") != 1 or not os.access(folder / "energy_uj", os.R_OK):
            continue
        name = folder / "name"
        if name.is_file() and name.read_text().startswith("package"):
            folders.append(folder)
    return folders


def _counter(folder: Path) -> int:
    return int((folder / "energy_uj").read_text())


def _cpu_seconds() -> float:
    """Return user and system time of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
