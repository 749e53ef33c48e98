"""One file a screen; each has its styles beside it."""
