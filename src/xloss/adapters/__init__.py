"""What one ecosystem expects of a loss: one file each, imported by name and by nobody else.

``import xloss.adapters.keras`` brings losses for ``model.compile``, ``.torch`` modules for
``torch.nn``'s place, ``.transformers`` a loss for ``Trainer``, ``.sklearn`` a scorer. Each needs
its library; this package imports none of them.
"""
