"""A run from its plan to its last step.

Takes flags and datasets; gives a trained run: sessions, evaluations, samples, reports.

    batch_layout.py        How a run's batches are laid out on the devices at hand,
                           to train and to evaluate
    dry_run.py             What `quern-train --dry_run` tells of a run before
                           anything is allocated
    evaluate_rows.py       Evaluates a model on every row of a split, once, under
                           any strategy
    evaluate_run.py        Evaluates the checkpoint of a run on a dataset, laid out
                           as training lays it out
    evaluate_stored.py     What a model loses where its weights are stored narrower,
                           on a dataset's text
    listings.py            What `quern-train --list_presets` and `--list_keys` tell,
                           wrapped for people
    make_session.py        Builds a training session: its model, step, evaluation
                           and files
    memory.py              How many bytes a run needs on a device
    outer_loop.py          The outer loop: steps, clocks and checkpoints, and
                           nothing of the model
    plan.py                Settles what a run will be before anything is built or
                           written
    profiling.py           Profiles some steps of a run for TensorBoard: `--profile
                           FIRST:LAST`
    progress.py            Shows how training goes: one line that renews itself on a
                           terminal, lines elsewhere
    published_start.py     A run that begins with published weights: what it takes
                           from them, and what fits
    report.py              Tells a run's numbers to files and to people; the chief's
                           alone
    run_rows.py            The rows a run trains on and is evaluated on, opened once
                           for all its sessions
    samples.py             Texts that the model continues after each evaluation, for
                           people to read
    stated.py              What a process states of its run, for all of them to
                           agree on before they connect
    train_run.py           Trains a planned run: claims its directory, enters it,
                           and again after rollbacks
    training_session.py    A training session: one entry into a run, from a
                           checkpoint to an end or rollback
"""
