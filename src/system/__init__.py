"""System services for programs: files, locks, signals, the command line, progress bars."""
