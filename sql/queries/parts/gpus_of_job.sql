-- The number of GPUs that the job names, or 1 if it names none, even on a CPU. This is also its number of pool slots.
GREATEST(cardinality(string_to_array(spec ->> 'device', ',')), 1)
