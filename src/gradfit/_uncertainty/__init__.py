"""Where the uncertainty of a fit comes from, and other ways to say how large it is."""
