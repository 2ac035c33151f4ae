"""Questions with one right answer, computed on this machine: algebra, numbers, units, dates."""
