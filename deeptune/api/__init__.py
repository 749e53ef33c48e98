"""The front door for Python: what `import deeptune` offers. The command line is a thin face of it."""

import warnings

# Libraries import tqdm, which asks a notebook for ipywidgets. DeepTune draws its progress without them.
warnings.filterwarnings("ignore", message="IProgress not found")
