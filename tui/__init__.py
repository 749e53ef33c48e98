"""The terminal interface: a wizard for run specs and a monitor of runs. It reads run directories and never trains."""
