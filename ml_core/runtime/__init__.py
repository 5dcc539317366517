"""What every recipe runs on: the training loop, the device, weights, the sampler, the profiler."""
