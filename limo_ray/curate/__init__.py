"""Curation: from a pool of problems to a published set of examples."""
