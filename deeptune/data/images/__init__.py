"""Image values of a column, decoded, brought to 8 bits and to the size that a backbone takes."""
