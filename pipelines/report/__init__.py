"""The page that shows a dataset.

Takes a preparation's results; gives one HTML file with everything in it.

    charts.py              The report's pictures: bars with words beside them, and
                           columns, as inline SVG
    report.py              The dataset's report: one HTML file with everything in
                           it, to look at
"""
