"""What the file system says: the order of files, whether a raw file is still what it was, calls of the system."""
