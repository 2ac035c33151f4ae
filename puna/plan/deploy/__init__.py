"""A service as the files of Docker, Kubernetes, systemd, Slurm and the clouds: text, never sent."""
