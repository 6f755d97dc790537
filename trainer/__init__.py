"""TensorFlow: training, evaluation, release.

Takes a dataset and a configuration; gives a run and releases of it. The commands are
here, and nothing imports them. It knows neither Beam nor `pipelines`.

    check_release.py       Checks a release as a stock TensorFlow Serving would meet
                           it, without TensorFlow
    compare.py             The command `quern-compare`: draws the curves of several
                           runs to a PNG and a page
    doctor.py              `quern-doctor`: looks at this machine and says what to do
    evaluate.py            The command `quern-evaluate`: a run's loss, perplexity
                           and bits per byte
    export.py              quern-export: turns a run's checkpoint into a release
                           TensorFlow Serving can load
    launch.py              The command `quern-launch`: runs a group of processes
                           here, and keeps it up
    task.py                The command `quern-train`: trains a language model on a
                           dataset
    weights.py             A model in a notebook or a test: from published weights,
                           a run or a release
"""
