"""The operating system's side: files, locks, devices, optional packages, processes, progress."""
