"""The plan of the data: labels, groups, duplicates, and which rows train, choose and test."""
