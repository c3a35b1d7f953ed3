"""Who does the work: ranks of MPI, threads of a rank, and the memory that they use again."""
