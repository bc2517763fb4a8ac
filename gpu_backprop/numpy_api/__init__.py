"""What NumPy code uses and the array API standard left out: names, methods of Tensors, and NumPy's own protocols.

Thin over array_api and ops, one file a theme; signatures are NumPy's, without `out`. protocols.py gives Tensors their
methods and lets NumPy's functions take them.
"""
