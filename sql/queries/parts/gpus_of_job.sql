-- The number of GPUs that the job names, or 1 if it names none, even on a CPU: as many as its slots in the pool.
GREATEST(cardinality(string_to_array(spec ->> 'device', ',')), 1)
