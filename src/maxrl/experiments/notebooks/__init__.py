"""What the notebooks and `maxrl simulate` compute and draw, where it can be tested without a browser.

toy, toy_plots   the race of estimators on a problem whose gradient is known
estimator_view   an estimator's exact weight, order and variance
run_view         a finished run's records
single_run       one training run with its before and after
plots            the notebooks' figures
flags, start     a notebook run as a script: its options, its first lines
"""
