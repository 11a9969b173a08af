"""PyTorch: autograd to any order, torch.func, torch.compile, DTensor, process groups."""
