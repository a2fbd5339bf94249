"""Operating system services: files, locks, devices, optional packages, processes, progress."""
