"""DeepTune beside what people use today: `python -m benchmarks` prints ratios, measured in one run on this machine."""
