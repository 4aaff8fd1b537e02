"""Image classification as reinforcement learning: what the estimators make of a task whose likelihood is known.

Per image N labels are drawn from the model's softmax, and a draw is rewarded where it is right. Here maximum likelihood
can be computed, as cross-entropy, and so can pass@k, as 1 − (1 − p_y)^k: an estimator can be held against the thing that it
estimates. `maxrl classify` runs it. Read in this order:

    objective.py    the loss of every arm: labels drawn, counted and weighted
    config.py       every option, from YAML and the command line
    synthetic.py    classes made on the spot, with the best that can be known of them
    images.py       a folder of pictures, and the transforms of training and evaluation
    data.py         the two behind one face
    models.py       a small residual network on vectors; ResNets
    measures.py     pass@k, top-1 and log-likelihood on the test set
    run.py          one arm with one seed: loop, checkpoints, metrics
    experiment.py   all arms with all seeds, paired
    summary.py      what the runs say together
    report.py       in words, tables and pictures (plots.py, templates/)
"""
