"""Arrays of any library: the only room that imports array-api-compat.

inspect says what an array is; standard has the context of a call, with its operations by the array
standard, ops those of single libraries; context chooses between them. foreign says why an array is
not taken, host_data moves NumPy arrays to where the logits are.
"""
