"""How weights change.

Takes gradients that are summed and clipped; changes weights and its own state. The
warm-up and the schedule are `schedules.py`.

    optimizer.py           The optimizer: one update of all weights from reduced,
                           clipped gradients
    schedules.py           Learning rates as pure functions of the step
"""
