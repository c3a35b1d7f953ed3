"""What users read: advice as the user writes it, and text of unknown origin on a terminal."""
