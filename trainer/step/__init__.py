"""One update: sums, gradients, verdict.

Takes the rows of a step and the weights; gives its metrics, and changed weights.

    gradients.py           Sums of loss and gradients over the rows of one replica:
                           what devices do alone
    guard.py               The gradient guard: skips a step, on all replicas alike,
                           whose gradient is bad
    layout.py              How the rows of a step fall to replicas and micro-batches
    losses.py              The training loss, as a sum and a weight until one
                           division by the global weight
    model_with_values.py   A model called with other values of its weights: averages
                           of them, say
    step_metrics.py        What training steps measured, by the names that sums of
                           them have too
    train_step.py          One optimizer update under any strategy, and the compiled
                           loop that runs many
"""
