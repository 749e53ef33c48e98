"""Recipes compared by their scores: cells of data set, size, backbone, method, recipe and seed."""
