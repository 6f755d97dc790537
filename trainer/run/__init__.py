"""A run's files.

Takes configurations and values; gives `config.json`, checkpoints and metrics, and
reads them again.

    checkpoint_files.py    Where checkpoints lie, what is beside their weights, and
                           which ones count
    checkpoint_values.py   Values of variables on disk, as `tf.train.Checkpoint`
                           writes modules with them
    checkpoint_writer.py   Saves checkpoints while training goes on, each complete
                           or invisible
    checkpoints.py         Restores checkpoints, strictly: every value's checksum,
                           every variable's name
    config.py              A run's configuration: the parts' own dataclasses,
                           composed; files and flags in
    field_types.py         Values of configuration files and texts of flags, as a
                           field's annotation wants
    interval.py            What happened between two lines of metrics
    key_list.py            Every key of a configuration with its type, value and
                           meaning, as text for people
    loop_config.py         When a run logs, evaluates, saves and ends
    metrics.py             A run's numbers: `metrics.jsonl` and TensorBoard events,
                           each step once
    overrides.py           Changes nested frozen dataclasses from files and flags,
                           refusing what is unknown
    position.py            Where a run stands, and which updates were skipped on the
                           way
    presets.py             Named configurations: what to run, on what, for how long,
                           with what result
    published_presets.py   Presets with the shapes of published decoders
    retention.py           Which checkpoints of a run are kept: the last, every so
                           many steps, and the best
    rollback.py            Rollbacks of a run: to which checkpoint, and which rows
                           are left out from then on
    run_directory.py       A run's directory: what stands in it, and who may
                           continue it
    samples_config.py      Which texts a run continues after each evaluation; apart
                           from what decodes them
    step_flag.py           The flag --step of the commands that open a run: which of
                           its checkpoints
    variable_names.py      Variables of modules by the names checkpoints give them,
                           and what does not fit
"""
