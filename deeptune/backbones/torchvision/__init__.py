"""torchvision's classification networks: `families/` has a file for each family, `backbone.py` builds them."""
