"""How fast, as ratios to the plainest way to do the same, measured in one run.

``python -m benchmarks`` prints a Markdown table. The modules ``bench_*.py`` run the same cases
at a small size under pytest, as ordinary tests, or timed with ``--benchmark-enable``.
"""
