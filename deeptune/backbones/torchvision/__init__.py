"""torchvision's classification networks: `backbone.py` builds the networks of `deeptune.families`."""
