"""One file a widget, or a folder for those of one screen."""
