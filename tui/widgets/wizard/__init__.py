"""Parts of the wizard."""
