"""Runs drawn beside each other.

Takes the metrics of runs; gives a figure and a page.

    figure.py              Draws the curves of runs: one picture of all panels, or
                           each as SVG for a page
    page.py                The page that compares runs: one file, without scripts,
                           in light and dark
    run_curves.py          What is compared between runs: their curves, their best
                           numbers, their differences
"""
