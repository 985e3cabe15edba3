"""The charts as ordinary bokeh figures, made in Python: on a live page or in a report."""
