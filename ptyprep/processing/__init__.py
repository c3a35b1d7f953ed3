"""What is done with frames, masks and positions: arrays in, arrays out. No file and no rank is known here."""
