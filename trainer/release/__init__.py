"""A release made, checked and published.

Takes a run's checkpoint; gives `NAME/VERSION/`, whose answers were compared with the
trainer's.

    c_api.py               Runs a SavedModel through TensorFlow's C API, without
                           importing TensorFlow
    card.py                A model card for people, from lineage alone
    check_apart.py         Checks an unpublished release in a process that never
                           imports TensorFlow
    expected.py            What the trainer itself answers to a few requests, for
                           the release check to repeat
    huggingface.py         Writes a run's checkpoint as a directory in Hugging Face's
                           form
    huggingface_output.py  Makes a directory in Hugging Face's form visible, whole or
                           not at all
    op_lint.py             Reads a SavedModel's ops and names what a stock
                           TensorFlow Serving could not run
    publish.py             Makes a release visible under its version, whole or not
                           at all
    release.py             Writes a release: the SavedModel, and the files that
                           belong to it
    reopened.py            A release's model, out of its SavedModel's variables
    run_facts.py           What a release tells of the run it is from
    servable.py            What a release is made of: of a run's checkpoint, or of
                           published weights
    served.py              A release on a running TensorFlow Serving, for the
                           release check to ask
    session_slots.py       Drives a release's slots through the C API, with the
                           engine of batch generation
    warmup_requests.py     The requests TensorFlow Serving replays before a release
                           takes traffic
"""
