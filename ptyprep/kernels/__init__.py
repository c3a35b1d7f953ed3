"""The loops over pixels: in C where a compiler was there, and in NumPy. Bytes and arrays in and out."""
