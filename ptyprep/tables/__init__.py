"""Tables that other programs write: columns of text, SPEC files, MDA files."""
