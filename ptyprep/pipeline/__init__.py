"""The way of a scan: what there is, which rows a rank makes, and what is kept of the run."""
