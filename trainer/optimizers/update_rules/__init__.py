"""How an optimizer changes one weight.

Takes a variable, its gradient, its state and the factors of the step; changes them.
A file for each optimizer.

    adafactor.py           Adafactor: a matrix's second moments kept as one number a
                           row and one a column
    adam.py                Adam and AdamW: two moments of every weight's gradient
    factors.py             The scalars that every weight's update shares
    lion.py                Lion: the sign of a blend of momentum and gradient
    muon.py                Muon: the momentum of a matrix, made orthogonal, is its
                           step
    sgd.py                 Stochastic gradient descent, plain and with momentum
"""
