"""HDF5 files read safely and fast: links, chunks, filters, and values as `.ptyd` files hold them."""
