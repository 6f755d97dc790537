"""Apache Beam, and nothing of ours but what it needs.

Takes a graph and the name of a runner; gives a job that ran, and its progress.

    engine_job.py          A job that runs at an engine: sent there, followed to its
                           end, and cancelled
    execution.py           Runs a built pipeline to its end and says in one line why
                           one did not get there
    internals.py           What this project uses of Beam's insides, all in one
                           place: Apache Beam 2.77
    job_server.py          The job server that a portable runner sends its jobs to:
                           found, or started and ended
    pool_worker.py         The entry point of a worker that a pool starts: asks the
                           engine, then works
    progress.py            Progress of a job as a bar on a terminal and as plain
                           lines elsewhere
    quiet.py               Imports apache_beam without its warnings, and without
                           what a local job never uses
    runners.py             Runs a Beam graph on a runner chosen by name, never by
                           guess
    versions.py            Which Quern, Beam and Python a process has, compared before a
                           worker reads a step
    worker.py              The entry point of a local worker process: Beam's own,
                           quicker and quiet
    worker_pool.py         The pool of workers beside an engine, on machines without
                           containers
"""
