"""The budgets of the project, measured: `python -m tests.benchmarks [--rows B1,B4] [--json FILE]`.

The package reads downwards: `graphs` (the families), `bodies` (what a unit does), `references` and `ours` (the contenders),
`worker` (one measurement, in a fresh process), `runner` (rounds of workers, interleaved), `rows` (one function a budget row),
`table` (what is printed). It is no test: pytest leaves it out, and nothing else depends on it.
"""
