"""What programs need of the system: files, locks, signals, the command line, progress bars."""
