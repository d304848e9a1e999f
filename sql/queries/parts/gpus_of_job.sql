-- The number of GPUs in the job's `device`, or 1 if it lists none, even for a CPU. The job takes as many pool slots.
GREATEST(cardinality(string_to_array(spec ->> 'device', ',')), 1)
