"""The computational graph of any torch function, opened up."""
