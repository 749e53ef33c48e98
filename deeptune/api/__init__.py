"""The front door for Python: what `import deeptune` offers. The command line is a thin face of it."""
