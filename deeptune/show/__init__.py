"""Code that all viewers of a run share, in a terminal or elsewhere. No torch, numpy, Rich or Textual here."""
