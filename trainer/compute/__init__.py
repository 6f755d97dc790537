"""How devices compute: XLA, fused parts, lanes, peaks.

Takes functions of tensors; gives the same functions as a device does them best.
Nothing in here knows what a model is.

    compilation.py         What of a train step XLA compiles: chosen once, and
                           handed to whatever is traced
    compute_config.py      How a step is computed on the devices at hand: numbers
                           are the same to rounding
    float32.py             Numbers of a configuration as a step computes with them:
                           in float32
    fusion.py              Chains of small operations, which XLA makes one pass over
                           memory where asked to
    lanes.py               Slices of a micro-batch side by side on a CPU, each on
                           threads of its own
    merge_call.py          What all replicas do once, together: TensorFlow's
                           `maybe_merge_call`, an internal
    peak_flops.py          The peak FLOP/s of a device, which model FLOP/s
                           utilisation is measured against
    sharded_variables.py   Variables that parameter servers keep in shards;
                           TensorFlow's class is not public
"""
