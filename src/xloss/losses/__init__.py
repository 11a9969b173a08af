"""The front desk: signatures, docstrings, arguments checked and handed on."""
