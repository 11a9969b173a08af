"""What the CUDA engine is made of: the kernels, their compilation, and their launch."""
