"""One loop for every loss: state, optimizer, schedule, meter, checkpoints."""
