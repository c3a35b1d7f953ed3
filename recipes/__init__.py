"""The recipes that come with ptyprep: one beamline or layout, one file; made to be copied."""
