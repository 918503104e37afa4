"""Error correction as numerics: codes, noise, decoders, calibration and resources. No I/O."""
