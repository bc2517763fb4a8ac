"""Public array functions, one file a section of the Python array API standard.

https://data-apis.org/array-api/latest/
"""
