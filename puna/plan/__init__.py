"""What a run or a service needs before it begins, and the files that describe it."""
